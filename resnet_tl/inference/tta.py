"""Test-time augmentation: a prediction as the mean of the logits over several views of an image, decoded once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias, get_args

import torch

from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.errors import UserError, listed, nearest

Tta: TypeAlias = Literal["mirror", "dihedral", "crops"]
KINDS: tuple[str, ...] = get_args(Tta)


def check_tta(kind: str | None, preprocessings: Iterable[Preprocessing]) -> None:
    """Raises UserError for a word that is none of `KINDS`, and for crops that would all be the same; None is none."""
    if kind is not None and kind not in KINDS:
        raise UserError(f"--tta is '{kind}'; it must be {listed(KINDS[:-1])} or {KINDS[-1]}.{nearest(kind, KINDS)}")
    if kind == "crops" and any(planned.crop_size == planned.storage_size for planned in preprocessings):
        raise UserError(
            "--tta crops has no effect, for a model sees the whole of each square image; take mirror or dihedral."
        )


def views(images: torch.Tensor, kind: Tta | None) -> Iterator[torch.Tensor]:
    """The views of a batch as the network's inputs, each (N, C, H, W) uint8; the first is the image as without.

    `mirror` is the image and its mirror image, `dihedral` its eight flips and quarter turns; `images` are
    (N, C, H, W) uint8, or for `crops` the `crops` of each, (N, crops, C, H, W).
    """
    if kind == "crops":
        yield from images.unbind(1)
        return
    for turn in range(4 if kind == "dihedral" else 1):
        turned = torch.rot90(images, turn, (2, 3)) if turn else images
        yield turned
        if kind is not None:
            yield torch.flip(turned, (3,))


def crops(preprocessing: Preprocessing, image: torch.Tensor) -> list[torch.Tensor]:
    """The centre and the corners of a stored image (C, h, w) uint8 as the network's inputs, (C, size, size) uint8.

    Krizhevsky et al. 2012, ImageNet classification with deep convolutional neural networks, section 4.1.
    """
    side, size = preprocessing.crop_size, preprocessing.size
    bottom, right = (length - side for length in image.shape[1:])
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right)]
    parts = [image[:, top : top + side, left : left + side] for top, left in corners]
    return [preprocessing.centre(image), *(preprocessing.resize(part, size, size) for part in parts)]
