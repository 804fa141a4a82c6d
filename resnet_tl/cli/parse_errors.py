"""What recipes and flags of `fit` set: unknown names end in one sentence, and so does what the parser refuses."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import NoneType
from typing import Any, get_args, get_type_hints

import yaml

from resnet_tl.cli.trainer_settings import REFUSED
from resnet_tl.errors import UserError, nearest
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
WITHOUT_VALUE = ("forecast", "help", "print_config")
# What our classes, other programs, and older versions of Lightning, call it.
ELSEWHERE = {
    "data.seed": "seed",
    "model.seed": "seed",
    "model.optimizer": "optimizer",
    "model.lr_scheduler": "lr_scheduler",
    "config": "recipe",
    "ckpt_path": "resume",
    "epochs": "trainer.max_epochs",
    "gpus": "trainer.devices",
    "lr": "optimizer.lr",
    "learning_rate": "optimizer.lr",
    "trainer.resume_from_checkpoint": "resume",
}


@dataclass(frozen=True)
class Given:
    """A setting as its user gave it.

    Args:
        key: such as `data.batch_size`; of a flag it may go on into the value, such as `optimizer.lr`.
        value: of a recipe as YAML has read it, of a flag as text; None for a flag that takes none.
        place: what a message calls it: `--data.batch_size`, `mine.yaml: data.batch_size`.
    """

    key: str
    value: Any
    place: str

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
    """Every setting of some recipes, by their paths, and of the words of a command line, in order.

    Raises:
        UserError: a word is no flag, or a flag has no value.
    """
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
        if not has_value and key != "forecast" and waiting and not waiting[0].startswith("--"):
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
    kind, home, base = CLASSES[key]
    path = str(path)
    top = getattr(import_module(home), base)
    short = {each.__name__: each for each in _subclasses(top)}
    found = object_at(path, place) if "." in path else short.get(path)
    if not (isinstance(found, type) and issubclass(found, top)):
        raise UserError(f"{place} is '{path}', which is no {kind}.{nearest(path.rpartition('.')[2], short)}")
    for name in [each.__name__ for each in inspect.getmro(found) if each.__name__ in REFUSED]:
        raise UserError(f"{place}: {found.__name__} cannot be used in a fit: {REFUSED[name]}.")
    return found


def check_names(given: Sequence[Given], settings: Iterable[str]) -> None:
    """Raises UserError for the first setting that does not exist, or names a class that does not."""
    known = [*WITHOUT_VALUE, *CLASSES, *(key for key in settings if key not in ELSEWHERE)]
    for item in given:
        _check_key(item, known)
        entries = item.loaded if isinstance(item.loaded, list) else [item.loaded]
        for entry in entries if item.key in CLASSES else ():
            path = entry.get("class_path") if isinstance(entry, Mapping) else entry
            if isinstance(path, str):
                class_at(item.key, item.place, path)


def check_nulls(given: Sequence[Given], sections: Mapping[str, type]) -> None:
    """Raises UserError for a null where none may be, which jsonargparse takes; `sections` has the class of each."""
    for item in given:
        section, _, name = item.key.partition(".")
        hint = get_type_hints(vars(sections[section])["__init__"]).get(name) if section in sections else None
        if item.loaded is None and hint and NoneType not in get_args(hint):
            raise UserError(f"{item.place} is null; leave it out for its default.")


def refusal(message: str, given: Sequence[Given]) -> str:
    """What jsonargparse refuses, in one sentence that begins with the flag, or the recipe and its setting."""
    keys = re.findall(r'Parser key "([^"]+)"', message)
    *_, name, problem = ["", *re.split(r"Problem with given class_path '(.*)':", message)]
    problem = re.sub(r'Parser key "[^"]+":', "", problem)
    if not keys:
        return plain(problem)
    if subtypes := re.search(r"Subtypes: \[(.*)\]", problem):
        problem = f"Expected one of {subtypes[1]}"
    elif not (problem := problem.strip()).startswith(("Expected a ", "Option ")):
        problem = problem.splitlines()[0]
    problem = re.sub(r"<class '([^']*)'>", r"\1", problem.splitlines()[0]).replace("NoneType", "null")
    problem = re.sub(r"\b(a )?(typing|torch|lightning|resnet_tl)(\.\w+)*\.(?=\w)", "", problem)
    where = next((item.place for item in reversed(given) if f"{item.key}.".startswith(f"{keys[0]}.")), keys[0])
    of = [name.rpartition(".")[2], *keys[1:]] if name else keys[1:]
    return plain(": ".join([where, *of, problem]))


def plain(message: str) -> str:
    """Another program's message on one line, without what it says to programmers."""
    return " ".join(message.partition("HINT: ")[0].replace("`", "").split())


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
