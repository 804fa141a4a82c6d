"""Networks as ordered stages and a head, by name. Importing this package does not import torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resnet_tl.networks.stages import StagedNetwork

CIFAR_RESNETS = {f"resnet{depth}": depth for depth in (20, 32, 44, 56, 110)}
IMAGENET_RESNETS = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "wide_resnet50_2",
)


def network_names() -> tuple[str, ...]:
    """The networks that are tested here. Any other network of timm that is a chain of stages works as well."""
    return (*CIFAR_RESNETS, *IMAGENET_RESNETS)


def create_network(
    name: str, num_classes: int, in_chans: int = 3, head_hidden: Sequence[int] = (), head_dropout: float = 0.0
) -> StagedNetwork:
    """A network with random weights and a fresh head.

    Args:
        name: one of `network_names()`, or any timm network that is a chain of stages.
        num_classes: width of the logits.
        in_chans: channels of the images.
        head_hidden: widths of hidden layers in the head.
        head_dropout: dropout in the head, in [0, 1).

    Raises:
        UserError: the name is unknown, or the network is not a chain of stages.

    Example:
        >>> network = create_network("resnet20", num_classes=5)
        >>> network.stage_names
        ('stem', 'stage1', 'stage2', 'stage3')
    """
    if name in CIFAR_RESNETS:
        from resnet_tl.networks.cifar_resnet import CifarResNet
        from resnet_tl.networks.stages import StagedNetwork

        body = CifarResNet(CIFAR_RESNETS[name], num_classes, in_chans)
        network = StagedNetwork(name, body, in_chans, check_size=32)
    else:
        from resnet_tl.networks.timm_network import timm_network

        network = timm_network(name, num_classes, in_chans)
    network.replace_head(num_classes, head_hidden, head_dropout)
    return network
