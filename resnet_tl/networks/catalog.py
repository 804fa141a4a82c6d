"""Which networks there are, by name: those written here, and those of timm that are tested here."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from resnet_tl.errors import UserError, nearest

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class OwnNetwork:
    """A network that is written here; its module is imported when it is built."""

    module: str  # of `resnet_tl.networks.articles`
    class_name: str  # of the network in that module
    summary: str  # one line for people
    fixed: Mapping[str, Any] = field(default_factory=dict)  # arguments of the class that the name implies

    def build(self, num_classes: int, in_chans: int = 3, network_args: Mapping[str, Any] | None = None) -> nn.Module:
        """The network with random weights; UserError when it does not take one of `network_args`."""
        make = getattr(import_module(f"resnet_tl.networks.articles.{self.module}"), self.class_name)
        given = {"num_classes": num_classes, "in_chans": in_chans, **self.fixed}
        choices = [name for name in inspect.signature(make).parameters if name not in given]
        for name in network_args or {}:
            if name not in choices:
                allowed = f"it takes {', '.join(choices)}" if choices else "it takes none"
                raise UserError(f"it has no further argument '{name}' ({allowed})." + nearest(name, choices))
        return make(**given, **(network_args or {}))


def _cifar_resnet(depth: int) -> OwnNetwork:
    summary = f"three stacks of {(depth - 2) // 6} basic blocks (He et al. 2015, section 4.2)"
    return OwnNetwork("cifar_resnet", "CifarResNet", summary, {"depth": depth})


def _cifar_resnet_v2(depth: int) -> OwnNetwork:
    summary = f"three stacks of {(depth - 2) // 9} bottlenecks with pre-activation (He et al. 2016)"
    return OwnNetwork("cifar_resnet_v2", "CifarResNetV2", summary, {"depth": depth})


DIGITS = {
    "lenet5": OwnNetwork("lenet", "LeNet5", "LeNet-5 (LeCun et al. 1998) with ReLU and max pooling"),
    "mnist_cnn": OwnNetwork("mnist", "MnistCnn", "three convolutions and a linear layer (Atienza 2018)"),
    "mnist_two_branch": OwnNetwork("mnist", "MnistTwoBranch", "two branches, one of them dilated (Atienza 2018)"),
}
"""Networks for digits, by name."""
CIFAR_RESNETS = {f"resnet{depth}": _cifar_resnet(depth) for depth in (20, 32, 44, 56, 110)}
"""Residual networks for small images (He et al. 2015), by name; any other depth of 6n + 2 works as well."""
CIFAR_RESNETS_V2 = {f"resnet{depth}v2": _cifar_resnet_v2(depth) for depth in (20, 56, 110, 164, 1001)}
"""Those with pre-activation (He et al. 2016), by name; any other depth of 9n + 2 works as well."""
IMAGENET_RESNETS = {
    "resnet18": "stacks of 2, 2, 2, 2 basic blocks (He et al. 2015)",
    "resnet34": "stacks of 3, 4, 6, 3 basic blocks",
    "resnet50": "stacks of 3, 4, 6, 3 bottlenecks",
    "resnet101": "stacks of 3, 4, 23, 3 bottlenecks",
    "resnet152": "stacks of 3, 8, 36, 3 bottlenecks",
    "resnext50_32x4d": "as resnet50, with 32 groups of 4 channels (Xie et al. 2017)",
    "resnext101_32x8d": "as resnet101, with 32 groups of 8 channels",
    "resnext101_64x4d": "as resnet101, with 64 groups of 4 channels",
    "wide_resnet50_2": "as resnet50, with inner layers twice as wide (Zagoruyko and Komodakis 2016)",
    "wide_resnet101_2": "as resnet101, with inner layers twice as wide",
}
"""What the networks for ImageNet are that timm has and that are tested here, by name."""

TIMM_DEPTHS = frozenset((18, 26, 34, 50, 101, 152, 200))
"""Numbers N for which `resnetN` is timm's, written down so that no name changes its meaning with timm's version."""


def find_own(name: str) -> OwnNetwork | None:
    """The network of that name if it is written here, None if it is timm's; UserError for an impossible depth."""
    own = {**DIGITS, **CIFAR_RESNETS, **CIFAR_RESNETS_V2}
    if name in own:
        return own[name]
    found = re.fullmatch(r"resnet([1-9]\d{0,3})(v2)?", name)
    if not found:
        return None
    depth, is_v2 = int(found[1]), bool(found[2])
    if depth in TIMM_DEPTHS and not is_v2:
        return None
    if depth > 2 and (depth - 2) % (9 if is_v2 else 6) == 0:
        return _cifar_resnet_v2(depth) if is_v2 else _cifar_resnet(depth)
    raise UserError(
        f"There is no network '{name}': ResNets for small images have 6n + 2 layers ({', '.join(CIFAR_RESNETS)}, ...), "
        f"those with pre-activation 9n + 2 ({', '.join(CIFAR_RESNETS_V2)}, ...), and those for large images are "
        f"{', '.join(f'resnet{depth}' for depth in sorted(TIMM_DEPTHS))}."
    )
