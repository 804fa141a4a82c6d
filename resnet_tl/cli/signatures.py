"""What a class takes: its arguments, their types in words, and whether a value is of one."""

from __future__ import annotations

import inspect
from copy import deepcopy
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser

from resnet_tl.errors import listed

WORDS: dict[Any, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "values true or false"),
    str: ("a text", "texts"),
    dict: ("a mapping", "mappings"),
}


def arguments(kind: type) -> tuple[dict[str, inspect.Parameter], bool]:
    """The arguments of a class with their types, inherited ones included, and whether these are all that it takes."""
    found: dict[str, inspect.Parameter] = {}
    for each in inspect.getmro(kind)[:-1]:
        if (init := vars(each).get("__init__")) is None:
            continue
        try:
            hints = get_type_hints(init)
        except NameError:
            hints = {}
        parameters = list(inspect.signature(init).parameters.values())[1:]
        for parameter in parameters:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                typed = parameter.replace(annotation=hints.get(parameter.name, Any))
                found.setdefault(parameter.name, typed)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return found, True
    return found, False


def describe(hint: Any, many: bool = False) -> str:
    """A type in words, without the null that an optional setting may have too; empty where there are none for it."""
    named, kinds = choices(hint), options(hint)
    words = [f"{'one of ' * (len(named) > 1)}{listed(named)}"] if named else []
    for option in kinds:
        kind: Any = get_origin(option) or option
        is_said = (named and kind is str) or (kind is int and float in kinds)
        if kind in WORDS and not is_said:
            words.append(WORDS[kind][many])
        elif isinstance(kind, type) and is_dataclass(kind):
            words.append(f"{kind.__name__.lower()}s")
        elif kind is list and (items := describe(get_args(option)[0], many=True)):
            words.append(f"a list of {items}")
        elif kind is tuple:
            words.append(f"a list of {len(get_args(option))} values")
    return " or ".join(words)


def fits(value: Any, hint: Any) -> bool:
    """Whether a value of a recipe, or the text of a flag, is of a type."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=hint)
    try:
        parser.parse_object({"value": deepcopy(value)})  # which it would change in place
    except (ArgumentError, OverflowError):  # of a number of hundreds of digits
        return False
    return True


def options(hint: Any) -> tuple[Any, ...]:
    """The types that a setting may have, null not counted."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return tuple(option for option in kinds if option is not NoneType)


def choices(hint: Any) -> list[str]:
    """The words of its literals."""
    literals = [option for option in options(hint) if get_origin(option) is Literal]
    return list(dict.fromkeys(str(choice) for option in literals for choice in get_args(option)))
