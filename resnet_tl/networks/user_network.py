"""A network of the user's own: `module.Name` in a recipe; a class, another factory or a module in Python."""

from __future__ import annotations

import copy
import inspect
import json
import sys
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import nn

from resnet_tl import user_code
from resnet_tl.errors import UserError
from resnet_tl.networks.body import refuse_tag

if TYPE_CHECKING:
    from resnet_tl.networks import Network

SETTING = "model.network"


def is_users_own(network: Network) -> bool:
    """Whether it is anything else than a name of ours or timm's: those hold no dots."""
    return not isinstance(network, str) or ("." in network and all(part.isidentifier() for part in network.split(".")))


def name_of(network: Network) -> str:
    """What messages call it, and what distinguishes it: the dotted name of it, of its class or of its factory."""
    if isinstance(network, str | Mapping):
        return user_code.split(network, SETTING)[0]  # type: ignore[arg-type]
    while isinstance(network, partial):
        network = network.func
    named: Any = network if hasattr(network, "__qualname__") else type(network)
    return f"{named.__module__}.{named.__qualname__}"


def describe(network: Network, network_args: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Plain values that say which network it is, for hyperparameters, checkpoints and bundles.

    `{name: ...}` of ours or timm's, with its `network_args`; `{import: module.Name, init_args: {...}}` of a class or
    function that can be imported; `{object: qualified name}` of what only Python can give.

    Raises:
        UserError: the arguments are no plain values, which is all that a recipe or bundle can hold.
    """
    arguments = dict(network_args or {})
    if isinstance(network, str) and not is_users_own(network):
        return {"name": network, "network_args": arguments}
    name = name_of(network)
    if isinstance(network, str | Mapping):
        arguments = {**user_code.split(network, SETTING)[1], **arguments}  # type: ignore[arg-type]
    try:
        json.dumps(arguments)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{SETTING}: the arguments of {name} must be plain values, since they are stored with the model ({error}); "
            "give the network itself, an object in Python."
        ) from error
    home, _, last = name.rpartition(".")
    can_be_imported = home != "__main__" and getattr(sys.modules.get(home), last, None) is network
    if isinstance(network, str | Mapping) or (can_be_imported and not isinstance(network, nn.Module)):
        return {"import": name, "init_args": arguments}
    return {"object": name} | ({"init_args": arguments} if arguments else {})


def build(
    network: Network, num_classes: int, in_chans: int, network_args: Mapping[str, Any] | None = None
) -> tuple[nn.Module, bool]:
    """A module of its own on the CPU, and whether it was called with `num_classes`; UserError where none is made."""
    name, arguments = name_of(network), dict(network_args or {})
    make: Any = network
    if isinstance(network, str | Mapping):
        path, own = user_code.split(network, SETTING)  # type: ignore[arg-type]
        make, arguments = _named(path), {**own, **arguments}
    given: dict[str, int] = {}
    module = make
    if not isinstance(make, nn.Module):
        given = _wanted(make, num_classes=num_classes, in_chans=in_chans)
        module = user_code.attempt(f"{SETTING}: {name} cannot be made", lambda: make(**arguments, **given))
    elif arguments:
        raise UserError(f"{SETTING}: {name} is a module that is made already; give model.network_args to its class.")
    if not isinstance(module, nn.Module):
        raise UserError(f"{SETTING}: {name} gives a {type(module).__name__}, not a torch.nn.Module.")
    if not isinstance(make, type):  # a factory, too, may give the same module each time
        original = module
        module = user_code.attempt(f"{SETTING}: {name} cannot be copied", lambda: copy.deepcopy(original))
    return module.to("cpu").float(), "num_classes" in given


def _named(path: str) -> Any:
    try:
        return user_code.object_at(path, SETTING)
    except UserError:
        refuse_tag(path)
        raise


def _wanted(make: Any, **known: int) -> dict[str, int]:
    """What the signature of a class or function takes of what is known; `num_classes` also by `**kwargs`."""
    try:
        parameters = inspect.signature(make).parameters
    except (TypeError, ValueError):  # built in
        return {}
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return {name: value for name, value in known.items() if name in parameters or (takes_any and name == "num_classes")}
