"""What is unusual about an image file, seen while it is decoded."""

from __future__ import annotations

from enum import IntFlag

from PIL import Image

from resnet_tl.data.pixels.decode import orientation_of

FORMATS = ("", "JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""The formats that are decoded; the first one stands for a file that was not."""
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
}
_SIXTEEN_BITS = 16
_PNG_DEPTH = 24
"""Where a PNG file says how many bits a sample has; Pillow hides it for RGB."""


class Trait(IntFlag):
    """What a file may be beside eight bits of red, green and blue that lie upright."""

    ROTATED = 1
    GREY = 2
    PALETTE = 4
    CMYK = 8
    SIXTEEN_BIT = 16
    ALPHA = 32
    ANIMATED = 64


def traits_of(image: Image.Image, content: bytes) -> Trait:
    """The traits of an opened image and the bytes it was opened from; what cannot be told counts as absent."""
    traits = Trait(0)
    mode = image.mode
    if orientation_of(image) not in (0, 1):
        traits |= Trait.ROTATED
    if mode in ("1", "L", "LA", "La") or mode.startswith(("I", "F")):
        traits |= Trait.GREY
    if mode in ("P", "PA") and image.format != "GIF":  # a GIF is never anything else
        traits |= Trait.PALETTE
    if mode == "CMYK":
        traits |= Trait.CMYK
    is_deep_png = image.format == "PNG" and content[_PNG_DEPTH : _PNG_DEPTH + 1] == bytes([_SIXTEEN_BITS])
    if is_deep_png or mode.startswith(("I", "F")):
        traits |= Trait.SIXTEEN_BIT
    if image.has_transparency_data:
        traits |= Trait.ALPHA
    if _is_animated(image):
        traits |= Trait.ANIMATED
    return traits


def format_number(image: Image.Image) -> int:
    """The place of an opened image's format in `FORMATS`."""
    name = "JPEG" if image.format == "MPO" else image.format  # a JPEG with a second picture behind it
    return FORMATS.index(name) if name in FORMATS else 0


def contradicts(path: str, number: int) -> bool:
    """Whether the suffix of `path` names another format than that of number `number`."""
    return number > 0 and path[path.rfind(".") :].lower() not in _SUFFIXES[FORMATS[number]]


def _is_animated(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False)) and image.format != "MPO"
    except Exception:  # the second frame is damaged: nobody will look at it
        return True
