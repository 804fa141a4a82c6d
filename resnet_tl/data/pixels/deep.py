"""Pixels of more than 8 bits: which images have them, their values as stored, and how these become 8 bits."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, TiffImagePlugin

ValueRange: TypeAlias = tuple[float, float]
"""The values that become 0 and 255."""

EIGHT_BITS, INTEGERS, FLOATS = 0, 1, 2
"""The kinds of values that an image may have."""

FULL: ValueRange = (0.0, 65535.0)
"""Of 16 bits."""

ROWS = 64
"""That are computed with at a time: as floats they take eight times the room."""


def kind_of(image: Image.Image) -> int:
    """What kind of values an opened image has, by its header alone."""
    if image.mode.startswith("F"):
        return FLOATS
    return INTEGERS if image.mode.startswith("I") or is_deep_colour(image) else EIGHT_BITS


def is_deep_colour(image: Image.Image) -> bool:
    """Whether an image that is not loaded yet has 16 bits for each colour, of which Pillow keeps 8."""
    return bool(image.mode in ("RGB", "RGBA") and (_is_plane_of_16_bits(image) or ";16" in _layout(image)))


def colour_values(reopen: Callable[[], Image.Image]) -> np.ndarray:
    """The colours as stored, (H, W, C) uint16, with C 3, or 4 where the last one is alpha.

    Pillow has no mode of so many bits, but can be told which of the two bytes to keep: the image is read twice.
    Grey with alpha comes as three equal colours. `reopen` gives the image, not loaded.

    Raises:
        ValueError: Pillow has no way to give the lower byte.
    """
    layout = _layout(reopen())
    if layout.startswith("LA;16"):  # four bytes to a pixel, and read as such
        four = np.asarray(_loaded(reopen(), "RGBA"), np.uint16)
        grey, alpha = four[..., 0] << 8 | four[..., 1], four[..., 2] << 8 | four[..., 3]
        return np.stack([grey, grey, grey, alpha], axis=-1)
    is_compressed_plane = _is_plane_of_16_bits(reopen()) and layout != "R"  # libtiff ignores what we ask for
    if is_compressed_plane or layout.partition(";")[0] not in ("RGB", "RGBA", "RGBX", "R"):
        raise ValueError("Pillow reads only 8 of the 16 bits of its colours; save it as a 16-bit PNG")
    values = np.asarray(_byte_of(reopen(), is_high=True)).astype(np.uint16)
    values <<= 8
    values |= np.asarray(_byte_of(reopen(), is_high=False))
    return values


def to_eight_bits(values: np.ndarray, value_range: ValueRange) -> Image.Image:
    """Grey (H, W) or colours (H, W, C) of any number type as an image of 8 bits: scaled, clipped and rounded.

    An alpha channel is no colour: its 65535 is opaque whatever the range.
    """
    eight = _scaled(values, value_range)
    if values.ndim == 3 and values.shape[2] == 4:
        eight[..., 3] = _scaled(values[..., 3], FULL)
    return Image.fromarray(eight)


def _scaled(values: np.ndarray, value_range: ValueRange) -> np.ndarray:
    """Values of any shape as uint8."""
    low, high = value_range
    eight = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), ROWS):
        rows = values[start : start + ROWS].astype(np.float64)
        eight[start : start + ROWS] = np.rint(np.clip((rows - low) * (255 / (high - low)), 0, 255))
    return eight


def range_of_one(values: np.ndarray, kind: int) -> ValueRange | None:
    """The smallest usual range that holds all values of a single image, for which no range was found or set.

    0 to 1 (floats only), 0 to 255 (32 bits only) or 0 to 65535; None where there is no such one.
    """
    if values.dtype.itemsize == 2:
        return FULL
    low, high = float(values.min()), float(values.max())
    usual = [(0.0, 1.0)] if kind == FLOATS else []
    return next((one for one in [*usual, (0.0, 255.0), FULL] if one[0] <= low and high <= one[1]), None)


def _layout(image: Image.Image) -> str:
    """Pillow's word for how the pixels lie in the file, such as `RGB;16B`; "" where there is none."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0].args if tiles else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments or "")


def _is_plane_of_16_bits(image: Image.Image) -> bool:
    """A TIFF that holds one colour after the other, which Pillow would take for 8 bits where it is not compressed."""
    is_planar = isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(284) == 2
    return is_planar and max(image.tag_v2.get(258, (8,))) == 16  # type: ignore[attr-defined]


def _byte_of(image: Image.Image, is_high: bool) -> Image.Image:
    """The higher or the lower byte of each colour."""
    order = _layout(image).partition(";16")[2]
    if _is_plane_of_16_bits(image):
        order = "L" if image.tag_v2.prefix == b"II" else "B"  # type: ignore[attr-defined]
    if order == "N":
        order = sys.byteorder[0].upper()
    return _loaded(image, f"*;16{order if is_high else {'L': 'B', 'B': 'L'}[order]}")


def _loaded(image: Image.Image, layout: str) -> Image.Image:
    """The image, read as if its pixels lay otherwise; `*` stands for the colours that each part of it has."""

    def changed(arguments: Any) -> Any:
        if isinstance(arguments, tuple):
            return (changed(arguments[0]), *arguments[1:])
        return layout.replace("*", arguments.partition(";")[0])

    image.tile = [tile._replace(args=changed(tile.args)) for tile in image.tile]  # type: ignore[attr-defined]
    image.load()
    return image
