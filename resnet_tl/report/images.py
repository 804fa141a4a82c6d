"""Which images a page shows, and what it says beneath each: mistakes, uncertain ones, those behind a confusion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
import pandas as pd

from resnet_tl.evaluation.metrics import confusion
from resnet_tl.evaluation.mistakes import MOST_SHOWN, least_certain, mistakes
from resnet_tl.evaluation.predictions import classes_of, label_numbers, probabilities
from resnet_tl.files import as_cell, replacing
from resnet_tl.report.evidence import Evidence, Neighbour
from resnet_tl.report.pictures import SMALL, Wanted
from resnet_tl.run import Run

MANY = 30
"""Classes above which the matrix is a picture, and the most confused pairs stand in front of it."""
MOST_PAIRS = 60
PER_PAIR, PER_CLASS, NAMED = 12, 6, 40
"""Images shown of a pair of classes, of those of a class that were judged correctly, and names of further ones."""


@dataclass(frozen=True)
class Card:
    """One image and what the model said of it."""

    id: str
    path: Path
    label: str
    predicted: str
    probability: float
    second: str
    second_probability: float
    neighbours: tuple[Neighbour, ...] = ()

    @property
    def name(self) -> str:
        """Of the file."""
        return PurePath(self.id).name

    @property
    def is_wrong(self) -> bool:
        """Whether it has a label, and another one was predicted."""
        return bool(self.label) and self.label != self.predicted


@dataclass(frozen=True)
class Pair:
    """The images of one class that were taken for one class: a cell of the confusion matrix."""

    row: int
    column: int
    label: str
    predicted: str
    images: int
    of: int  # images of the label
    cards: tuple[Card, ...]
    named: tuple[str, ...]  # ids of further ones

    @property
    def anchor(self) -> str:
        """Its name within the page."""
        return f"cell-{self.row}-{self.column}"

    @property
    def left(self) -> int:
        """Images that are neither shown nor named."""
        return self.images - len(self.cards) - len(self.named)


class Judged:
    """The images of a prediction table, chosen for a page."""

    def __init__(self, table: pd.DataFrame, evidence: Evidence) -> None:
        self.table = table
        self.evidence = evidence
        self.classes = classes_of(table)
        self.wrong, self.unsure = mistakes(table), least_certain(table)
        self._shares = probabilities(table)
        self._ids, self._paths = table["id"].tolist(), table["path"].tolist()
        self._labels = table["label"].tolist()
        self.mistakes = [self._card(row, True) for row in self.wrong.index[:MOST_SHOWN].tolist()]
        self.uncertain = [self._card(row, True) for row in self.unsure.index[:MOST_SHOWN].tolist()]
        self.counts = confusion(table)
        self.pairs, self.correct = self._pairs()
        self.listed = {(pair.row, pair.column) for pair in [*self.pairs, *self.correct]}  # cells that can be opened

    def wanted(self) -> Iterator[Wanted]:
        """The pictures, those that matter most first."""
        judged = [*self.mistakes, *self.uncertain]
        for card in judged:
            yield Wanted(card.path, heat=self.evidence.heat.get(card.id))
        for card in judged:
            yield from (Wanted(near.path, SMALL) for near in card.neighbours)
        for place in range(PER_PAIR):  # a few of each pair before all of one
            yield from (Wanted(pair.cards[place].path) for pair in self.pairs if place < len(pair.cards))
        for pair in self.correct:
            yield from (Wanted(card.path) for card in pair.cards)

    def _card(self, row: int, with_neighbours: bool = False) -> Card:
        first, second = np.argsort(-self._shares[row], kind="stable")[:2].tolist()
        near = self.evidence.neighbours.get(self._ids[row], []) if with_neighbours else []
        return Card(
            self._ids[row],
            Path(self._paths[row] or self._ids[row]),
            self._labels[row],
            self.classes[first],
            float(self._shares[row, first]),
            self.classes[second],
            float(self._shares[row, second]),
            tuple(near),
        )

    def _pairs(self) -> tuple[list[Pair], list[Pair]]:
        """Those of different classes, the most frequent first and not all of many, and those judged correctly."""
        labels, guesses = label_numbers(self.table), self._shares.argmax(axis=1)
        sure = self._shares.max(axis=1)
        cells = [tuple(cell) for cell in np.argwhere(self.counts).tolist()]
        off = sorted((c for c in cells if c[0] != c[1]), key=lambda cell: -self.counts[cell])
        is_small = len(self.classes) <= MANY
        chosen = off[: MANY**2 if is_small else MOST_PAIRS]
        right = [cell for cell in cells if cell[0] == cell[1]] if is_small else []

        def pair(row: int, column: int) -> Pair:
            rows = np.flatnonzero((labels == row) & (guesses == column))
            surest = rows[np.argsort(sure[rows] if row == column else -sure[rows], kind="stable")].tolist()
            most = PER_CLASS if row == column else PER_PAIR
            return Pair(
                row,
                column,
                self.classes[row],
                self.classes[column],
                len(rows),
                int(self.counts[row].sum()),
                tuple(self._card(one) for one in surest[:most]),
                tuple(self._ids[one] for one in surest[most : most + NAMED]),
            )

        return [pair(*cell) for cell in chosen], [pair(*cell) for cell in right]


def write_lists(run: Run, split: str, judged: Judged) -> None:
    """Writes all mistakes of a split, and all images by how sure the model is, as CSV beside the predictions."""
    for name, table in (("mistakes", judged.wrong), ("least_certain", judged.unsure)):
        with replacing(lists_of(run, split)[name]) as file:
            table.map(as_cell).to_csv(file, index=False, lineterminator="\n", encoding="utf-8")


def lists_of(run: Run, split: str) -> dict[str, Path]:
    """Where `write_lists` writes."""
    return {name: run.path / "predictions" / f"{name}_{split}.csv" for name in ("mistakes", "least_certain")}
