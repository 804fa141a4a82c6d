"""A timm network, by its name, as stages and a head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_tl.errors import UserError, nearest
from resnet_tl.networks.stages import StagedNetwork

if TYPE_CHECKING:
    from torch import nn


def timm_network(name: str, num_classes: int, in_chans: int = 3) -> StagedNetwork:
    """The timm network `name` with random weights as stages and a head.

    Raises:
        UserError: timm has no such network, or it is not a chain of stages.
    """
    body = timm_body(name, num_classes, in_chans)
    facts = getattr(body, "pretrained_cfg", {})
    size = facts.get("input_size", (3, 224, 224))[-1]
    # Most networks are the same function at any size; 96 is cheap and more than the deepest of them needs.
    return StagedNetwork(name, body, in_chans, check_size=size if facts.get("fixed_input_size") else min(size, 96))


def timm_body(name: str, num_classes: int, in_chans: int = 3) -> nn.Module:
    """The timm network `name` itself; a name with a tag is refused, since that names weights."""
    import timm  # takes seconds

    if name not in (known := timm.list_models()):
        base, _, tag = name.partition(".")
        if tag and base in known:
            raise UserError(f"'{name}' names weights; give the network as '{base}' and the weights as '{tag}'.")
        raise UserError(
            f"There is no network '{name}', neither here nor in timm {timm.__version__}." + nearest(name, known)
        )
    return timm.create_model(name, pretrained=False, num_classes=num_classes, in_chans=in_chans)
