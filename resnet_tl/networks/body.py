"""The plain module of a network, by its name: one of ours or one of timm's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from resnet_tl.errors import UserError, nearest, reason_of
from resnet_tl.networks.catalog import DIGITS, find_own
from resnet_tl.networks.side_by_side import SideBySide, names_of

# Of `timm.create_model`. Its ResNets apply `drop_rate` in `forward`: it would be lost between stages and head.
WEIGHTS = ("pretrained", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")
REFUSED = (*WEIGHTS, "scriptable", "exportable", "no_jit", "features_only", "out_indices", "drop_rate")


def create_body(
    name: str, num_classes: int, in_chans: int = 3, network_args: Mapping[str, Any] | None = None
) -> nn.Module:
    """A network with random weights, (N, in_chans, H, W) to logits (N, num_classes); UserError for strange names."""
    if names := names_of(name):
        return SideBySide([create_body(one, num_classes, in_chans) for one in names], num_classes, in_chans)
    if own := find_own(name):
        with naming_arguments(name, network_args):
            return own.build(num_classes, in_chans, network_args)
    check_timm_name(name)
    import timm

    with naming_arguments(name, network_args):
        for key in network_args or {}:
            if key in REFUSED:
                raise UserError(
                    f"'{key}' cannot be given here (for weights: model.weights, for dropout: model.head_dropout)"
                )
        return timm.create_model(name, num_classes=num_classes, in_chans=in_chans, **(network_args or {}))


def check_timm_name(name: str) -> None:
    """Raises UserError unless timm has such a network."""
    import timm  # takes seconds

    if name in (known := timm.list_models()):
        return
    refuse_tag(name)
    raise UserError(
        f"There is no network '{name}', neither here nor in timm {timm.__version__}; one that a module of yours "
        f"registers with timm is found once that is imported (--import MODULE).{nearest(name, [*DIGITS, *known])}"
    )


def refuse_tag(name: str) -> None:
    """Raises UserError for a name of timm with a tag, since that names weights."""
    import timm

    base, _, tag = name.partition(".")
    if tag and base in timm.list_models():
        raise UserError(f"'{name}' names weights; give the network as '{base}' and the weights as '{tag}'.")


@contextmanager
def naming_arguments(name: str, network_args: Mapping[str, Any] | None) -> Iterator[None]:
    """Makes one sentence on `model.network_args` of whatever is raised while a network is built with some."""
    try:
        yield
    except Exception as error:  # the constructors of some thousand networks; what they raise is not known
        if not network_args:
            raise
        given = ", ".join(f"{key}: {value}" for key, value in network_args.items())
        reason = reason_of(error)
        end = "" if reason.endswith("?") else "."
        raise UserError(
            f"The network '{name}' cannot be built with model.network_args {{{given}}}: {reason}{end}"
        ) from error
