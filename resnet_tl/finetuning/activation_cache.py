"""The activation cache: what the frozen stages give for each image and view, computed once and kept."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from resnet_tl import __version__, cache
from resnet_tl.data.pixels.decode import DECODER
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.networks.frozen import Activation, FrozenStages
from resnet_tl.terminal import counted

ActivationCacheMode = Literal["auto", "on", "off"]
ON_DEVICE = 256 << 20
"""A table up to this many bytes is held in memory; on a GPU, up to a quarter of what is free there."""
SPECS = "specs.json"
COMPUTED_BY = ("torch", "torchvision", "timm", "numpy")
Compute: TypeAlias = Callable[[np.ndarray], Iterable[tuple[np.ndarray, Activation]]]


@dataclass(frozen=True)
class ActivationSpec:
    """One tensor of what the frozen stages give for one image."""

    # (C, H, W) of maps, kept in the order (H, W, C) as channels_last tensors are; (F,) of features
    shape: tuple[int, ...]
    dtype: str  # torch's name, such as `bfloat16`: the type it was computed in, so that nothing is lost

    @property
    def type(self) -> torch.dtype:
        return getattr(torch, self.dtype)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.type.itemsize


class ActivationTable:
    """The activations of some rows: `table[rows]` gives those of a batch, (N, ...) or a tuple of such.

    Args:
        rows: in ascending order, (n,) int64.
        tensors: of all of them, (n, F), or (n, H, W, C) for maps.
    """

    def __init__(self, rows: np.ndarray, tensors: tuple[Tensor, ...]) -> None:
        self.rows = rows
        self.tensors = tensors

    def __getitem__(self, rows: np.ndarray) -> Activation:
        positions = torch.from_numpy(np.searchsorted(self.rows, rows)).to(self.tensors[0].device, non_blocking=True)
        parts = tuple(_channels_first(tensor[positions]) for tensor in self.tensors)
        return parts[0] if len(parts) == 1 else parts

    def put(self, rows: np.ndarray, activation: Activation) -> None:
        """Fills in some rows."""
        positions = torch.from_numpy(np.searchsorted(self.rows, rows))
        for tensor, part in zip(self.tensors, _parts(activation), strict=True):
            tensor[positions] = _channels_last(part).to(tensor.device)

    def to(self, device: torch.device) -> ActivationTable:
        """The table on the device, where it is small enough to be held there; else itself."""
        room = torch.cuda.mem_get_info(device)[0] // 4 if device.type == "cuda" else ON_DEVICE
        if sum(tensor.nbytes for tensor in self.tensors) > room:
            return self
        # Out of the memory map: it would be read again page by page.
        return ActivationTable(self.rows, tuple(tensor.clone().to(device) for tensor in self.tensors))


@dataclass(frozen=True)
class LocalRanks:
    """The processes of one machine, which fill a table together."""

    rank: int = 0  # this process among those of its machine
    world: int = 1  # how many they are
    # Gives every process of the machine what its first one puts in; a collective of all machines
    exchange: Callable[[Any], Any] = lambda value: value
    barrier: Callable[[], None] = lambda: None  # waits for all


ALONE = LocalRanks()


def activation_key(**facts: Any) -> str:
    """A digest of all that the activations depend on."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def stages_key(stages: FrozenStages, weights: str, preprocessing: Preprocessing, contents: str, **further: Any) -> str:
    """Of what stages with weights of a digest give for images of some contents; versions stand for code."""
    device = stages.device
    return activation_key(
        weights=weights,
        network={key: value for key, value in stages.description.items() if not key.startswith("head_")},
        code=stages.code,
        stages=stages.names,
        dtype=str(stages.dtype),
        preprocessing=preprocessing.to_dict(),
        contents=contents,
        decoder=DECODER,
        versions={name: version(name) for name in COMPUTED_BY} | {"resnet_tl": __version__},
        device=torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else (device.type, torch.backends.cpu.get_cpu_capability()),
        **further,
    )


