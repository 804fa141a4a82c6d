"""What leaves a class unchanged: mirroring, or all flips and quarter turns, drawn for an image's view and done."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch

from resnet_tl.data.draws import Purpose, uniform

Symmetry = Literal["none", "mirror", "dihedral"]
SYMMETRIES: tuple[str, ...] = get_args(Symmetry)

MIRRORED, UPSIDE_DOWN, TRANSPOSED = 1, 2, 4
"""An orientation is a sum of these; the transposition comes first. 0 is the image as it is."""
ORIENTATIONS = 8
"""The square's symmetry group: four turns, and each of them mirrored."""

_FLIPS = {MIRRORED: (3,), UPSIDE_DOWN: (2,), MIRRORED + UPSIDE_DOWN: (2, 3)}  # and their axes in (N, C, H, W)


def draw_orientations(symmetry: Symmetry, seed: int, view: int, rows: np.ndarray) -> np.ndarray:
    """The orientations (N,) int64 of a view of some rows, each as likely as another."""
    if symmetry == "none":
        return np.zeros(len(rows), np.int64)
    numbers = uniform(seed, view, rows, Purpose.FLIP, 1)[:, 0]
    if symmetry == "mirror":
        return np.where(numbers < 0.5, MIRRORED, 0)
    return (numbers * ORIENTATIONS).astype(np.int64)


def orient(images: torch.Tensor, orientations: np.ndarray) -> None:
    """Gives each of the square images (N, C, size, size) uint8, channels last, its orientation, in place."""
    pixels = images.permute(0, 2, 3, 1).numpy()
    for position in np.flatnonzero(orientations):
        orientation = int(orientations[position])
        if orientation < TRANSPOSED:  # torch's way to flip is the fastest, and it turns slowly
            image = images[position : position + 1]
            image.copy_(torch.flip(image, _FLIPS[orientation]))
            continue
        image, turned = pixels[position], pixels[position].copy().transpose(1, 0, 2)
        if orientation & MIRRORED:
            turned = turned[:, ::-1]
        if orientation & UPSIDE_DOWN:
            turned = turned[::-1]
        for channel in range(image.shape[-1]):  # plane by plane: all at once takes five times as long
            image[..., channel] = turned[..., channel]
