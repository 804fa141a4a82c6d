"""Networks as ordered stages and a head, by name. Importing this package does not import torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from resnet_tl.networks.catalog import CIFAR_RESNETS, CIFAR_RESNETS_V2, DIGITS, IMAGENET_RESNETS

if TYPE_CHECKING:
    from resnet_tl.networks.stages import StagedNetwork


def network_names() -> tuple[str, ...]:
    """The networks that are tested here. Any other network of timm that is a chain of stages works as well."""
    return (*DIGITS, *CIFAR_RESNETS, *CIFAR_RESNETS_V2, *IMAGENET_RESNETS)


def create_network(
    name: str,
    num_classes: int,
    in_chans: int = 3,
    head_hidden: Sequence[int] = (),
    head_dropout: float = 0.0,
    network_args: Mapping[str, Any] | None = None,
) -> StagedNetwork:
    """A network with random weights and a fresh head.

    Args:
        name: one of `network_names()`, `resnetN` with N = 6n + 2 or `resnetNv2` with N = 9n + 2 layers for small
            images, or any timm network that is a chain of stages.
        num_classes: width of the logits.
        in_chans: channels of the images.
        head_hidden: widths of hidden layers in the head.
        head_dropout: dropout in the head, in [0, 1).
        network_args: further arguments of the network's constructor, such as `{"shortcut": "projection"}` for
            `resnet20` or `{"drop_path_rate": 0.1}` for timm's.

    Raises:
        UserError: the name is unknown, the network does not take these arguments, or it is not a chain of stages.

    Example:
        >>> network = create_network("resnet20", num_classes=5, network_args={"shortcut": "projection"})
        >>> network.stage_names
        ('stem', 'stage1', 'stage2', 'stage3')
    """
    from resnet_tl.networks.body import create_body, naming_arguments
    from resnet_tl.networks.stages import StagedNetwork

    body = create_body(name, num_classes, in_chans, network_args)
    with naming_arguments(name, network_args):
        network = StagedNetwork(name, body, in_chans)
    network.replace_head(num_classes, head_hidden, head_dropout)
    return network
