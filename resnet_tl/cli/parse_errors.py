"""What recipes and flags of `fit` set, checked before they are parsed: a mistake ends in one sentence."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from importlib import import_module
from types import NoneType
from typing import Any, get_args

import yaml

from resnet_tl.cli.signatures import arguments, choices, describe, fits, options
from resnet_tl.cli.trainer_settings import REFUSED
from resnet_tl.errors import UserError, listed, nearest
from resnet_tl.recipe import GROUPS
from resnet_tl.user_code import object_at

# Settings whose value is a class: what it is called, and the module and name of its base.
CLASSES = {
    "optimizer": ("optimizer of torch", "torch.optim", "Optimizer"),
    "lr_scheduler": ("learning-rate scheduler of torch", "torch.optim.lr_scheduler", "LRScheduler"),
    "trainer.callbacks": ("callback of Lightning", "lightning.pytorch.callbacks", "Callback"),
    "trainer.logger": ("logger of Lightning", "lightning.pytorch.loggers", "Logger"),
}
QUOTE = "'"
OWN = {"seed": int, "recipe": str, "run": str, "final": str, "checkpoint_every": str}
GIVEN_LATER = ("params", "optimizer")  # arguments of an optimizer or scheduler that no recipe holds
SWITCHES = ("forecast", "find_lr", "verbose")
WITHOUT_VALUE = (*SWITCHES, "help", "print_config")
# What our classes, other programs, and older versions of Lightning, call it.
ELSEWHERE = {
    "data.seed": "seed",
    "model.seed": "seed",
    "model.optimizer": "optimizer",
    "model.lr_scheduler": "lr_scheduler",
    "model.lr": "optimizer.lr",
    "model.classes": "data.root",
    "config": "recipe",
    "ckpt_path": "resume",
    "epoch": "trainer.max_epochs",
    "epochs": "trainer.max_epochs",
    "gpus": "trainer.devices",
    "lr": "optimizer.lr",
    "learning_rate": "optimizer.lr",
    "trainer.resume_from_checkpoint": "resume",
}


@dataclass(frozen=True)
class Given:
    """A setting as its user gave it."""

    key: str  # such as `data.batch_size`; of a flag it may go on into the value, such as `optimizer.lr`
    value: Any  # of a recipe as YAML has read it, of a flag as text; None for a flag that takes none
    place: str  # what a message calls it: `--data.batch_size`, `mine.yaml: data.batch_size`

    @property
    def is_flag(self) -> bool:
        return self.place.startswith("--")

    @property
    def word(self) -> str:
        """The flag as one word, which no parser can take for two."""
        return self.place if self.value is None else f"{self.place}={self.value}"

    @property
    def loaded(self) -> Any:
        """The value as YAML reads it; a text that is no YAML as it stands."""
        if not self.is_flag or not self.value:
            return self.value
        try:
            return yaml.safe_load(self.value)
        except Exception:  # YAML's own, and what its readers of numbers and dates meet
            return self.value


def given_settings(recipes: Mapping[str, Mapping[str, Any]], flags: Sequence[str]) -> list[Given]:
    """Every setting of recipes, by their paths, and of a command line, in order; UserError for a word that is none."""
    found = [
        Given(key, value, f"{path}: {key}") for path, settings in recipes.items() for key, value in _keys(settings)
    ]
    waiting = list(flags)
    while waiting:
        word = waiting.pop(0)
        if not re.match(r"--[A-Za-z_][\w.]*\+?(=|$)", word):
            raise UserError(f"'{word}' is no option of fit; they look like --data.root photos.")
        place, has_value, value = word.partition("=")
        key = place[2:].removesuffix("+")
        if not has_value and key not in SWITCHES and waiting and not waiting[0].startswith("--"):
            has_value, value = "=", waiting.pop(0)
        if not has_value and key not in WITHOUT_VALUE and not key.endswith(".help"):
            raise UserError(f"{place} has no value.")
        found.append(Given(key, value if has_value else None, place))
    return found


def last_given(given: Sequence[Given], key: str, default: Any = None) -> Any:
    """What a setting was given as the last time."""
    return next((item.loaded for item in reversed(given) if item.key == key), default)


def named(given: Sequence[Given], key: str) -> tuple[str, str]:
    """Where an optimizer was named the last time, and by which name; torch's AdamW when nowhere."""
    for item in reversed(given):
        if item.key in (key, f"{key}.class_path"):
            path = item.loaded.get("class_path") if isinstance(item.loaded, Mapping) else item.loaded
            if path is not None:
                return item.place, path
    return key, "torch.optim.AdamW"


def class_at(key: str, place: str, path: Any) -> type:
    """The class that a setting of CLASSES names; UserError when there is none, or it does not go with a fit."""
    from resnet_tl.training.trainer.trainer_checks import CALLBACKS  # with torch, which is to be imported here alone

    refused = REFUSED | CALLBACKS
    kind, home, base = CLASSES[key]
    path = str(path)
    top = getattr(import_module(home), base)
    short = {each.__name__: each for each in _subclasses(top)}
    found = object_at(path, place) if "." in path else short.get(path)
    if not (isinstance(found, type) and issubclass(found, top)):
        raise UserError(f"{place} is '{path}', which is no {kind}.{nearest(path.rpartition('.')[2], short)}")
    for name in [each.__name__ for each in inspect.getmro(found) if each.__name__ in refused]:
        raise UserError(f"{place}: {found.__name__} cannot be used in a fit: {refused[name]}.")
    return found


