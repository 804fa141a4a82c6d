"""Whether a model predicts here what it predicted where it was made, image by image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from resnet_tl.errors import listed
from resnet_tl.evaluation.predictions import classes_of, label_numbers, probabilities

KEPT_BYTES = 16
"""Of the SHA-256 of an image's file: enough to tell images apart."""
TOLERANCE, ROUGH_TOLERANCE = 0.0001, 0.03
"""Of a probability: in float32 from CPU to CPU; where either computes in 16 bits or on a GPU. docs/across_machines.md
says what was measured."""


class Answer(NamedTuple):
    """What a network gave for an image, before any calibration."""

    predicted: str
    probability: float


def own_arrays(table: pd.DataFrame, hashes: np.ndarray) -> dict[str, np.ndarray]:
    """Which images of a prediction table `Judged.of` keeps, by the hashes (N, 32) of their files, and what they got.

    `content`, the beginning of each hash, (n, 16) uint8; `own_probability`, of what was predicted and not calibrated,
    (n,) float64.
    """
    shares = probabilities(table)
    is_known = (label_numbers(table) >= 0) & np.isfinite(shares).all(axis=1)
    return {
        "content": np.ascontiguousarray(hashes[is_known, :KEPT_BYTES]),
        "own_probability": shares[is_known].max(axis=1),
    }


@dataclass(frozen=True)
class Repeated:
    """How many images were compared, of those that were judged when the model was made, and how they differ."""

    images: int
    of: int
    largest: float  # difference of a probability
    differing: tuple[str, ...]  # ids of those that differ by more than the tolerance
    other_class: int  # how many of these
    tolerance: float

    def words(self) -> str:
        """In a sentence."""
        if not self.differing:
            said = f"{self.largest:.7f}".rstrip("0").rstrip(".") if self.largest >= 1e-7 else f"{self.largest:.1g}"
            return (
                f"The same as when the model was made: {self.images:,} of {self.of:,} images, "
                f"largest difference of a probability {said}."
            )
        return (
            f"Not the same as when the model was made: {len(self.differing):,} of {self.images:,} images differ by "
            f"more than {self.tolerance:g} in a probability ({listed(self.differing, 3)}), {self.largest:.4f} at most; "
            f"{self.other_class:,} of them get another class."
        )


def answers(table: pd.DataFrame) -> list[Answer]:
    """Those of a prediction table's rows."""
    names, shares = classes_of(table), probabilities(table)
    return [Answer(names[place], row[place]) for place, row in zip(shares.argmax(axis=1), shares, strict=True)]


def repeated(
    table: pd.DataFrame, keys: Sequence[Hashable], known: Sequence[Hashable], made: Sequence[Answer], tolerance: float
) -> Repeated | None:
    """Compares a table, whose images have these keys, with what was `made` of those `known`; None where it has none.

    An image that comes more often than it is known, as copies do, is compared as often as it is known.
    """
    names, shares = {name: number for number, name in enumerate(classes_of(table))}, probabilities(table)
    left = defaultdict[Hashable, list[Answer]](list)
    for key, answer in zip(known, made, strict=True):
        left[key].append(answer)
    pairs = [(row, left[key].pop()) for row, key in enumerate(keys) if left.get(key)]
    if not pairs:
        return None
    rows, then = [row for row, _ in pairs], [answer for _, answer in pairs]
    numbers = np.array([names[one.predicted] for one in then])
    differences = np.abs(shares[rows, numbers] - [one.probability for one in then])
    is_over = ~(differences <= tolerance)  # also of what is no number
    is_other = shares[rows].argmax(axis=1) != numbers
    differing = tuple(table["id"].to_numpy(object)[rows][is_over])
    return Repeated(
        len(rows), len(made), float(differences.max()), differing, int((is_over & is_other).sum()), tolerance
    )
