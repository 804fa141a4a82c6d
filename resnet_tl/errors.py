"""The error a user's mistake ends with: one plain sentence."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any, Self

from resnet_tl.wording import worded


class UserError(Exception):
    """A mistake in what the user gave: a path, a key, an image, a combination of options.

    Its text is one plain sentence that names the option or file, what was found, what is allowed and the way out.
    Options are written as flags, which `wording` turns into arguments for whoever calls us from Python. The command
    line prints it without a stack trace and exits with 2; a notebook shows it without one. What comes from a file's or
    class's name cannot steer the terminal: its control characters are written as text.
    """

    def __str__(self) -> str:
        return printable(worded(Exception.__str__(self)))  # whatever else it is

    def _render_traceback_(self) -> list[str]:
        """What IPython prints in place of a stack trace; `%tb` shows no more, `%debug` still finds the place."""
        return [f"{type(self).__name__}: {self}"]


class _SignatureOfInit:
    """What `help` and editors show of a class; early releases of Python 3.11 would show that of `__new__`."""

    def __get__(self, instance: object, kind: type) -> inspect.Signature:
        if instance is not None:  # which may be callable itself
            raise AttributeError("__signature__")
        signature = inspect.signature(kind.__init__)  # type: ignore[misc]
        return signature.replace(parameters=list(signature.parameters.values())[1:])


class NamesArguments:
    """Refuses an argument that a class does not have, and offers the nearest one."""

    __signature__ = _SignatureOfInit()

    def __new__(cls, *arguments: Any, **named: Any) -> Self:
        check_arguments(cls, named)
        return super().__new__(cls)


def check_arguments(kind: type, named: Iterable[str]) -> None:
    """Raises UserError for the name of an argument that a class does not have, and offers the nearest one."""
    known = inspect.signature(kind.__init__).parameters  # type: ignore[misc]
    is_open = any(parameter.kind == parameter.VAR_KEYWORD for parameter in known.values())
    for name in () if is_open else set(named) - known.keys():
        raise UserError(f"{kind.__name__} has no argument '{name}'.{nearest(name, known)}")


def check_number(setting: str, value: Any, is_whole: bool = False) -> None:
    """Raises UserError for a value that is no number, or no whole one: a plain caller has no parser."""
    if not isinstance(value, Integral if is_whole else Real):
        raise UserError(f"{setting} is {value!r}; it must be a {'whole ' * is_whole}number.")


CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that steer a terminal or turn the text around, and bytes that are no UTF-8: no name needs them."""


def printable(text: object) -> str:
    r"""Text from a stranger as a terminal may be given it: control characters as \x1b, line breaks as they are."""
    return CONTROLS.sub(lambda found: found[0] if found[0] in "\n\t" else ascii(found[0])[1:-1], str(text))


def nearest(word: str, choices: Iterable[str]) -> str:
    """A clause such as `` Did you mean 'head'?``, or nothing when no choice is close to `word`.

    Upper and lower case are the same; what begins with `word` is closer than any other. What is the same by rule, the
    dashes of an option and the section of a setting (`data.`), brings nothing closer, and a short word has to be met
    more closely: half of its letters are in many others.
    """
    bare = {str(choice).lower().lstrip("-"): str(choice) for choice in choices}
    word = str(word).lower().lstrip("-")
    section = word[: word.rfind(".") + 1]
    own = {choice.removeprefix(section): full for choice, full in bare.items() if choice.startswith(section)}
    # Where no choice has the section, that may be what is wrong.
    own, name = (own, word.removeprefix(section)) if own else (bare, word)
    longer = [choice for choice in own if len(name) > 2 and choice.startswith(name)]
    matches = longer or get_close_matches(name, own, n=1, cutoff=0.66 if len(name) < 5 else 0.6)
    return f" Did you mean '{own[matches[0]]}'?" if matches else ""


def listed(names: Iterable[object], most: int = 10) -> str:
    """Names as a message gives them, `a, b, c`; where there are more than `most`, the first ones `and 90 more`.

    A name that holds a line break stays in the line.
    """
    texts = [CONTROLS.sub(lambda found: ascii(found[0])[1:-1], str(name)) for name in names]
    rest = f" and {len(texts) - most:,} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + rest


def reason_of(error: BaseException | None) -> str:
    """What an error of any kind says, on one line and without a full stop."""
    if isinstance(error, ZeroDivisionError):
        return "a number that it divides by is 0"
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
