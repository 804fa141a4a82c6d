"""A mistake in a recipe or flag of `fit`, told in one sentence."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser

from resnet_tl.errors import UserError, nearest
from resnet_tl.recipe import GROUPS

# Settings whose value is a class: what it is called, and the module that holds those with a short name.
CLASSES = {
    "optimizer": ("optimizer of torch", "torch.optim"),
    "lr_scheduler": ("learning-rate scheduler of torch", "torch.optim.lr_scheduler"),
    "trainer.callbacks": ("callback of Lightning", "lightning.pytorch.callbacks"),
    "trainer.logger": ("logger of Lightning", "lightning.pytorch.loggers"),
}
BASES = ("Optimizer", "LRScheduler", "Callback", "Logger")
# Schedulers that are made of more than values.
NOT_IN_RECIPES = {
    "LambdaLR": "a function",
    "MultiplicativeLR": "a function",
    "SequentialLR": "other schedulers",
    "ChainedScheduler": "other schedulers",
}
# Settings of our classes that have a shorter name of their own.
LINKED = {
    "data.seed": "seed",
    "model.seed": "seed",
    "model.optimizer": "optimizer",
    "model.lr_scheduler": "lr_scheduler",
}
# What other programs, and older versions of Lightning, call it.
ELSEWHERE = {
    "config": "recipe",
    "ckpt_path": "resume",
    "epochs": "trainer.max_epochs",
    "gpus": "trainer.devices",
    "trainer.gpus": "trainer.devices",
    "lr": "optimizer.lr",
    "learning_rate": "optimizer.lr",
    "trainer.resume_from_checkpoint": "resume",
}
WORDS: dict[Any, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "values true or false"),
    str: ("a text", "texts"),
    dict: ("a mapping", "mappings"),
}


def check_keys(parser: ArgumentParser, given: Mapping[str, Any] | Sequence[str], recipe: str = "") -> None:
    """Raises UserError for the first setting, of a recipe or in the words of a command line, that does not exist."""
    known = [action.dest for action in parser._actions if action.dest not in GROUPS]
    settings = [name for name in known if not name.endswith(".help")]
    is_recipe = isinstance(given, Mapping)
    place, dashes = (f"{recipe}: ", "") if is_recipe else ("", "--")
    for key in _keys(given) if isinstance(given, Mapping) else _flags(given):
        if key in GROUPS and not is_recipe:
            raise UserError(f"--{key} is a group of settings; name one of them, such as --{_first(known, key)}.")
        for linked, name in LINKED.items():
            if key == linked or key.startswith(f"{linked}."):
                raise UserError(f"{place}{dashes}{key} is not set by itself; use {dashes}{name}.")
        parts = key.split(".")
        if key in GROUPS or any(".".join(parts[:length]) in known for length in range(1, len(parts) + 1)):
            continue
        match = _nearest_setting(key, settings, dashes)
        raise UserError(
            f"{place}{'there' if is_recipe else 'There'} is no setting '{dashes}{key}'.{match} "
            "`resnet-tl fit --help` shows the common ones, --help_all every one."
        )


def check_nulls(parser: ArgumentParser, config: Mapping[str, Any]) -> None:
    """Raises UserError for a null, which the parser takes for any setting, where there must be a value."""
    for action in parser._actions:
        hint = getattr(action, "_typehint", None)
        is_ours = action.dest.partition(".")[0] in GROUPS and hint is not None
        if is_ours and hint is not Any and NoneType not in get_args(hint) and config.get(action.dest, "") is None:
            raise UserError(f"{action.dest} is null; it must be {describe(hint)}.")


def explain(
    parser: ArgumentParser, message: str, flags: Sequence[str], recipes: Mapping[str, Mapping[str, Any]]
) -> UserError:
    """What jsonargparse reports over several lines, as one sentence that says where the mistake is.

    Args:
        parser: knows the type of each setting.
        message: of jsonargparse's error.
        flags: the words of the command line.
        recipes: the settings of each recipe by its path, in order.
    """
    if found := re.search(r"argument (--\S+): expected", message):
        return UserError(f"{found[1]} has no value.")
    if found := re.search(r"unrecognized arguments: (\S+)", message):
        return UserError(f"'{found[1]}' is no option of fit; they look like --data.root photos.")
    if not (found := re.search(r'Parser key "([^"]+)"', message)):
        return UserError(plain(message))
    key = found[1]
    place = _place(key, flags, recipes)
    problem = re.search(r"Problem with given class_path '([^']+)':\s+(.*)", message, flags=re.DOTALL)
    if problem:
        return UserError(_class_mistake(key, place, problem[1], problem[2]))
    if key in CLASSES and (name := re.search(r"Expected a dot import path string: (.*)", message)):
        return UserError(_no_such_class(key, place, name[1]))
    hint = next((getattr(action, "_typehint", None) for action in parser._actions if action.dest == key), None)
    return UserError(_wrong_value(place, _values(message)[-1], hint))


def is_given(key: str, flags: Sequence[str], recipes: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a flag or a recipe sets something, or a part of it, so that it is not the program's own choice."""
    if any(flag == key or flag.startswith(f"{key}.") for flag in _flags(flags)):
        return True
    return any(given == key for settings in recipes.values() for given in _keys(settings))


