"""The images that a predictor is given, on disk or in memory: what is taken, and how each becomes a stored image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import IO, Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from PIL import Image

from resnet_tl.data.pixels.decode import BadImage, decode, header_facts, read_file, upright_pixels
from resnet_tl.data.pixels.deep import EIGHT_BITS, FULL, kind_of, to_eight_bits
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.data.reading.indexing import refuse_controls
from resnet_tl.data.reading.tables.named_images import relative
from resnet_tl.errors import UserError, reason_of

ImageInMemory: TypeAlias = bytes | bytearray | memoryview | IO[bytes] | Image.Image | np.ndarray
ImageSource: TypeAlias = str | Path | ImageInMemory
Checked: TypeAlias = Path | bytes | Image.Image | np.ndarray

# Of PIL images, which threads may share: reading one changes it. By its place in memory, so that few wait in vain.
_LOCKS = [Lock() for _ in range(64)]


def as_list(images: Any) -> list[Any]:
    """One image or several as a list; UserError for a mapping or a frame, of which it is unclear what is meant."""
    is_paths = isinstance(images, np.ndarray) and images.dtype.kind in "OU"
    single = str | Path | bytes | bytearray | memoryview | Image.Image | np.ndarray
    if isinstance(images, Mapping | pd.DataFrame):
        kind = type(images).__name__
        raise UserError(f'The images are a {kind}; give a list, such as frame["path"] or list(images.values()).')
    is_one = isinstance(images, single) or hasattr(images, "read") or not isinstance(images, Iterable)
    is_batch = isinstance(images, np.ndarray) and images.ndim == 4
    return [images] if is_one and not is_paths and not is_batch else list(images)


def checked(number: int, image: Any, is_deep: bool) -> Checked:
    """An image among those in memory, or a UserError that says what is taken; `is_deep` allows more than 8 bits."""
    found = f"of type {type(image).__name__}"
    if isinstance(image, np.ndarray):
        channels = image.shape[2:]
        is_shape = image.size and image.ndim in (2, 3) and channels in ((), (1,), (3,), (4,))
        if is_shape and (image.dtype == np.uint8 or (is_deep and image.dtype.kind in "iuf")):
            return image
        found = f"an array {image.shape} of {image.dtype}"
    elif isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    elif isinstance(image, Image.Image):
        return image
    elif isinstance(image, str | Path):
        if not Path(image).is_dir():
            return Path(image).absolute()
        found = f"the folder {image}, which can only be given among files"
    elif hasattr(image, "read"):
        try:
            content = image.getvalue() if isinstance(image, BytesIO) else image.read()
        except (OSError, ValueError) as error:  # as of one that is closed
            raise UserError(f"Image {number} cannot be read: {reason_of(error)}.") from error
        if isinstance(content, bytes):
            return content
        found += " that was opened for text"
    raise UserError(
        f"Image {number} is {found}; images are paths, PIL images, the bytes of files, or arrays (H, W) or (H, W, C) "
        "of uint8 with 1, 3 or 4 channels."
    )


def names_of(images: Sequence[Checked]) -> list[str]:
    """By which images in memory and files among them are known: their places, and paths below the current folder."""
    here = Path.cwd()
    names = [
        relative(str(image), here) if isinstance(image, Path) else str(place) for place, image in enumerate(images)
    ]
    refuse_controls(here, "a file named", names)
    return names


def stored_image(image: Checked, planned: Preprocessing) -> tuple[torch.Tensor, bool]:
    """The stored image (C, h, w) uint8, and whether it has more than 8 bits of which the model knows no range.

    Threads may share an image. BadImage says why it cannot be used.
    """
    path = image if isinstance(image, Path) else None
    if isinstance(image, Image.Image):
        with _lock_of(image):
            image = _file_of(image) or image
    content = read_file(image) if isinstance(image, Path) else image
    if isinstance(content, bytes):
        is_unknown = planned.value_range is None and header_facts(content)[2] != EIGHT_BITS
        try:
            pixels = decode(content, planned.channels, planned.storage_size, planned.value_range)
        except BadImage as error:
            raise BadImage(error.reason, path) from None
    else:
        pixels, is_unknown = _pixels_of(content, planned)
    return planned.store(pixels), is_unknown


def _pixels_of(image: Image.Image | np.ndarray, planned: Preprocessing) -> tuple[np.ndarray, bool]:
    """Upright pixels of an image that is no file, and whether the range of its values is unknown."""
    try:
        if isinstance(image, np.ndarray):
            values = image.squeeze(2) if image.shape[2:] == (1,) else image
            is_deep = values.dtype != np.uint8
            image = to_eight_bits(values, planned.value_range or FULL) if is_deep else Image.fromarray(values)
        with _lock_of(image):
            is_unknown = planned.value_range is None and kind_of(image) != EIGHT_BITS
            return upright_pixels(image, planned.channels, planned.value_range), is_unknown
    except (BadImage, MemoryError):
        raise
    except Exception as error:  # of a file that Pillow reads only now: whatever its parsing meets
        raise BadImage(f"cannot be decoded: {reason_of(error)}") from error


def _lock_of(image: Image.Image) -> Lock:
    return _LOCKS[id(image) // 64 % len(_LOCKS)]


def _file_of(image: Image.Image) -> bytes | None:
    """The file of an image that Pillow has opened and not read yet, so that it is decoded like any file."""
    file = getattr(image, "fp", None)
    if file is None or not getattr(image, "tile", None) or image.tell() != 0:
        return None
    try:
        place = file.tell()
        file.seek(0)
        content = file.read()
        file.seek(place)
    except (OSError, ValueError, AttributeError):  # closed, or no file
        return None
    return content if header_facts(content)[:2] == image.size else None  # else it is to be read in part
