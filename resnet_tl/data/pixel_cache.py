"""Decoded and resized images kept in memory, so that an epoch does not decode again what an earlier one did."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import torch

CAPACITY = 1 << 30
"""Bytes of pixels that are kept: CIFAR-10 takes 150 MB, 2500 photos of 256 px about 600 MB."""


class PixelCache:
    """Remembers stored images (C, h, w) uint8 by row, the first ones that fit; safe to call from threads.

    Decoding is a pure function of the row, so that what is remembered can change no result.

    Args:
        capacity: in bytes of pixels; the rows that do not fit are made anew each time.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.free = capacity
        self.images: dict[int, torch.Tensor] = {}
        self.lock = Lock()

    def __call__(self, row: int, make: Callable[[int], torch.Tensor]) -> torch.Tensor:
        """The image of a row, which `make` decodes and resizes where it is not kept."""
        image = self.images.get(row)
        if image is None:
            image = make(row)
            with self.lock:
                if image.nbytes <= self.free and row not in self.images:
                    self.images[row] = image
                    self.free -= image.nbytes
        return image
