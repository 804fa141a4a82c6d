"""A model as a program of torch.export (.pt2), which torch alone runs, without the code that the network is made of."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from resnet_tl.data.pixels.preprocessing import MAX_ASPECT, Preprocessing
from resnet_tl.errors import UserError, reason_of
from resnet_tl.export.deployed import Deployed
from resnet_tl.export.facts import Facts, InputKind

if TYPE_CHECKING:
    from torch.export import ExportedProgram

FACTS = "resnet_tl.json"
"""The file inside a .pt2 that says what the model is."""
BATCH = 32
"""Images of one size that are run together."""


class FromRawImages(nn.Module):
    """Images (N, H, W, C) uint8 of any size -> what `Deployed` gives of what it is to see of them.

    What `Preprocessing.store` and `centre` do, by the same operator of torch, so that the pixels are the very same;
    written for sizes that are not known when it is traced.
    """

    def __init__(self, deployed: Deployed, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.deployed = deployed
        self.preprocessing = preprocessing
        self.eval()

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Images (N, H, W, C) uint8 -> probabilities (N, classes), features (N, F) where `deployed` gives them."""
        p = self.preprocessing
        if p.resize_rule == "squash":
            stored = _resized(images, p.storage_size, p.storage_size, p.interpolation)
        else:
            height, width = images.shape[1:3]
            short = torch.sym_min(height, width)
            kept = [torch.sym_min(side, MAX_ASPECT * short) for side in (height, width)]
            images = _middle(images, *kept)
            stored = _resized(images, *(p.storage_size * side // short for side in kept), p.interpolation)
        crop = _middle(stored, p.crop_size, p.crop_size)
        return self.deployed(crop if p.crop_size == p.size else _resized(crop, p.size, p.size, p.interpolation))


def write_program(deployed: Deployed, facts: Facts, file: Path) -> None:
    """Writes a program and its facts; UserError for a network that torch.export cannot trace."""
    planned = facts.preprocessing
    any_number = torch.export.Dim.DYNAMIC
    if facts.input == "raw":
        module: nn.Module = FromRawImages(deployed, planned)
        shape = (2, planned.storage_size + 7, 2 * planned.storage_size + 3, planned.channels)  # none equal, none fixed
        dynamic = {0: any_number, 1: any_number, 2: any_number}
    else:
        module, shape, dynamic = deployed, (2, *deployed.input_shape), {0: any_number}
    try:
        with _quiet(), torch.no_grad():
            given = (torch.zeros(shape, dtype=torch.uint8),)
            program = torch.export.export(module, given, dynamic_shapes=(dynamic,))
    except Exception as error:  # of any kind: the network may be anyone's
        raise UserError(
            f"The network '{deployed.network.name}' cannot be traced by torch.export: {reason_of(error)}."
        ) from error
    _forget_files(program)
    with _quiet():
        torch.export.save(program, file, extra_files={FACTS: facts.to_json()})


class TorchProgram:
    """A file of `write_program`, read from the disk and run by torch on the CPU."""

    def __init__(self, path: Path) -> None:
        self.path = path
        extra = {FACTS: ""}
        with _quiet():
            self.module = torch.export.load(path, extra_files=extra).module()
        self.facts = Facts.from_json(extra[FACTS], path)

    @property
    def runtime(self) -> str:
        """Name and version of what runs it."""
        return f"torch.export {torch.__version__}"

    def probabilities(self, images: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """(n, classes) float64 of decoded images (H, W, C) uint8, or of network's inputs (size, size, C) uint8."""
        shares = [np.empty((0, len(self.facts.classes)))]
        for _, alike in groupby(images, key=np.shape):
            same = list(alike)
            for start in range(0, len(same), BATCH):
                batch = torch.from_numpy(np.stack(same[start : start + BATCH]))
                with torch.inference_mode():
                    found = self.module(batch)
                shares.append((found[0] if isinstance(found, tuple) else found).double().numpy())
        return np.concatenate(shares)


def _middle(images: Tensor, height: int, width: int) -> Tensor:
    """The middle of images (N, H, W, C), to be the same place as `round` finds, which takes the even one of two.

    By numbers of rows and columns: of a slice, torch.export would ask that it is not the whole image, or always is.
    """
    for axis, side in ((1, height), (2, width)):
        spare = images.shape[axis] - side
        start = spare // 2 + spare % 4 // 3
        images = images.index_select(axis, torch.arange(side) + start)
    return images


def _resized(images: Tensor, height: int, width: int, interpolation: str) -> Tensor:
    """Images (N, H, W, C) in another size; those that have it already stay what they are."""
    return interpolate(images.permute(0, 3, 1, 2), (height, width), mode=interpolation, antialias=True).permute(
        0, 2, 3, 1
    )


def _forget_files(program: ExportedProgram) -> None:
    """Takes out in which file of this machine each operation stands."""
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch.export says of its own work."""
    logger = logging.getLogger("torch.export")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
