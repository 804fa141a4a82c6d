"""The optimizer's parameter groups: made once, named, each with its learning rate and weight decay."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn

from resnet_tl.networks.stages import StagedNetwork


def parameter_groups(
    network: StagedNetwork,
    trained: Collection[str],
    lr: float,
    backbone_lr_factor: float = 1.0,
    layer_decay: float = 1.0,
) -> list[dict[str, Any]]:
    """Groups for the head and each trained stage, biases and norms apart, in the order of the network.

    Args:
        network: gives the stages.
        trained: the stages that train in some phase; the others are in no group.
        lr: of the head.
        backbone_lr_factor: the last stage learns at `lr` times this.
        layer_decay: every stage below learns at this factor of the one above it (Clark et al. 2020, ELECTRA).

    Returns:
        Dicts with `name`, `params` and `lr`; those of biases and norms have `weight_decay` 0 (He et al. 2019,
        arXiv 1812.01187, "no bias decay").
    """
    groups: list[dict[str, Any]] = []
    for depth, name in enumerate(reversed(network.stage_names)):
        if name in trained:
            groups = _split(name, network.stage(name), lr * backbone_lr_factor * layer_decay**depth) + groups
    return groups + _split("head", network.head, lr)


def _split(name: str, module: nn.Module, lr: float) -> list[dict[str, Any]]:
    weights = [parameter for parameter in module.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in module.parameters() if parameter.ndim <= 1]
    groups: list[dict[str, Any]] = [{"name": name, "params": weights, "lr": lr}] if weights else []
    if others:
        groups.append({"name": f"{name}, no decay", "params": others, "lr": lr, "weight_decay": 0.0})
    return groups
