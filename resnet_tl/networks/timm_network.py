"""A timm network, by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from resnet_tl.errors import UserError, nearest
from resnet_tl.networks.catalog import DIGITS

if TYPE_CHECKING:
    from torch import nn

NOT_TO_BE_GIVEN = {
    **dict.fromkeys(("pretrained", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay"), "use model.weights"),
    **dict.fromkeys(("cache_dir", "scriptable", "exportable", "no_jit"), "it changes nothing in the network"),
    **dict.fromkeys(("features_only", "out_indices"), "a classifier has logits"),
    # timm's ResNets apply it in `forward`, not as a module, so that it would be lost between stages and head.
    "drop_rate": "use model.head_dropout",
}
"""Arguments of `timm.create_model` that have no place among the network's own, and the reason or the mend."""


def check_timm_name(name: str) -> None:
    """Raises UserError unless timm has such a network; a name with a tag is refused, since that names weights."""
    import timm  # takes seconds

    if name in (known := timm.list_models()):
        return
    base, _, tag = name.partition(".")
    if tag and base in known:
        raise UserError(f"'{name}' names weights; give the network as '{base}' and the weights as '{tag}'.")
    raise UserError(
        f"There is no network '{name}', neither here nor in timm {timm.__version__}." + nearest(name, [*DIGITS, *known])
    )


def timm_body(
    name: str, num_classes: int, in_chans: int = 3, network_args: Mapping[str, Any] | None = None
) -> nn.Module:
    """The timm network `name` with random weights; UserError when `network_args` holds what is not the network's."""
    import timm

    for key in network_args or {}:
        if key in NOT_TO_BE_GIVEN:
            raise UserError(f"'{key}' cannot be given here: {NOT_TO_BE_GIVEN[key]}.")
    return timm.create_model(name, pretrained=False, num_classes=num_classes, in_chans=in_chans, **(network_args or {}))
