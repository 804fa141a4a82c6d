"""A model as a program of torch.export (.pt2), which torch alone runs, without the code that the network is made of."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from resnet_tl.data.pixels.preprocessing import MAX_ASPECT
from resnet_tl.errors import UserError, reason_of
from resnet_tl.export.deployed import Deployed
from resnet_tl.export.facts import Facts

FACTS = "resnet_tl.json"
"""The file inside a .pt2 that says what the model is."""
Side: TypeAlias = Any
"""Of an image, in pixels: a number, or torch's symbol for one that is not known yet."""
BATCH = 32
"""Images of one size that are run together."""


class Program(nn.Module):
    """What is traced: images (N, H, W, C) uint8 to what `deployed` gives, by name.

    Of raw images it does what `Preprocessing.store` and `centre` do, by the same operator of torch, so that the pixels
    are the very same; written for sizes that are not known yet.
    """

    def __init__(self, deployed: Deployed, facts: Facts) -> None:
        super().__init__()
        self.deployed = deployed
        self.preprocessing = facts.preprocessing
        self.is_raw = facts.input == "raw"
        self.eval()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images, decoded or as the network takes them, to what the graph gives by name."""
        found = self.deployed(self._prepared(images) if self.is_raw else images)
        return dict(zip(self.deployed.output_names, found if isinstance(found, tuple) else (found,), strict=True))

    def _prepared(self, images: Tensor) -> Tensor:
        p = self.preprocessing
        if p.resize_rule == "squash":
            stored = self._resized(images, p.storage_size, p.storage_size)
        else:
            height, width = images.shape[1:3]
            short = torch.sym_min(height, width)
            kept = [torch.sym_min(side, MAX_ASPECT * short) for side in (height, width)]
            stored = self._resized(_middle(images, *kept), *(p.storage_size * side // short for side in kept))
        crop = _middle(stored, p.crop_size, p.crop_size)
        return crop if p.crop_size == p.size else self._resized(crop, p.size, p.size)

    def _resized(self, images: Tensor, height: Side, width: Side) -> Tensor:
        channels_first, how = images.permute(0, 3, 1, 2), self.preprocessing.interpolation
        return interpolate(channels_first, [height, width], mode=how, antialias=True).permute(0, 2, 3, 1)


def write_program(deployed: Deployed, facts: Facts, file: Path) -> None:
    """Writes a program and its facts; UserError for a network that torch.export cannot trace."""
    side, channels = facts.preprocessing.storage_size, facts.preprocessing.channels
    is_raw = facts.input == "raw"
    shape = (2, side + 7, 2 * side + 3, channels) if is_raw else (2, *deployed.input_shape)  # raw: no two are equal
    is_any = dict.fromkeys(range(3 if is_raw else 1), torch.export.Dim.DYNAMIC)
    try:
        with _quiet(), torch.no_grad():
            given = (torch.zeros(shape, dtype=torch.uint8),)
            program = torch.export.export(Program(deployed, facts), given, dynamic_shapes=(is_any,))
    except Exception as error:  # of any kind: the network may be anyone's
        raise UserError(
            f"The network '{deployed.network.name}' cannot be traced by torch.export: {reason_of(error)}."
        ) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # in which file of this machine it stands
    content = BytesIO()  # not the file, whose name would be in it
    with _quiet():
        torch.export.save(program, content, extra_files={FACTS: facts.to_json()})
    file.write_bytes(content.getvalue())


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
        """(n, classes) float64 of decoded images (H, W, C) uint8, or of the network's inputs (size, size, C) uint8."""
        shares = [np.empty((0, len(self.facts.classes)))]
        for _, alike in groupby(images, key=np.shape):
            same = list(alike)
            for start in range(0, len(same), BATCH):
                batch = torch.from_numpy(np.stack(same[start : start + BATCH]))
                with torch.inference_mode():
                    shares.append(self.module(batch)["probabilities"].double().numpy())
        return np.concatenate(shares)


def _middle(images: Tensor, height: Side, width: Side) -> Tensor:
    """The middle of images (N, H, W, C), at the place that `round` finds: of two equally near ones the even one.

    By numbers of rows and columns: of a slice torch.export would ask that it always is, or never is, the whole image.
    """
    for axis, side in ((1, height), (2, width)):
        spare = images.shape[axis] - side
        start = spare // 2 + spare % 4 // 3
        images = images.index_select(axis, torch.arange(side) + start)
    return images


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