def specs_of(activation: Activation) -> tuple[ActivationSpec, ...]:
    """What one image's activation is made of, seen on a batch of them."""
    kinds = ((tuple(part.shape[1:]), str(part.dtype).removeprefix("torch.")) for part in _parts(activation))
    return tuple(ActivationSpec(*kind) for kind in kinds)


def find_or_compute(
    key: str,
    about: str,
    rows: np.ndarray,
    compute: Compute,
    ranks: LocalRanks = ALONE,
) -> ActivationTable | None:
    """The table of some rows, in ascending order: from the cache folder, or computed, by each process its share.

    `compute` gives batches of (rows, their activations) for the rows it is asked for; `about` is a line for people.
    None where the cache folder cannot keep it and this process is not alone; alone, it is then in memory.
    """

    def fill(table: ActivationTable) -> None:
        own = rows[ranks.rank :: ranks.world]
        with counted("frozen stages", len(own)) as advance:
            for part, activation in compute(own):
                table.put(part, activation)
                advance(len(part))

    def write(folder: Path) -> None:
        for number, spec in enumerate(specs):
            _allocate(folder / f"{number}.bin", spec.nbytes * len(rows))
        (folder / SPECS).write_text(json.dumps([asdict(spec) for spec in specs]))
        told.append(ranks.exchange(str(folder)))
        fill(_mapped(folder, rows, mode="r+"))
        ranks.barrier()

    def opened() -> ActivationTable | None:
        folder = cache.find("activations", key)
        try:
            return _mapped(folder, rows, mode="c") if folder else None
        except (OSError, ValueError, RuntimeError):  # just removed by another run, or damaged
            return None

    told: list[Any] = []
    if ranks.rank == 0:
        if not cache.find("activations", key):
            specs = specs_of(next(iter(compute(rows[:1])))[1])
            cache.entry("activations", key, sum(spec.nbytes for spec in specs) * len(rows), about, write)
        if not told:  # it was there already, or there is no place for it
            ranks.exchange(None)
    elif folder := ranks.exchange(None):
        fill(_mapped(Path(folder), rows, mode="r+"))
        ranks.barrier()
    ranks.barrier()  # the entry has its name now
    table = opened()
    if ranks.exchange(table is not None):
        if table is None:
            raise RuntimeError(f"Another process removed {key} from the cache while it was opened; run the fit again.")
        return table
    if ranks.world > 1:
        return None
    specs = specs_of(next(iter(compute(rows[:1])))[1])
    table = ActivationTable(rows, tuple(torch.empty(len(rows), *_stored(spec), dtype=spec.type) for spec in specs))
    fill(table)
    return table


def _mapped(folder: Path, rows: np.ndarray, mode: Literal["r+", "c"]) -> ActivationTable:
    """A table on the files of an entry; what is read of it stays in memory as long as nobody else needs the memory."""
    tensors = []
    for number, values in enumerate(json.loads((folder / SPECS).read_text())):
        spec = ActivationSpec(tuple(values["shape"]), values["dtype"])
        flat = torch.from_numpy(np.memmap(folder / f"{number}.bin", np.uint8, mode))
        tensors.append(flat.view(spec.type).view(len(rows), *_stored(spec)))
    return ActivationTable(rows, tuple(tensors))


def _allocate(file: Path, size: int) -> None:
    """Makes a file of zeros whose place on the disk is sure: a map of a full disk would end the process."""
    with file.open("wb") as opened:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(opened.fileno(), 0, size)
        opened.truncate(size)


def _stored(spec: ActivationSpec) -> tuple[int, ...]:
    return (*spec.shape[1:], spec.shape[0]) if len(spec.shape) == 3 else spec.shape


def _parts(activation: Activation) -> tuple[Tensor, ...]:
    return (activation,) if isinstance(activation, Tensor) else activation


def _channels_first(tensor: Tensor) -> Tensor:
    return tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.permute(0, 2, 3, 1) if tensor.ndim == 4 else tensor
