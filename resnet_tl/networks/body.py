"""The plain module of a network, by its name: one of ours or one of timm's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from resnet_tl.errors import UserError
from resnet_tl.networks.catalog import find_own
from resnet_tl.networks.timm_network import check_timm_name, timm_body


def create_body(
    name: str, num_classes: int, in_chans: int = 3, network_args: Mapping[str, Any] | None = None
) -> nn.Module:
    """The network `name` with random weights: images (N, in_chans, H, W) to logits (N, num_classes).

    Raises:
        UserError: the name is unknown, or the network does not take `network_args`.
    """
    if own := find_own(name):
        with naming_arguments(name, network_args):
            return own.build(num_classes, in_chans, network_args)
    check_timm_name(name)
    with naming_arguments(name, network_args):
        return timm_body(name, num_classes, in_chans, network_args)


@contextmanager
def naming_arguments(name: str, network_args: Mapping[str, Any] | None) -> Iterator[None]:
    """Makes one sentence on `model.network_args` of whatever is raised while a network is built with some."""
    try:
        yield
    except Exception as error:  # the constructors of some thousand networks; what they raise is not known
        if not network_args:
            raise
        given = ", ".join(f"{key}: {value}" for key, value in network_args.items())
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        if found := re.search(r"unexpected keyword argument '(\w+)'", reason):
            reason = f"it has no argument '{found[1]}'"
        elif found := re.search(r"multiple values for (?:keyword )?argument '(\w+)'", reason):
            reason = f"'{found[1]}' is given by other options"
        end = "" if reason.endswith((".", "?")) else "."
        raise UserError(
            f"The network '{name}' cannot be built with model.network_args {{{given}}}: {reason}{end}"
        ) from (error)
