"""What each stage of a network gives and costs: output shape, parameters, multiply-adds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from resnet_tl.errors import UserError
from resnet_tl.networks.stages import StagedNetwork


@dataclass(frozen=True)
class StageCost:
    """One stage, or the head, for one image."""

    name: str  # of the stage, or `head`
    output_shape: tuple[int, ...]  # (C, H, W) of maps, (F,) of features; (2, C, H, W) of the maps of two branches
    parameters: int  # numbers that are learnt
    multiply_adds: int  # of convolutions, linear layers and attention; norms, activations and pools are not counted


def stage_costs(network: StagedNetwork, image_size: int) -> list[StageCost]:
    """The cost of each stage in order, then of the head, for one square image; UserError for a size it does not take.

    Nothing is computed: a copy runs on the meta device.
    """
    copy, x = on_meta(network, image_size)
    parts: dict[str, nn.Module] = {name: copy.stage(name) for name in copy.stage_names} | {"head": copy.head}
    costs = []
    for name, part in parts.items():
        with refusing_size(network, image_size), torch.no_grad(), FlopCounterMode(display=False) as counter:
            x = part(x)
        parameters = sum(parameter.numel() for parameter in part.parameters())
        # A multiply-add is counted as two operations by torch, and as one in the papers.
        costs.append(StageCost(name, shape_of(x), parameters, counter.get_total_flops() // 2))
    return costs


def on_meta(network: StagedNetwork, image_size: int) -> tuple[StagedNetwork, Any]:
    """A copy of the network without data, in eval mode, and one such image for it."""
    image = torch.empty(1, network.in_chans, image_size, image_size, device="meta")
    return deepcopy(network).to("meta", torch.float32).eval(), image


@contextmanager
def refusing_size(network: StagedNetwork, image_size: int) -> Iterator[None]:
    """Makes a UserError of what a network raises when it is run on images that are too small or of another size."""
    try:
        yield
    except Exception as error:  # whatever a layer raises on a shape
        raise UserError(
            f"The network '{network.name}' does not take images of {image_size} px; "
            f"it was designed for {network.image_size}."
        ) from error


def shape_of(x: Tensor | tuple[Tensor, ...]) -> tuple[int, ...]:
    """The shape for one image; a pair of maps of one shape is (2, C, H, W)."""
    if isinstance(x, Tensor):
        return tuple(x.shape[1:])
    return (len(x), *x[0].shape[1:])


def with_unit(count: int) -> str:
    """`1.82 G`, `40.6 M`, `850 k`, `12`: three significant digits."""
    for factor, unit in ((10**9, " G"), (10**6, " M"), (10**3, " k")):
        # What would be rounded up to 1000 is given in the larger unit.
        if count >= 0.9995 * factor:
            value = count / factor
            digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
            return f"{value:.{digits}f}{unit}"
    return str(count)
