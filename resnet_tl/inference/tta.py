"""Test-time augmentation: a prediction as the mean over several views of an image that was decoded once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch

from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.data.samples import ImageSamples
from resnet_tl.errors import UserError, listed, nearest

Tta: TypeAlias = Literal["mirror", "dihedral", "crops"]
KINDS: tuple[str, ...] = get_args(Tta)


def check_tta(kind: str | None) -> None:
    """Raises UserError for a word that is none of `KINDS`; None is without test-time augmentation."""
    if kind is not None and kind not in KINDS:
        raise UserError(f"--tta is '{kind}'; it must be {listed(KINDS[:-1])} or {KINDS[-1]}.{nearest(kind, KINDS)}")


def views(images: torch.Tensor, kind: Tta | None) -> Iterator[torch.Tensor]:
    """The views of a batch as the network's inputs, each (N, C, H, W) uint8; the first is the image itself.

    `images` are (N, C, H, W) uint8, or for `crops` what `CropSamples` gives. `mirror` is the image and its mirror
    image, `dihedral` its eight flips and quarter turns, `crops` each crop and its mirror image.
    """
    looks = images.unbind(1) if kind == "crops" else [images]
    turns = range(4 if kind == "dihedral" else 1)
    for look in looks:
        for turn in turns:
            turned = torch.rot90(look, turn, (2, 3)) if turn else look
            yield turned
            if kind is not None:
                yield torch.flip(turned, (3,))


class CropSamples(ImageSamples):
    """The crops of samples' stored images: batches (N, crops, C, size, size) uint8."""

    def __init__(self, samples: ImageSamples) -> None:
        super().__init__(samples.index, samples.preprocessing)
        self.samples = samples

    def stored(self, row: int) -> torch.Tensor:
        return self.samples.stored(row)

    def empty(self, number: int, size: int | None = None) -> torch.Tensor:
        return super().empty(number * CROPS, size).unflatten(0, (number, CROPS))

    def write(self, rows: np.ndarray, view: int, out: torch.Tensor) -> None:
        for row, targets in zip(rows.tolist(), out, strict=True):
            for crop, target in zip(crops(self.preprocessing, self.stored(row)), targets, strict=True):
                target.permute(1, 2, 0).numpy()[:] = crop.permute(1, 2, 0).numpy()


CROPS = 2


def crops(preprocessing: Preprocessing, image: torch.Tensor) -> list[torch.Tensor]:
    """The crops of a stored image (C, h, w) uint8 as the network's inputs, each (C, size, size) uint8."""
    return [preprocessing.centre(image), preprocessing.resize(image, preprocessing.size, preprocessing.size)]
