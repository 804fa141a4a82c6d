"""Abstention: an answer only where the network is sure enough, and what that costs and gains.

A selective classifier answers where its largest probability is high, and is judged by how much it answers and how often
it is right then (El-Yaniv and Wiener 2010, On the Foundations of Noise-free Selective Classification; Geifman and
El-Yaniv 2017, arXiv 1705.08500).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from resnet_tl.errors import UserError, check_number
from resnet_tl.evaluation.intervals import wilson
from resnet_tl.evaluation.predictions import probabilities as probabilities_of
from resnet_tl.evaluation.uncertainty.conformal import with_sets
from resnet_tl.evaluation.uncertainty.judged import Judged
from resnet_tl.evaluation.words import counted, interval, percent

TARGETS = (0.9, 0.95, 0.98, 0.99, 0.995)
"""Accuracies of what is answered that one may wish for."""


@dataclass(frozen=True)
class Answers:
    """How a prediction table says more than one class, or none: `said` is what that is worth, in sentences."""

    limits: np.ndarray | None = None  # (C,) of prediction sets
    min_confidence: float | None = None
    said: tuple[str, ...] = ()

    def of(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table with sets, and with an empty `predicted` where the largest probability is too small."""
        if self.limits is not None:
            table = with_sets(table, self.limits)
        if self.min_confidence is not None:
            is_sure = probabilities_of(table).max(axis=1) >= self.min_confidence
            table = table.assign(predicted=table["predicted"].where(is_sure, ""))
        return table


def risk_coverage(table: pd.DataFrame, temperature: float = 1.0) -> pd.DataFrame:
    """The risk-coverage curve of a run's validation table, whose temperature this is, from all answered to the surest.

    Columns: `min_confidence`, ascending; `answered`, the share of the images whose largest probability is not below it;
    `accuracy` of these, with its 95 % interval `low`, `high`. No image has a part in its own temperature.
    """
    found = _curve(Judged.of_validation(table, temperature))
    # `intervals.wilson` of all rows at once.
    images, correct, z2 = found["images"], found["correct"], 1.959964**2
    middle = (correct + z2 / 2) / (images + z2)
    half = np.sqrt(z2 * (correct * (images - correct) / images + z2 / 4)) / (images + z2)
    return found[["min_confidence", "answered", "accuracy"]].assign(low=middle - half, high=middle + half)


def confidence_reaching(judged: Judged, accuracy: float) -> tuple[str, float] | None:
    """The least confidence from which answers are that accurate, and the share answered; None for none.

    It is written with as few digits, three or more, as leave out the same images. All higher ones reach the accuracy as
    well, but for those that answer fewer than 30 images.
    """
    curve = _curve(judged)
    curve = curve[curve["images"] >= 30]
    below = np.flatnonzero(curve["accuracy"] < accuracy)
    place = below[-1] + 1 if len(below) else 0
    if place == len(curve):
        return None
    lower, least = (0.0, *curve["min_confidence"])[place : place + 2]
    return _between(lower, least), float(curve["answered"].iloc[place])


def selective_words(judged: Judged, min_confidence: float) -> str:
    """`answers 91.2 % of 810 images, 96.4 % [94.8, 97.5] of them correctly (of all: 92.5 %)`."""
    is_answered = judged.probability >= min_confidence
    answered, correct = int(is_answered.sum()), int((is_answered & judged.is_correct).sum())
    if not answered:
        return f"answers none of {counted(len(judged), 'image')}"
    share = interval(correct / answered, *wilson(correct, answered))
    return (
        f"answers {percent(answered / len(judged))} of {counted(len(judged), 'image')}, {share} of them correctly "
        f"(of all: {percent(judged.is_correct.mean())})"
    )


def reaching_words(judged: Judged) -> str:
    """How accurate answers are from which `min_confidence` on; "" where none of `TARGETS` is reached that way."""
    overall = judged.is_correct.mean() if len(judged) else 1.0
    found = [confidence_reaching(judged, target) for target in TARGETS if target > overall]
    parts = []
    for least, answered in dict.fromkeys(filter(None, found)):
        accuracy = judged.is_correct[judged.probability >= float(least)].mean()
        parts.append(f"{percent(accuracy)} from {least} on ({percent(answered)} answered)")
    return f"Reached on these images: {', '.join(parts)}." if parts else ""


def check_share(option: str, value: float | None) -> None:
    """UserError for a share that is not between 0 and 1."""
    if value is None:
        return
    check_number(option, value)
    if not 0 < value < 1:
        meant = f" Did you mean {value / 100:g}?" if 50 <= value < 100 else ""
        raise UserError(f"{option} is {value:g}; it must be over 0 and under 1.{meant}")


def _between(lower: float, upper: float) -> str:
    """A number above `lower` and not above `upper`, nor 1, with as few digits as may be, but three at least."""
    for digits in range(3, 18):
        text = f"{min(math.floor(upper * 10**digits), 10**digits - 1) / 10**digits:.{digits}f}"
        if lower < float(text) <= upper:
            return text
    return repr(upper)  # there is none between neighbouring numbers


def _curve(judged: Judged) -> pd.DataFrame:
    """One row for each different largest probability, ascending, with the counts of what is answered from it on."""
    order = np.argsort(judged.probability, kind="stable")
    sure, correct = judged.probability[order], judged.is_correct[order]
    first = np.flatnonzero(np.diff(sure, prepend=-1.0) > 0)  # of equal ones
    images, right = len(sure) - first, correct[::-1].cumsum()[::-1][first]
    columns = {"min_confidence": sure[first], "answered": images / max(1, len(sure)), "accuracy": right / images}
    return pd.DataFrame({**columns, "images": images, "correct": right})