def plain(message: str) -> str:
    """Another program's message on one line, without what it tells programmers."""
    if found := re.search(r"Problem with given class_path '.*?(\w+)':\s+(.*)", message, flags=re.DOTALL):
        message = f"{found[1]}: {found[2]}"
    if found := re.match(r"Does not validate against any of .*?\nErrors:\n\s+- (.*)", message, flags=re.DOTALL):
        message = found[1]  # of what a setting may be, the first kind is meant
    return " ".join(re.split(r"\n\s*- |HINT: ", message)[0].replace("`", "").split())


def describe(annotation: Any) -> str:
    """A type in words, without the null that an optional setting may have too."""
    choices = _choices(annotation)
    options = [option for option in _options(annotation) if get_origin(option) is not Literal]
    words = [f"one of {', '.join(choices)}"] if choices else []
    words += [WORDS[option][0] for option in options if option in WORDS and not (choices and option is not bool)]
    for option in options:
        if get_origin(option) is dict:
            words.append(WORDS[dict][0])
        if get_origin(option) is list:
            item = get_args(option)[0]
            name = WORDS[item][1] if item in WORDS else f"{item.__name__.lower()}s"
            words.append(f"a list of {name}")
        if get_origin(option) is tuple:
            words.append(f"a list of {len(get_args(option))} values")
    return " or ".join(words) or "of another kind"


def _options(annotation: Any) -> tuple[Any, ...]:
    options = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return tuple(option for option in options if option is not NoneType)


def _choices(annotation: Any) -> list[str]:
    choices = [
        choice for option in _options(annotation) if get_origin(option) is Literal for choice in get_args(option)
    ]
    return list(dict.fromkeys(map(str, choices)))


def _wrong_value(name: str, value: str, hint: Any) -> str:
    shown = value if value[:1] in "[{" else f"'{value}'"
    return f"{name} is {shown}; it must be {describe(hint)}.{nearest(value, _choices(hint))}"


def _values(message: str) -> list[str]:
    """The values that a message quotes, from the innermost to the whole."""
    return re.findall(r"(?:Got|Given) value: (.*)", message) or ["something else"]


