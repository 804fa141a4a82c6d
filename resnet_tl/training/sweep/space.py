"""The space of a sweep: which settings are varied, and over which values.

`KEY=A,B,C` are choices, `KEY=LOW..HIGH` is a range, `KEY=LOW..HIGH:log` one in which each factor counts the same. A
YAML file holds the same, one key on each line.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_tl.errors import UserError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Value = str | int | float
DIGITS = 4
"""That count of a number that is drawn: more would not change a result that matters, and nobody could read them."""
_EXAMPLES = "such as optimizer.lr=1e-4..1e-1:log or model.mode=head,last_stages"


@dataclass(frozen=True)
class Dimension:
    """One setting and its values: `choices`, as they are written, or all numbers from `low` to `high`."""

    key: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    is_log: bool = False
    is_whole: bool = False  # whole numbers alone

    def __str__(self) -> str:
        ends = f"{self.written(self.low)}..{self.written(self.high)}{':log' * self.is_log}"
        return f"{self.key}={','.join(self.choices) or ends}"

    @property
    def samples(self) -> tuple[str, ...]:
        """Values that say whether all of them are allowed: every choice, or both ends."""
        return self.choices or (self.written(self.low), self.written(self.high))

    @property
    def count(self) -> float:
        """How many values there are; infinite for a range of any numbers."""
        return len(self.choices) or (self.high - self.low + 1 if self.is_whole else math.inf)

    def written(self, value: Value) -> str:
        """A value as a flag of `fit` takes it."""
        if isinstance(value, str):
            return value
        return str(int(value)) if self.is_whole else repr(float(value))

    def rounded(self, value: Value) -> Value:
        """A value that was drawn, with few digits and within the range."""
        if isinstance(value, str) or self.is_whole:
            return value
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)

    def distribution(self) -> BaseDistribution:
        """The same for optuna."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices:
            return CategoricalDistribution(self.choices)
        if self.is_whole:
            return IntDistribution(int(self.low), int(self.high), log=self.is_log)
        return FloatDistribution(self.low, self.high, log=self.is_log)

    def of_any_numbers(self) -> Dimension:
        """The same range with the numbers between the whole ones."""
        return replace(self, is_whole=False)


def parse_space(words: Sequence[str]) -> list[Dimension]:
    """The dimensions that words `KEY=VALUES`, or names of YAML files, give; UserError for what is none."""
    found: list[Dimension] = []
    for word in words:
        for key, text, choices in [_of_word(word)] if "=" in word else _of_file(Path(word)):
            if key in [dimension.key for dimension in found]:
                raise UserError(f"--space names {key} twice; leave one of them out.")
            found.append(_dimension(key, text, choices))
    return found


def _of_word(word: str) -> tuple[str, str, list[str]]:
    key, _, text = word.partition("=")
    return key.strip().removeprefix("--"), text.strip(), [choice.strip() for choice in _split(text)]


def _of_file(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    import yaml

    if not path.is_file():
        raise UserError(f"--space {path} is neither KEY=VALUES, {_EXAMPLES}, nor a YAML file with the same.")
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except Exception as error:  # YAML's own, bytes that are no text, and what its readers of numbers and dates meet
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise UserError(f"--space {path} is not a YAML file: {problem}.") from None
    if not isinstance(settings, dict) or not settings:
        raise UserError(f"--space {path} must hold one setting on each line, such as optimizer.lr: 1e-4..1e-1:log.")
    for key, value in settings.items():
        if isinstance(value, dict):
            raise UserError(
                f"--space {path}: write {key} and what is below it in one, such as {key}.{next(iter(value))}."
            )
        choices = [_written(choice) for choice in value] if isinstance(value, list) else _split(_written(value))
        yield str(key), _written(value), [choice.strip() for choice in choices]


def _written(value: Any) -> str:
    """A value of a YAML file as a flag takes it."""
    return value if isinstance(value, str) else json.dumps(value)


def _split(text: str) -> list[str]:
    """The parts between commas that stand in no brackets and no quotation marks."""
    return re.findall(r"(?:\[[^\]]*\]|\{[^}]*\}|\"[^\"]*\"|'[^']*'|[^,])+", text)


def _dimension(key: str, text: str, choices: Sequence[str]) -> Dimension:
    place = f"--space {key}={text}"
    if ".." in text and len(choices) < 2:
        return _range(place, key, text)
    if len(choices) < 2:
        given = f"has one value; give it as --{key} {text}" if text else "has no value"
        raise UserError(f"{place} {given}, or name several, {_EXAMPLES}.")
    if twice := next((choice for choice in choices if choices.count(choice) > 1), None):
        raise UserError(f"{place} names {twice} twice; leave one of them out.")
    return Dimension(key, tuple(choices))


def _range(place: str, key: str, text: str) -> Dimension:
    ends, _, scale = text.partition(":")
    first, _, last = ends.partition("..")
    try:
        low, high = float(first), float(last)
        if scale not in ("", "log") or not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError
    except ValueError:
        raise UserError(f"{place} is no range; it must be LOW..HIGH or LOW..HIGH:log, two numbers.") from None
    if low >= high:
        raise UserError(f"{place} is empty; the smaller number comes first.")
    if scale and low <= 0:
        raise UserError(f"{place} begins at {first}; a range with :log must begin above 0.")
    is_whole = all(re.fullmatch(r"\s*[+-]?\d+\s*", end) for end in (first, last))
    return Dimension(key, low=low, high=high, is_log=bool(scale), is_whole=is_whole)
