"""Thumbnails by which images are compared: small, grey, taken from pixels that are decoded anyway."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image

SIDE = 16
_GRID = 48
"""Of a larger image only every n-th pixel is read, at least so many a side: in a tenth of the time, as good a mean."""
MIN_CONTRAST = 4.0
"""Standard deviation, in levels of 255, below which a thumbnail shows nothing that could be compared."""


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """The means of 16 x 16 fields of decoded pixels (H, W, C) uint8, as grey, (16, 16) uint8."""
    step = max(1, min(pixels.shape[:2]) // _GRID)
    some = pixels[::step, ::step]
    grey = (some[..., 0] >> 2) + (some[..., 1] >> 1) + (some[..., 2] >> 2) if some.shape[2] > 1 else some[..., 0]
    # Two small products, in a third of the time that Pillow takes to make and read an image.
    means = _averaging(grey.shape[0]) @ grey.astype(np.float32) @ _averaging(grey.shape[1]).T
    return (means + 0.5).astype(np.uint8)


@lru_cache(maxsize=1024)
def _averaging(length: int) -> np.ndarray:
    """The matrix (16, length) that takes the means of 16 equal parts; a pixel between two parts counts in both."""
    edges = np.arange(SIDE + 1) * length / SIDE
    pixels = np.arange(length)
    shares = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.maximum(shares, 0) * SIDE / length).astype(np.float32)


def shrunk(grey: np.ndarray, side: int) -> np.ndarray:
    """Grey pixels (H, W) uint8, C-contiguous, as the means of side x side fields, (side, side) uint8."""
    image = Image.frombuffer("L", grey.shape[::-1], grey, "raw", "L", 0, 1)  # in half the time of Image.fromarray
    return np.asarray(image.resize((side, side), Image.Resampling.BOX))


def contrast(thumbnails: np.ndarray) -> np.ndarray:
    """The standard deviation of each thumbnail (N, h, w), (N,) float32 in levels of 255."""
    return thumbnails.std(axis=(1, 2), dtype=np.float32)


def extent(thumbnails: np.ndarray) -> np.ndarray:
    """The share of its area on which each thumbnail (N, h, w) shows something, (N,) from 0 to 1; a photo has a third.

    The participation ratio (sum d^2)^2 / sum d^4 of the deviations d from the mean, by the number of pixels.
    """
    squares = _centred(thumbnails) ** 2
    return squares.sum(axis=1) ** 2 / np.maximum((squares**2).sum(axis=1), 1e-9) / squares.shape[1]


def directions(thumbnails: np.ndarray) -> np.ndarray:
    """Thumbnails (N, h, w) as unit vectors (N, h w) float32, whose inner products are the correlations."""
    vectors = _centred(thumbnails)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def _centred(thumbnails: np.ndarray) -> np.ndarray:
    flat = thumbnails.reshape(len(thumbnails), np.prod(thumbnails.shape[1:])).astype(np.float32)
    return flat - flat.mean(axis=1, keepdims=True)
