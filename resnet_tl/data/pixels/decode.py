"""From the bytes of an image file to upright 8-bit pixels, or one plain reason why not."""

from __future__ import annotations

import logging
import os
import stat
import warnings
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from threading import Lock

import numpy as np
import PIL
from PIL import Image

from resnet_tl.data.pixels import deep
from resnet_tl.data.pixels.deep import ValueRange
from resnet_tl.data.pixels.formats import FORMATS, HEIF_READER, SIGNATURES
from resnet_tl.data.pixels.reasons import cause, foreign
from resnet_tl.errors import UserError, printable

DECODER = f"pillow {PIL.__version__}, {HEIF_READER}".removesuffix(", ")
MAX_PIXELS = 250_000_000
"""Larger images are refused, for a file of a few kilobytes can claim any size (a decompression bomb)."""
MAX_BYTES = 1 << 30
"""Larger files are refused without reading them: no image of `MAX_PIXELS` that is compressed at all comes to this."""
LARGE_PIXELS = 40_000_000
"""From here on images are decoded one at a time: each takes up to 20 bytes a pixel, and there are many threads."""

SPARE = 3
"""How many times the wanted short side a JPEG must still have when it is decoded at a fraction of its size: then it
differs by 0.2 levels of 255 in the mean (0.7 with 2, 2.3 with 1), in less than half the time; 4 is no better."""

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNED = range(5, 9)  # orientations that exchange width and height
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_one_at_a_time = Lock()

# Done once at import, since changing the filters around a call (catch_warnings) is not safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())  # else its errors go to stderr where no logging is set up
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow refuses at twice this number
Image.preinit()  # registers the common readers now, not in the first call of each thread


class BadImage(UserError):
    """An image that cannot be decoded; `path` is None for bytes, `reason` continues the sentence "The image ..."."""

    def __init__(self, reason: str, path: Path | None = None) -> None:
        super().__init__(reason, path)  # both, so that it survives the way out of a worker process
        self.reason = reason
        self.path = path

    def __str__(self) -> str:
        unnamed = "The file" if self.reason.startswith("is not an image") else "The image"
        return printable(f"{self.path or unnamed} {self.reason}.")


def decode(
    source: str | Path | bytes,
    channels: int = 3,
    short_side: int | None = None,
    value_range: ValueRange | None = None,
) -> np.ndarray:
    """Decodes an image file (a path) or its content (bytes) to upright pixels; safe to call from many threads.

    The formats of `formats.py`, the first frame. EXIF orientation is applied, ICC profiles are not. For 1 or 3 channels
    transparency is laid on white.

    Args:
        source: A path or the bytes of a file.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).
        short_side: What the caller will shrink the short side to, in pixels. A JPEG that is much larger is then decoded
            at 1/2, 1/4 or 1/8 of its size; at least `SPARE` times `short_side` is left to shrink.
        value_range: of images of more than 8 bits, the values that become 0 and 255; what lies beyond is clipped.
            Without it each image is taken by itself: 16 bits as 0 to 65535; 32 bits as 0 to 1 (floats only), 0 to 255
            or 0 to 65535, the smallest range that holds them.

    Returns:
        (H, W, channels) uint8, C-contiguous and writable.

    Raises:
        BadImage: the file is missing, empty, truncated, no image, or larger than `MAX_PIXELS`.
    """
    return decode_with_size(source, channels, short_side, value_range)[0]


def decode_with_size(
    source: str | Path | bytes,
    channels: int = 3,
    short_side: int | None = None,
    value_range: ValueRange | None = None,
) -> tuple[np.ndarray, tuple[int, int]]:
    """As `decode`, with the width and height of the whole upright image, which the pixels may be a fraction of."""
    if channels not in _MODES:
        raise ValueError(f"channels is {channels}; it must be 1, 3 or 4.")
    path = None if isinstance(source, bytes) else Path(source)
    content = source if isinstance(source, bytes) else read_file(source)
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            whole = image.size
            if whole[0] * whole[1] > MAX_PIXELS:  # should someone have lifted Pillow's limit
                raise Image.DecompressionBombError
            if short_side is not None:
                image.draft(image.mode, (SPARE * short_side, SPARE * short_side))  # for a JPEG; others ignore it
            is_part = image.size != whole
            with _one_at_a_time if image.width * image.height >= LARGE_PIXELS else nullcontext():
                pixels = upright_pixels(image, channels, value_range, content)
    except BadImage as error:
        raise BadImage(error.reason, path) from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers raise whatever their parsing meets: OSError, SyntaxError, KeyError
        raise BadImage(_reason(content, error), path) from error
    if not is_part:
        whole = pixels.shape[1], pixels.shape[0]
    elif orientation_of(image) in _TURNED:
        whole = whole[::-1]
    return pixels, whole


