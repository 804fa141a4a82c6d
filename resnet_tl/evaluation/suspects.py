"""Suspicious labels as a table, most suspicious first, and what there is to say of them."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from resnet_tl.evaluation.label_errors import self_confidence
from resnet_tl.evaluation.label_noise import LabelNoise
from resnet_tl.files import as_cell, replacing

LIKELY = 0.5
"""A label is suspect where it is more likely wrong than right."""


def suspects_table(
    paths: Sequence[str], labels: np.ndarray, classes: Sequence[str], noise: LabelNoise, clusters: np.ndarray
) -> pd.DataFrame:
    """One row for each image (N), the least probable label first; `clusters` (N,) are equal for copies of a picture.

    Columns: `path`, `label`, `suggested` (the most probable other class), `probability_of_label`,
    `probability_of_suggested`, `score` (the probability that the label is wrong), `suspect` (yes or no), `copies` (of
    the picture, besides itself) and `action`, which is keep for a person to change.
    """
    names = np.array(classes, dtype=object)
    others = noise.probabilities.copy()
    others[np.arange(len(labels)), labels] = -1
    suggested = others.argmax(axis=1)
    copies = np.unique(clusters, return_inverse=True, return_counts=True)
    table = pd.DataFrame(
        {
            "path": list(paths),
            "label": names[labels],
            "suggested": names[suggested],
            "probability_of_label": self_confidence(labels, noise.probabilities),
            "probability_of_suggested": others[np.arange(len(labels)), suggested],
            "score": noise.wrong,
            "suspect": np.where(noise.wrong > LIKELY, "yes", "no"),
            "copies": copies[2][copies[1]] - 1,
            "action": "keep",
        }
    )
    return table.sort_values("probability_of_label", kind="stable", ignore_index=True)


def suspects_of(table: pd.DataFrame) -> pd.DataFrame:
    """The suspect rows of such a table."""
    return table[table["suspect"] == "yes"]


def confused_pairs(table: pd.DataFrame) -> list[tuple[tuple[str, str], int]]:
    """How many suspects there are of each (label, suggested), the most frequent pair first."""
    found = suspects_of(table)
    return Counter(zip(found["label"], found["suggested"], strict=True)).most_common()


def write_suspects(table: pd.DataFrame, path: str | Path) -> None:
    """Writes the table as CSV, whole or not at all; a path that begins like a formula gets `./` in front."""
    paths = table["path"].map(lambda path: f"./{path}" if path[:1] in tuple("=+-@ ") else path)
    cells = table.assign(path=paths, **{name: table[name].map(as_cell) for name in ("label", "suggested")})
    with replacing(path) as temporary:
        cells.to_csv(
            temporary,
            index=False,
            float_format="%.6f",
            quoting=csv.QUOTE_NONNUMERIC,  # a name may begin with a space
            lineterminator="\n",
            encoding="utf-8",
        )
