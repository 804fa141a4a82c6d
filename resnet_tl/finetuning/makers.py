"""What an optimizer or a scheduler is made by: its name, class, a partial of it, a description, or a function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.optim import Optimizer, lr_scheduler

from resnet_tl.errors import UserError, nearest
from resnet_tl.user_code import object_at, split

# Setting -> torch's module, the base of its classes, one of them as an example.
HOMES: dict[str, tuple[Any, type, str]] = {
    "optimizer": (torch.optim, Optimizer, "torch.optim.SGD"),
    "lr_scheduler": (lr_scheduler, lr_scheduler.LRScheduler, "torch.optim.lr_scheduler.StepLR"),
}
FORGOTTEN = "function"
"""The key under which hyperparameters name what a checkpoint cannot hold, such as a function."""


@dataclass(frozen=True)
class Maker:
    """Makes an optimizer from parameter groups, or a scheduler from an optimizer."""

    # A class, or a function whose arguments are its own affair; None when a checkpoint names it alone
    kind: Callable[..., Any] | None
    arguments: dict[str, Any] = field(default_factory=dict)  # as given, of a class
    name: str = ""  # what a message calls it

    @property
    def is_class(self) -> bool:
        return isinstance(self.kind, type)

    def __call__(self, given: Any, **more: Any) -> Any:
        """Makes it, with these arguments in place of its own; UserError where nothing is known but its name."""
        if self.kind is None:
            raise UserError(
                f"{self.name} was given in Python, and no checkpoint can hold it: give it again, as in "
                "ImageClassifier.load_from_checkpoint(file, optimizer=...)."
            )
        return self.kind(given, **(self.arguments | more))

    def with_arguments(self, **more: Any) -> Maker:
        return replace(self, arguments=self.arguments | more)

    def without(self, argument: str) -> Maker:
        return replace(self, arguments={name: value for name, value in self.arguments.items() if name != argument})

    def default(self, argument: str) -> Any:
        """What an argument is where nobody gives it; None where there is none, or nobody knows."""
        found = inspect.signature(self.kind).parameters.get(argument) if self.kind else None
        return None if found is None or found.default is found.empty else found.default

    def plain(self) -> dict[str, Any]:
        """Plain values for hyperparameters: an importable class is found again by them, all else is named."""
        path = f"{self.kind.__module__}.{self.kind.__qualname__}" if isinstance(self.kind, type) else self.name
        if not self.is_class or path.startswith("__main__.") or "<" in path:
            return {FORGOTTEN: path}
        return {"class_path": path, "init_args": dict(self.arguments)}


def maker_of(given: Any, setting: str) -> Maker | None:
    """What a user has given as `optimizer` or `lr_scheduler`, the setting; None for None, UserError for all else.

    Given is a name such as SGD or module.Name, `{class_path, init_args}`, a class, a `functools.partial` of one, or a
    function that is called with the parameter groups, or with the optimizer.
    """
    if given is None or isinstance(given, Maker):
        return given
    _, base, example = HOMES[setting]
    if isinstance(given, Mapping) and set(given) == {FORGOTTEN}:
        return Maker(None, {}, given[FORGOTTEN])
    if isinstance(given, str | Mapping):
        path, arguments = split(given if isinstance(given, str) else dict(given), setting)
        return _of_class(_class_at(path, setting), arguments, setting)
    if isinstance(given, functools.partial) and isinstance(given.func, type) and not given.args:
        return _of_class(given.func, given.keywords, setting)
    if isinstance(given, type):
        return _of_class(given, {}, setting)
    if callable(given):
        function = given.func if isinstance(given, functools.partial) else given
        name = getattr(function, "__qualname__", type(function).__name__)
        return Maker(given, {}, f"{getattr(function, '__module__', '')}.{name}")
    kind = type(given).__name__
    if isinstance(given, base):
        raise UserError(
            f"{setting} is made already, a {kind}, but our parameter groups are made when a fit begins: give the "
            f"class, {setting}={kind}, functools.partial({kind}, ...), or a function that makes it."
        )
    raise UserError(f"{setting} is of type {kind}; it must be a class such as {example}, its name, or a partial.")


def _of_class(kind: Any, arguments: Mapping[str, Any], setting: str) -> Maker:
    _, base, example = HOMES[setting]
    if not (isinstance(kind, type) and issubclass(kind, base)):
        name = getattr(kind, "__qualname__", kind)
        raise UserError(f"{setting} is {name}, which is no {base.__name__} of torch, such as {example}.")
    return Maker(kind, dict(arguments), kind.__name__)


def _class_at(path: str, setting: str) -> Any:
    """A class by its dotted name, or by torch's own name of it in upper or lower case."""
    if "." in path:
        return object_at(path, setting)
    home = HOMES[setting][0]
    names = [name for name, one in vars(home).items() if isinstance(one, type)]
    found = next((name for name in names if name.lower() == path.lower()), None)
    if found is None:
        raise UserError(f"{setting} is '{path}', which torch does not have.{nearest(path, names)}")
    return getattr(home, found)
