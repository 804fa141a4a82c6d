"""An accuracy with what must stand beside it: its interval, how many images it is of, and what it does not cover."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_tl.errors import listed
from resnet_tl.evaluation.intervals import images_for, wilson
from resnet_tl.evaluation.words import NAMES, SPLITS, interval, metric_name, metric_value, percent

if TYPE_CHECKING:
    import pandas as pd

HANDFUL = 30
"""Images below which an accuracy says next to nothing: one more mistake moves it by several points."""
STEPS = (0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
"""Half widths of an interval that one may wish for."""


@dataclass(frozen=True)
class Accuracy:
    """How many of some labelled images were judged correctly."""

    images: int  # labelled ones
    correct: int
    low: float  # with `high` the 95 % interval of the share, Wilson's
    high: float
    most_common: str  # the class with most of the images
    most_common_images: int  # what one who always says `most_common` would get right
    classes: int  # how many the network knows
    unseen: tuple[str, ...]  # those of which there is no image

    @classmethod
    def of(cls, table: pd.DataFrame) -> Accuracy:
        """That of a prediction table; at least one row is labelled."""
        from resnet_tl.evaluation.predictions import classes_of, label_numbers
        from resnet_tl.evaluation.predictions import probabilities as probabilities_of

        labels, names = label_numbers(table), classes_of(table)
        is_labelled = labels >= 0
        return cls.of_numbers(labels[is_labelled], probabilities_of(table).argmax(axis=1)[is_labelled], names)

    @classmethod
    def of_numbers(cls, labels: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> Accuracy:
        """That of one or more images, by the numbers (N,) of their classes, whose names these are."""
        counts = np.bincount(labels, minlength=len(names))
        images, correct = len(labels), int((labels == predicted).sum())
        unseen = tuple(name for name, count in zip(names, counts, strict=True) if not count)
        common = int(counts.argmax())
        return cls(images, correct, *wilson(correct, images), names[common], int(counts[common]), len(names), unseen)

    @property
    def share(self) -> float:
        """Of the images that are correct."""
        return self.correct / self.images

    def __str__(self) -> str:
        return interval(self.share, self.low, self.high)

    def facts(self) -> dict[str, Any]:
        """Plain values, with the warnings in words."""
        return asdict(self) | {"unseen": list(self.unseen), "warnings": self.warnings()}

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Accuracy:
        """What `facts` gave."""
        return cls(**{field.name: facts[field.name] for field in fields(cls)} | {"unseen": tuple(facts["unseen"])})

    def warnings(self) -> list[str]:
        """Why the number is not to be relied on: sentences, none where it may be."""
        found = []
        if self.images < HANDFUL:
            images = "1 image" if self.images == 1 else f"{self.images} images"
            found.append(f"{images} alone: one more mistake moves the accuracy by {100 / self.images:.1f} points.")
        if self.unseen:
            one = "classes has" if len(self.unseen) == 1 else "classes have"
            found.append(
                f"{len(self.unseen)} of the {self.classes} {one} no image, so that nothing is known of "
                f"{listed(self.unseen, 5)}."
            )
        return found

    def wish(self) -> str:
        """How many images it would take to know the accuracy noticeably better."""
        half = (self.high - self.low) / 2
        step = next((step for step in STEPS if step < 0.8 * half), STEPS[-1])
        needed = float(f"{images_for(self.share, step):.2g}")
        return f"To know the accuracy within ±{100 * step:g} points: about {needed:,.0f} validation images."

    def baseline(self) -> str:
        """What the accuracy is to be compared with."""
        return f"Always saying {self.most_common} would reach {percent(self.most_common_images / self.images)}."


def number_rows(
    metrics: Mapping[str, Mapping[str, float]], accuracies: Mapping[str, Accuracy]
) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table of every metric of some splits; the accuracy with its 95 % interval."""
    rows = [["images", *(f"{accuracies[split].images:,}" for split in metrics)]]
    own = [name for numbers in metrics.values() for name in numbers if name not in NAMES]
    for name in dict.fromkeys((*NAMES, *own)):
        if name == "accuracy":
            rows.append(["accuracy [95 % interval]", *(str(accuracies[split]) for split in metrics)])
        elif any(name in numbers for numbers in metrics.values()):
            cells = (metric_value(name, numbers[name]) if name in numbers else "" for numbers in metrics.values())
            rows.append([metric_name(name), *cells])
    return ["", *(SPLITS[split] for split in metrics)], rows


def warning_lines(accuracies: Mapping[str, Accuracy]) -> list[str]:
    """What must be said beside the accuracies of some splits."""
    return [
        f"Careful, {SPLITS[split]}: {warning}"
        for split, accuracy in accuracies.items()
        for warning in accuracy.warnings()
    ]
