"""What a network consists of, for people: the layers and blocks of each stage, with runs of equal ones as one row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import nn

from resnet_tl.networks.cost import on_meta, refusing_size, shape_of
from resnet_tl.networks.stages import StagedNetwork

Shape = tuple[int, ...]
Shapes = dict[nn.Module, Shape]


@dataclass(frozen=True)
class Row:
    """A layer or block such as `Conv2d 3×3`, or a run of equal ones, with the shape of its output for one image."""

    label: str
    output_shape: Shape
    count: int = 1


def outline(network: StagedNetwork, image_size: int) -> dict[str, list[Row]]:
    """The rows of each stage, and of the head, for one square image; norms and activations are left out."""
    copy, image = on_meta(network, image_size)
    shapes: Shapes = {}
    for module in copy.modules():
        module.register_forward_hook(lambda module, args, output: shapes.update({module: shape_of(output)}))
    with torch.no_grad(), refusing_size(network, image_size):
        copy(image)
    parts: dict[str, nn.Module] = {name: copy.stage(name) for name in copy.stage_names} | {"head": copy.head}
    return {name: _rows(part, shapes) for name, part in parts.items()}


def _rows(part: nn.Module, shapes: Shapes) -> list[Row]:
    rows = [(_label(module), shapes[module]) for module in _opened(part) if module in shapes]
    return [Row(*row, count=len(list(run))) for row, run in groupby(rows)]


def _opened(module: nn.Module) -> Iterator[nn.Module]:
    """What runs one after the other in a container."""
    is_small = isinstance(module, nn.Identity | nn.modules.batchnorm._BatchNorm | nn.LayerNorm | nn.GroupNorm)
    if isinstance(module, nn.Sequential):
        for child in module:
            yield from _opened(child)
    elif not is_small and type(module).__module__ != nn.ReLU.__module__:
        yield module


def _label(module: nn.Module) -> str:
    size = getattr(module, "kernel_size", None)
    sides = size if isinstance(size, tuple) else (size, size)
    return type(module).__name__ + (f" {sides[0]}×{sides[1]}" if size else "")
