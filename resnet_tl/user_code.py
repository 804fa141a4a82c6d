"""What is the user's own, by its dotted name: networks, transforms, losses, metrics."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from resnet_tl.errors import UserError, nearest, reason_of

_allowed: dict[str, None] = {}  # a set that keeps its order


def allow(module: str) -> None:
    """Imports a module named by `--import`, so that a bundle may use what is in it; UserError where it cannot."""
    _import(module, "--import")
    _allowed[module] = None


def import_words() -> list[str]:
    """The `--import` words of this process, for another one that is to find the same code."""
    return [word for module in _allowed for word in ("--import", module)]


def is_allowed(path: str) -> bool:
    """Whether `module.Name` lies in a module that was allowed: a bundle from a stranger may name any code."""
    return path.rpartition(".")[0] in _allowed


def object_at(path: str, setting: str) -> Any:
    """What `module.Name` in a recipe or flag stands for, in the current folder too; UserError where there is none."""
    home, _, name = path.rpartition(".")
    if not home or not all(part.isidentifier() for part in path.split(".")):
        raise UserError(f"{setting} is '{path}'; it must be a dotted name such as my_module.MyClass.")
    module = _import(home, f"{setting} is '{path}'")
    if not hasattr(module, name):
        raise UserError(f"{setting} is '{path}', but {home} has no '{name}'.{nearest(name, vars(module))}")
    return getattr(module, name)


def made(spec: str | dict[str, Any], setting: str, **given: Any) -> Any:
    """The object of `module.Name`, or of a spec with `init_args`, and these arguments; UserError where it refuses."""
    path, arguments = split(spec, setting)
    make = object_at(path, setting)
    return attempt(f"{setting}: {path} cannot be made", lambda: make(**{**arguments, **given}))


def attempt(what: str, run: Callable[[], Any]) -> Any:
    """What a stranger's code gives; UserError with `what` and the reason for whatever it raises."""
    try:
        return run()
    except UserError:
        raise
    except Exception as error:  # of any kind
        raise UserError(f"{what}: {reason_of(error)}.") from error


def split(spec: str | dict[str, Any], setting: str) -> tuple[str, dict[str, Any]]:
    """The dotted name and the arguments of a spec; UserError for anything else than `made` takes."""
    if isinstance(spec, str):
        return spec, {}
    arguments = spec.get("init_args") or {}
    if not isinstance(spec.get("class_path"), str) or set(spec) - {"class_path", "init_args"}:
        raise UserError(
            f"{setting} is {spec}; it must be module.Name, or {{class_path: module.Name, init_args: {{...}}}}."
        )
    return spec["class_path"], dict(arguments)


def plain_values(given: Any) -> Any:
    """Objects of the user's own by their names, for hyperparameters that are saved; what is plain stays."""
    if isinstance(given, list | tuple):
        return [plain_values(one) for one in given]
    if given is None or isinstance(given, str | dict):
        return given
    kind = given if hasattr(given, "__qualname__") else type(given)
    return f"{kind.__module__}.{kind.__qualname__}"


def _import(name: str, where: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # last: no file there takes the place of an installed package
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise UserError(f"{where}: there is no module '{error.name}', here or installed.") from error
        raise UserError(f"{where}: the module '{name}' needs '{error.name}', which is not installed.") from error
    except Exception as error:  # of any kind: the code may be anyone's
        raise UserError(f"{where}: the module '{name}' cannot be imported: {type(error).__name__}: {error}.") from error
