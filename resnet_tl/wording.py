"""How a message names an option: by its flag on the command line, by its argument in Python.

Messages are written for the command line: `data.views` is an option, `--data.views 4` a value to give it. To whoever
calls our classes from Python the same sentence says `views` and `views=4`. A command, `resnet-tl fit ...`, stays one.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_is_for_command_line = False
_arguments: dict[str, frozenset[str]] = {}  # of the classes that the sections `data` and `model` of a recipe set

_COMMAND = re.compile(r"(resnet-tl [^`\n]*)")
_SECTIONS = r"data|model|trainer\.callbacks|trainer|optimizer|lr_scheduler"
_VALUE = r"\[[^\]]*\]|'[^']*'|[^\s,;()`-][^\s,;()`]*"
_FLAG = re.compile(rf"--(?:({_SECTIONS})\.)?(\w+)(?:[ =]({_VALUE}))?( (?=--))?")
# No part of a path, and no call such as `data.use(...)`.
_OPTION = re.compile(r"(?<![\w./\\-])(data|model|trainer\.callbacks|trainer|optimizer)\.(\w+)(?![\w/\\(]|\.\w)")
_ANSWERS = ("coverage", "per_class", "min_confidence")
_SHORT = ("on_bad_image", "positive", "clip", "seed", "tta", "average", *_ANSWERS)  # flags that are arguments too
_PROSE = re.compile(
    "and|are|as|at|be|but|by|can|for|from|has|if|in|instead|is|it|keeps|needs|of|on|or|so|takes|than|that|then|to|too|"
    "where|which|with"
)
"""Words that follow a flag that was given no value."""
_SUFFIXES = ("json", "zip", "onnx", "py", "pkl", "ckpt")
"""Of files, which may well be called model."""
_LITERALS = {"true": "True", "false": "False", "null": "None"}


@contextmanager
def for_command_line(is_so: bool = True) -> Iterator[None]:
    """Within it messages name flags; or arguments, if not `is_so`."""
    global _is_for_command_line
    before, _is_for_command_line = _is_for_command_line, is_so
    try:
        yield
    finally:
        _is_for_command_line = before


def names_arguments(section: str, kind: Callable) -> None:
    """Makes known which class the section `data` or `model` sets: no file such as data.csv is taken for an option."""
    _arguments[section] = frozenset(inspect.signature(kind).parameters)


def worded(message: str) -> str:
    """A message, written for the command line, in the words of whoever it is for."""
    if _is_for_command_line:
        return message
    parts = _COMMAND.split(message)
    parts[::2] = [_OPTION.sub(_argument, _FLAG.sub(_assignment, part)) for part in parts[::2]]
    return "".join(parts)


def _assignment(found: re.Match[str]) -> str:
    section, name, value, more = found.groups()
    if section is None and name not in _SHORT:
        return found[0]
    full = f"{section}.{name}" if section == "lr_scheduler" or (section == "optimizer" and name != "lr") else name
    if value is None or _PROSE.fullmatch(value):
        return full + (f" {value}" if value else "") + (more or "")
    end = "" if value[0] in "['" else value[len(value.rstrip(".?:")) :]
    given = f"{full}={_literal(value.removesuffix(end))}"
    return (f"Trainer({given})" if section == "trainer" else given) + end + (", " if more else "")


def _argument(found: re.Match[str]) -> str:
    section, name = found.groups()
    is_known = name == "lr" if section == "optimizer" else name in _arguments.get(section, (name,))
    return name if is_known and name not in _SUFFIXES else found[0]


def _literal(value: str) -> str:
    """As Python writes it."""
    if value in _LITERALS:
        return _LITERALS[value]
    if value[0] == "[" or re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", value):
        return value
    return '"' + value.strip("'") + '"'
