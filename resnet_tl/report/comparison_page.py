"""The page of a comparison: which run is better, by how much, and the images on which they disagree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from resnet_tl.evaluation.comparing.comparison import Comparison, Group
from resnet_tl.evaluation.comparing.comparison_text import cells, method, notes, p_text, sentences
from resnet_tl.evaluation.folds import averaged
from resnet_tl.evaluation.predictions import classes_of, probabilities
from resnet_tl.evaluation.words import SPLITS, interval
from resnet_tl.files import as_cell, replacing, write_text
from resnet_tl.report.charts import difference_chart, interval_chart
from resnet_tl.report.facts import Table, bundle_of
from resnet_tl.report.pictures import Pictures, Wanted
from resnet_tl.report.rendering import render

MOST_SHOWN = 24
"""Images of a kind of disagreement."""


@dataclass(frozen=True)
class Answer:
    """What one group says of an image."""

    group: str
    predicted: str
    probability: float
    is_right: bool


@dataclass(frozen=True)
class Disputed:
    """An image on which the groups disagree."""

    id: str
    path: Path
    label: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Kind:
    """One kind of disagreement: its title, how many images there are, and the first ones."""

    title: str
    images: int
    shown: tuple[Disputed, ...]


def write_comparison_page(comparison: Comparison, path: str | Path) -> None:
    """Writes the page, and beside it as CSV all images on which the groups disagree; UserError if it cannot.

    A group of several runs answers by the mean of their probabilities.
    """
    path = Path(path)
    answers = _answers(comparison)
    kinds = list(_kinds(answers, [group.name for group in comparison.groups]))
    by_turns = [image for place in range(MOST_SHOWN) for kind in kinds for image in kind.shown[place : place + 1]]
    pictures = Pictures([Wanted(image.path) for image in by_turns], bundle_of(comparison.groups[0].runs[0]))
    with replacing(path.with_name(f"{path.stem}_disagreements.csv")) as file:
        table = answers.loc[answers["disagree"]].drop(columns="disagree")
        table.map(as_cell).to_csv(file, index=False, lineterminator="\n", encoding="utf-8")
    header, rows = cells(comparison)
    pairs = [
        [
            f"{pair.first} − {pair.second}",
            interval(*pair.difference, unit=" points"),
            p_text(pair.adjusted_p),
            "yes" if pair.is_decided else "no",
        ]
        for pair in comparison.pairs
    ]
    page = render(
        "comparison.html",
        pictures.css,
        comparison=comparison,
        split=SPLITS[comparison.split],
        sentences=sentences(comparison),
        notes=notes(comparison),
        method=method(comparison),
        groups=Table(header, rows),
        pairs=Table(["pair", "difference", "p, adjusted", "told apart"], pairs),
        accuracies=interval_chart("Accuracy", [(group.name, group.accuracy) for group in comparison.groups]),
        differences=difference_chart([(f"{p.first} − {p.second}", p.difference) for p in comparison.pairs]),
        kinds=kinds,
        disputed=len(table),
        csv=f"{path.stem}_disagreements.csv",
        pictures=pictures,
    )
    write_text(path, page + "\n")


def _answers(comparison: Comparison) -> pd.DataFrame:
    """By image: id, path, label, and of each group `predicted: NAME` and `probability: NAME`."""
    tables = [_table_of(group, comparison) for group in comparison.groups]
    found = tables[0][["id", "path", "label"]].reset_index(drop=True)
    for group, table in zip(comparison.groups, tables, strict=True):
        same = table.set_index("id").loc[found["id"]]
        shares = probabilities(same)
        names = np.array(classes_of(same), dtype=object)
        found[f"predicted: {group.name}"] = names[shares.argmax(axis=1)]
        found[f"probability: {group.name}"] = shares.max(axis=1)
    predicted = found.filter(like="predicted: ")
    return found.assign(disagree=predicted.nunique(axis=1).to_numpy() > 1)


def _table_of(group: Group, comparison: Comparison) -> pd.DataFrame:
    tables = [run.predictions(comparison.split) for run in group.runs]
    table = averaged(tables) if len(tables) > 1 else tables[0]
    return table[table["label"] != ""]


def _kinds(answers: pd.DataFrame, names: Sequence[str]) -> Iterator[Kind]:
    """The images that one group alone has right, for each group, then all others on which they disagree."""
    predicted = answers[[f"predicted: {name}" for name in names]].to_numpy(object)
    sure = answers[[f"probability: {name}" for name in names]].to_numpy(float)
    is_right = predicted == answers["label"].to_numpy(object)[:, None]
    alone = is_right & (is_right.sum(axis=1) == 1)[:, None]

    def kind(title: str, rows: np.ndarray) -> Kind:
        """The surest mistakes first."""
        wrong = np.where(is_right[rows], 0, sure[rows]).max(axis=1) if len(rows) else rows
        order = rows[np.argsort(-wrong, kind="stable")]
        shown = tuple(_disputed(answers.iloc[row], names) for row in order[:MOST_SHOWN].tolist())
        return Kind(title, len(rows), shown)

    for place, name in enumerate(names):
        yield kind(f"{name} alone is right", np.flatnonzero(alone[:, place]))
    rest = answers["disagree"].to_numpy() & ~alone.any(axis=1)
    yield kind("All wrong, in different ways" if len(names) == 2 else "Other disagreements", np.flatnonzero(rest))


def _disputed(row: pd.Series, names: Sequence[str]) -> Disputed:
    answers = [(name, row[f"predicted: {name}"], row[f"probability: {name}"]) for name in names]
    return Disputed(
        row["id"],
        Path(row["path"] or row["id"]),
        row["label"],
        tuple(Answer(name, said, float(share), said == row["label"]) for name, said, share in answers),
    )