def _class_mistake(key: str, place: str, class_path: str, problem: str) -> str:
    """What is wrong with the arguments of a class such as SGD, StepLR, EarlyStopping or a phase."""
    name = class_path.rpartition(".")[2]
    if name in NOT_IN_RECIPES:
        return f"{place}: {name} takes {NOT_IN_RECIPES[name]}, which a recipe cannot hold; choose another scheduler."
    title = "a phase" if name == "Phase" else name
    if found := re.match(r"Option '([^']+)' is not accepted", problem):
        if name in BASES:
            return f"{place}.{found[1]} was given without a name; put --{key} NAME before it."
        settings = _arguments(class_path)
        match = nearest(found[1], settings)
        return f"{place}: {title} has no setting '{found[1]}'; it has {', '.join(settings)}.{match}"
    if found := re.match(r"the following arguments are required: (.*)", problem):
        needed = " and ".join(f"--{key}.{argument} VALUE" for argument in found[1].split(", "))
        return f"{place}: {title} needs {found[1]}: add {needed}."
    if found := re.match(r'Parser key "([^"]+)"', problem):
        # The last value is that of the whole setting, the one before it that of the key.
        value, hint = _values(problem)[-2:][0], _arguments(class_path).get(found[1])
        return _wrong_value(f"{place}: {found[1]} of {title}", value, hint)
    if found := re.match(r"module '([\w.]+)' has no attribute '(\w+)'", problem):
        return f"{place}: {found[1]} has no '{found[2]}'.{nearest(found[2], vars(import_module(found[1])))}"
    return f"{place}: {title}: {plain(problem)}"


def _arguments(class_path: str) -> dict[str, Any]:
    """The arguments that a user sets on a class, with their types, inherited ones included."""
    module, _, name = class_path.rpartition(".")
    arguments: dict[str, Any] = {}
    for kind in inspect.getmro(getattr(import_module(module), name))[:-1]:
        init = vars(kind).get("__init__")
        if init is None:
            continue
        try:
            hints = get_type_hints(init)
        except NameError:
            hints = {}
        parameters = list(inspect.signature(init).parameters.values())[1:]
        for parameter in parameters:
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD or parameter.kind is parameter.KEYWORD_ONLY:
                arguments.setdefault(parameter.name, hints.get(parameter.name))
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return {name: hint for name, hint in arguments.items() if name not in ("params", "optimizer")}


def _no_such_class(key: str, place: str, name: str) -> str:
    kind, home = CLASSES[key]
    names = [known for known, value in vars(import_module(home)).items() if isinstance(value, type)]
    return f"{place} is '{name}', which is no {kind}.{nearest(name.rpartition('.')[2], names)}"


def _place(key: str, flags: Sequence[str], recipes: Mapping[str, Mapping[str, Any]]) -> str:
    """The setting as its user wrote it: a flag, or a key in the last recipe that has it."""
    if is_given(key, flags, {}):
        return f"--{key}"
    for path, settings in reversed(list(recipes.items())):
        if any(given == key for given in _keys(settings)):
            return f"{path}: {key}"
    return key


def _keys(settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and name in GROUPS:
            yield from _keys(value, f"{name}.")
        else:
            yield name


def _flags(words: Iterable[str]) -> Iterator[str]:
    for word in words:
        if re.fullmatch(r"--[A-Za-z_][\w.+-]*(=.*)?", word, flags=re.DOTALL):
            yield word[2:].split("=")[0].rstrip("+")


def _first(known: Iterable[str], group: str) -> str:
    return next(name for name in known if name.startswith(f"{group}."))


def _nearest_setting(key: str, known: Sequence[str], dashes: str) -> str:
    """By its last part alone, where that is right or the whole name like none: `batch_size` for `data.batch_size`."""
    same = [name for name in known if name.rpartition(".")[2] == key]
    if name := ELSEWHERE.get(key, same[0] if len(same) == 1 else None):
        return f" Did you mean '{dashes}{name}'?"
    if match := nearest(key, known):
        return match.replace("'", f"'{dashes}", 1)
    last_parts = {name.rpartition(".")[2]: name for name in reversed(known)}
    found = re.search(r"'(.*)'", nearest(key.rpartition(".")[2], last_parts))
    return f" Did you mean '{dashes}{last_parts[found[1]]}'?" if found else ""