def upright_pixels(
    image: Image.Image, channels: int, value_range: ValueRange | None = None, content: bytes = b""
) -> np.ndarray:
    """The pixels of an opened image as `decode` gives them, (H, W, channels) uint8; raises whatever Pillow meets.

    `content` is its file, in which Pillow has colours of more than 8 bits read again.
    """
    is_deep_colour = content and deep.is_deep_colour(image)
    image.load()
    orientation = orientation_of(image)
    if is_deep_colour or deep.kind_of(image) != deep.EIGHT_BITS:
        image = _of_eight_bits(image, value_range, content if is_deep_colour else b"")
    upright = image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image
    pixels = np.array(_convert(upright, _MODES[channels]))
    return pixels.reshape(*pixels.shape[:2], channels)


def deep_values(content: bytes) -> np.ndarray:
    """The values of an image of more than 8 bits as its file has them: (H, W), or colours (H, W, C) uint16.

    Raises:
        Exception: of any kind, as Pillow's: `decode` says what is wrong.
    """
    with Image.open(BytesIO(content), formats=FORMATS) as image:
        if not deep.is_deep_colour(image):
            return _finite(np.asarray(image))
    return deep.colour_values(lambda: Image.open(BytesIO(content), formats=FORMATS))


def read_file(path: str | Path) -> bytes:
    """The bytes of a file; a BadImage says why it cannot be read, or that it is larger than `MAX_BYTES`."""

    def without_waiting(path: str, flags: int) -> int:  # for whoever may write into a pipe
        return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))

    try:
        with open(path, "rb", opener=without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BadImage("is not a regular file", Path(path))
            if status.st_size > MAX_BYTES:
                raise BadImage(f"has {status.st_size / 1e6:,.0f} MB; the limit is {MAX_BYTES / 1e6:,.0f}", Path(path))
            return file.read()
    except OSError as error:
        raise BadImage(f"cannot be read: {error.strerror}", Path(path)) from error


def header_facts(content: bytes) -> tuple[int, int, int]:
    """Width, height (as stored, not upright) and kind of values by the header of a file; zeros if it has none."""
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            return *image.size, deep.kind_of(image)
    except Exception:  # decoding will say what is wrong
        return 0, 0, deep.EIGHT_BITS


def orientation_of(image: Image.Image) -> int:
    """How its EXIF block says that the image lies, 1 for upright; a block that cannot be read counts as none."""
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:
        return 1


def _of_eight_bits(image: Image.Image, value_range: ValueRange | None, content: bytes) -> Image.Image:
    """An image of more than 8 bits by the range of its values; `content` is the file of one in colour."""
    values = deep_values(content) if content else _finite(np.asarray(image))
    chosen = value_range or deep.range_of_one(values, deep.kind_of(image))
    if chosen is None:
        raise BadImage(
            f"has {values.dtype.itemsize * 8}-bit pixels from {values.min():g} to {values.max():g}, whose scale is "
            "unknown; store it in 8 or 16 bits"
        )
    return deep.to_eight_bits(values, chosen)


def _finite(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise BadImage("holds values that are no finite numbers (NaN or infinity); put others in their place")
    return values


def _convert(image: Image.Image, mode: str) -> Image.Image:
    """Converts to `mode` (L, RGB or RGBA) without losing what transparency means."""
    if image.mode == "La":
        image = image.convert("LA")  # premultiplied grey has no direct way to RGBA
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if mode != "RGBA":
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == mode else image.convert(mode)


def _reason(content: bytes, error: Exception) -> str:
    """What is wrong with `content`, as the end of a sentence."""
    if not content:
        return "is empty"
    if isinstance(error, Image.DecompressionBombError):
        return f"has more than {MAX_PIXELS / 1e6:.0f} megapixels, the limit"
    return cause(content, error) if SIGNATURES.match(content) else foreign(content)
