"""A mistake in a recipe or flag, told in one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from jsonargparse import ArgumentParser

from resnet_tl.errors import UserError, nearest


def check_keys(parser: ArgumentParser, given: dict[str, Any] | list[str], where: str) -> None:
    """Raises UserError for the first setting or flag that the parser does not know."""
    known = [key for action in parser._actions if (key := action.dest) not in ("data", "model", "trainer")]
    for key in _flags(given) if isinstance(given, list) else _keys(given):
        parts = key.split(".")
        if any(".".join(parts[: length + 1]) in known for length in range(len(parts))):
            continue
        if key in ("data", "model", "trainer"):
            continue
        near = nearest(key, known) or nearest(parts[-1], [name.split(".")[-1] for name in known])
        flag = "--" if isinstance(given, list) else ""
        raise UserError(
            f"{where}: there is no setting '{flag}{key}'.{near} "
            "`resnet-tl fit --help` shows the common ones, --help_all every one."
        )


def _keys(settings: dict[str, Any], prefix: str = "") -> Iterable[str]:
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and name in ("data", "model", "trainer"):
            yield from _keys(value, f"{name}.")
        else:
            yield name


def _flags(words: list[str]) -> Iterable[str]:
    for word in words:
        if re.fullmatch(r"--[A-Za-z_][\w.+-]*(=.*)?", word, flags=re.DOTALL):
            yield word[2:].split("=")[0].rstrip("+")


def explain(parser: ArgumentParser, message: str) -> UserError:
    """What jsonargparse reports over several lines, as one sentence."""
    match = re.search(r'Parser key "([^"]+)"', message)
    if not match:
        return UserError(" ".join(message.split()))
    key = match[1]
    action = next((action for action in parser._actions if action.dest == key), None)
    if option := re.search(r"Problem with given class_path '([^']+)':\s+Option '([^']+)' is not accepted", message):
        return UserError(f"{key}: {option[1]} has no option '{option[2]}'.")
    if wanted := re.search(r"Problem with given class_path '([^']+)':\s+(.+)", message):
        return UserError(f"{key}: {wanted[1]}: {wanted[2].strip()}.")
    given = re.search(r"Given value: (.*)", message, flags=re.DOTALL)
    value = given[1].strip().splitlines()[0] if given else "?"
    if key in ("optimizer", "lr_scheduler"):
        return UserError(f"{key} is '{value}', which is no class of torch.optim.{_nearest_class(key, value)}")
    allowed = describe(getattr(action, "_typehint", None))
    return UserError(f"{key} is {value!r}; it must be {allowed}.{_nearest_choice(action, value)}")


def describe(annotation: Any) -> str:
    """A type in words."""
    if get_origin(annotation) in (Union, UnionType):
        options = [describe(option) for option in get_args(annotation) if option is not NoneType]
        nothing = ["null"] if NoneType in get_args(annotation) else []
        return " or ".join(dict.fromkeys(options + nothing))
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(annotation))
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", dict: "a mapping"}
    if annotation in words:
        return words[annotation]
    if get_origin(annotation) is list:
        return f"a list, each item {describe(get_args(annotation)[0])}"
    return getattr(annotation, "__name__", str(annotation))


def _nearest_choice(action: Any, value: str) -> str:
    annotation = getattr(action, "_typehint", None)
    options = get_args(annotation) if get_origin(annotation) is Literal else ()
    return nearest(value, options) if options else ""


def _nearest_class(key: str, value: str) -> str:
    import torch

    home = torch.optim if key == "optimizer" else torch.optim.lr_scheduler
    names = [name for name in dir(home) if isinstance(getattr(home, name), type)]
    return nearest(value.rpartition(".")[2], names)
