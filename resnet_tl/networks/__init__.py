"""Networks as ordered stages and a head, by name or the user's own. Importing this package does not import torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from resnet_tl import user_code
from resnet_tl.errors import UserError
from resnet_tl.networks.catalog import CIFAR_RESNETS, CIFAR_RESNETS_V2, DIGITS, IMAGENET_RESNETS

if TYPE_CHECKING:
    from torch import nn

    from resnet_tl.networks.stages import StagedNetwork

Network: TypeAlias = Union[str, Mapping[str, Any], "Callable[..., nn.Module]", "nn.Module"]
"""A name, `module.Name`, `{class_path: module.Name, init_args: {...}}`, a class or other factory, or a module."""


def network_names() -> tuple[str, ...]:
    """The networks that are tested here. Any other network of timm works as well."""
    return (*DIGITS, *CIFAR_RESNETS, *CIFAR_RESNETS_V2, *IMAGENET_RESNETS)


def create_network(
    network: Network,
    num_classes: int,
    in_chans: int = 3,
    head_hidden: Sequence[int] = (),
    head_dropout: float = 0.0,
    network_args: Mapping[str, Any] | None = None,
    new_head: bool = False,
) -> StagedNetwork:
    """A network for some classes, on the CPU: by name with random weights and a fresh head, or the user's own.

    The user's own class or factory is called with `num_classes`, and `in_chans`, as far as its signature takes them,
    and keeps its head. A module, or what is made without `num_classes`, is copied; it must give that many outputs or
    have an attribute `head`, which names the part that is then made new (see `decomposition`). A head with hidden
    layers or dropout is always new. `network.description` says in plain values how to build it again.

    Args:
        network: one of `network_names()`, `resnetN` with N = 6n + 2 or `resnetNv2` with N = 9n + 2 layers for small
            images, any timm network, or several of them side by side, `resnet18+resnet50`; or the user's own, as
            `Network` says.
        num_classes: width of the logits.
        in_chans: channels of the images.
        head_hidden: widths of hidden layers in the head.
        head_dropout: dropout in the head, in [0, 1).
        network_args: further arguments of the network's constructor, such as `{"shortcut": "projection"}` for
            `resnet20` or `{"drop_path_rate": 0.1}` for timm's.
        new_head: the last linear layer of a module with another number of outputs may be made new, as if it were
            declared to be the head.

    Raises:
        UserError: the name is unknown, the network does not take these arguments or images, or has no such outputs.

    Example:
        >>> network = create_network("resnet20", num_classes=5, network_args={"shortcut": "projection"})
        >>> network.stage_names
        ('stem', 'stage1', 'stage2', 'stage3')
    """
    import torch

    from resnet_tl.networks import body, user_network
    from resnet_tl.networks.stages import StagedNetwork

    description = {
        **user_network.describe(network, network_args),
        "in_chans": in_chans,
        "head_hidden": list(head_hidden),
        "head_dropout": head_dropout,
    }
    with torch.device("cpu"):  # Lightning builds networks under the device that trains; drawing there is another
        if isinstance(network, str) and not user_network.is_users_own(network):
            module = body.create_body(network, num_classes, in_chans, network_args)
            with body.naming_arguments(network, network_args):
                staged = StagedNetwork(network, module, in_chans)
            needs_head = True
        else:
            module, is_called_with_it = user_network.build(network, num_classes, in_chans, network_args)
            staged = StagedNetwork(user_network.name_of(network), module, in_chans, is_users=True)
            needs_head = bool(head_hidden) or head_dropout > 0
            if not needs_head and staged.num_outputs != num_classes:
                _check_outputs(staged, num_classes, is_called_with_it, new_head)
                needs_head = True
        if needs_head:
            staged.replace_head(num_classes, head_hidden, head_dropout)
    staged.description = description
    return staged


def rebuild_network(
    description: Mapping[str, Any], num_classes: int, network: Network | None = None, whose: str = "The model"
) -> StagedNetwork:
    """The network that a checkpoint or bundle describes, without its weights; the code of a stranger is never run.

    Raises:
        UserError: the user's own network is needed, or its module must be allowed by `--import`.
        TypeError: the description is none.
    """
    from torch import nn

    options = dict(description)
    kinds = [kind for kind in ("name", "import", "object") if kind in options]
    if len(kinds) != 1 or not isinstance(found := options.pop(kinds[0]), str):
        raise TypeError("a network is described by a name, an import or an object")
    if kinds[0] != "name":
        options["network_args"] = options.pop("init_args", {})
    if network is not None and kinds[0] != "name":
        if isinstance(network, nn.Module):
            options["network_args"] = None
        return create_network(network, num_classes, **options, new_head=True)
    if kinds[0] == "object":
        raise UserError(
            f"{whose} has a network of its maker's own, the object {found}, which only Python can give: "
            "Predictor(bundle, network=...)."
        )
    if kinds[0] == "import" and not user_code.is_allowed(found):
        raise UserError(
            f"{whose} has the network {found}, code that is not run unless you allow it: give "
            f"--import {found.rpartition('.')[0]}, or in Python Predictor(bundle, network=...)."
        )
    if ("." in found) != (kinds[0] == "import"):
        raise TypeError("a name of ours or timm's holds no dots, and that of a module's class does")
    return create_network(found, num_classes, **options, new_head=True)


def _check_outputs(network: StagedNetwork, num_classes: int, is_called_with_it: bool, new_head: bool) -> None:
    """Raises UserError unless a network of the user's own with other outputs may be given a fresh head."""
    found = f"model.network: {network.name} has {network.num_outputs} outputs for {num_classes} classes"
    if is_called_with_it:
        raise UserError(f"{found}, though it was called with num_classes={num_classes}; use that for its last layer.")
    declared = getattr(network.body, "head", None) is not None
    if not declared and not new_head:
        raise UserError(
            f"{found}; build it with that many, or name its last layer, which is then made new: "
            f"network.head = '{network.head_path}'."
        )