def check(given: Sequence[Given], sections: Mapping[str, type]) -> None:
    """Raises UserError for the first setting that does not exist or has a wrong value; `sections` by their classes."""
    ours = {f"{section}.{name}": of for section, kind in sections.items() for name, of in arguments(kind)[0].items()}
    ours = {key: argument for key, argument in ours.items() if key not in ELSEWHERE}
    known = [*OWN, *ours, *WITHOUT_VALUE, *CLASSES]
    for item in given:
        _check_key(item, known)
        if item.key in CLASSES or item.key not in ours | OWN:
            continue
        hint = OWN.get(item.key) or ours[item.key].annotation
        phase: Any = next((each for option in options(hint) for each in get_args(option) if is_dataclass(each)), None)
        for values in item.loaded if phase and isinstance(item.loaded, list) else []:
            if isinstance(values, Mapping):
                _check_arguments(item.place, phase, f"a {phase.__name__.lower()}", values)
        _check_value(item.place, item.value, hint, is_null_default=item.key in ours and ours[item.key].default is None)
    for key in CLASSES:
        _check_classes(key, [item for item in given if item.key == key or item.key.startswith(f"{key}.")])


def plain(message: str) -> str:
    """Another program's message on one line, without what it says to programmers."""
    start, _, errors = message.partition("Errors:\n")  # of jsonargparse: one for each type that a setting may have
    message = f"{start.splitlines()[0]} {errors.strip(' -')}" if errors else message
    message = message.replace("Parser key", "The setting").replace("Problem with given class_path ", "")
    return " ".join(re.split(r"\n\s*- |HINT: ", message)[0].replace("`", "").split())


def _check_key(item: Given, known: Sequence[str]) -> None:
    parts = item.key.split(".")
    if parts[-1] == "help" or any(".".join(parts[:length]) in known for length in range(1, len(parts) + 1)):
        return
    last_parts = {name.rpartition(".")[2]: name for name in reversed(known)}
    match = ELSEWHERE.get(item.key) or last_parts.get(item.key)
    clause = f" Did you mean '{match}'?" if match else nearest(item.key, known)
    if not clause and (clause := nearest(parts[-1], last_parts)):
        clause = f" Did you mean '{last_parts[clause.split(QUOTE)[1]]}'?"
    where, dashes = ("There", "--") if item.is_flag else (f"{item.place.removesuffix(item.key)}there", "")
    raise UserError(
        f"{where} is no setting '{dashes}{item.key}'.{clause.replace(QUOTE, QUOTE + dashes, 1)} "
        "`resnet-tl fit --help` shows the common ones, --help_all every one."
    )


def _check_value(place: str, value: Any, hint: Any, is_null_default: bool = False) -> None:
    """Raises UserError for a value of another type, unless only the parser can judge it."""
    words = describe(hint)
    if not words or (value is None and (is_null_default or NoneType in get_args(hint))):
        return
    if isinstance(value, Mapping) and not all(describe(option) for option in options(hint)):
        return  # it may describe a class, such as a strategy
    if value is None:
        raise UserError(f"{place} is null; it must be {words}.")
    if not fits(value, hint):
        text = str(value)
        shown = text if len(text) < 60 else f"{text[:60]}…"
        quoted = shown if shown[:1] in ("[", "{") else f"'{shown}'"
        raise UserError(f"{place} is {quoted}; it must be {words}.{nearest(shown, choices(hint))}")


def _check_arguments(place: str, kind: type, title: str, given: Mapping[str, Any]) -> None:
    """Raises UserError for what is no argument of a class such as SGD or a phase, or of another type."""
    known, is_all = arguments(kind)
    settings = {name: argument for name, argument in known.items() if name not in GIVEN_LATER}
    for name, value in given.items():
        if name in settings:
            argument = settings[name]
            _check_value(f"{place}: {name} of {title}", value, argument.annotation, argument.default is None)
        elif is_all:
            match = nearest(name, settings)
            raise UserError(f"{place}: {title} has no setting '{name}'; it has {listed(settings)}.{match}")


def _check_classes(key: str, given: Sequence[Given]) -> None:
    """Raises UserError for a class that is not there, for an argument that it does not have, or one that it lacks."""
    kind, place, seen = None, key, set(GIVEN_LATER)
    for item in given:
        place = f"--{key}" if item.is_flag else item.place
        argument = item.key.removeprefix(key).removeprefix(".").removeprefix("init_args.")
        if argument in ("", "class_path"):
            entries = item.loaded if isinstance(item.loaded, list) else [item.loaded]
        else:  # of an argument's own arguments only the parser knows
            entries = [{} if "." in argument or argument == "help" else {argument: item.value}]
        for entry in entries:
            spec = entry if isinstance(entry, Mapping) else {"class_path": entry}
            if entry is None or isinstance(entry, bool):
                kind = None
                continue
            if "class_path" in spec:
                kind = class_at(key, place, spec["class_path"])
            elif kind is None and key == "optimizer":  # which has a default, so that its name may follow
                kind = class_at(key, *named(given, key))
            elif kind is None:
                raise UserError(f"{item.place} was given without a name; put --{key} NAME before it.")
            values = spec.get("init_args", {name: value for name, value in spec.items() if name != "class_path"})
            if isinstance(values, Mapping):
                _check_arguments(place, kind, kind.__name__, values)
                seen.update(values)
    own = inspect.signature(kind).parameters.values() if kind else []
    needed = [one.name for one in own if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD]
    if kind and (missing := [name for name in needed if name not in seen]):
        words = " and ".join(f"--{key}.{name} VALUE" for name in missing)
        raise UserError(f"{place}: {kind.__name__} needs {', '.join(missing)}: add {words}.")


def _subclasses(kind: type) -> Iterator[type]:
    each: type
    for each in kind.__subclasses__():
        if not each.__name__.startswith("_"):
            yield each
        yield from _subclasses(each)


def _keys(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for section, value in settings.items():
        if section in GROUPS:
            yield from ((f"{section}.{key}", inner) for key, inner in value.items())
        else:
            yield section, value
