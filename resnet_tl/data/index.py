"""The list of images that everything else refers to: one row per file, and the row is the image's identity."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from resnet_tl.errors import UserError

SPLITS = ("train", "val", "test", "predict")
UNLABELLED = -1
NOT_THERE = "there is no such file"
"""Why an image that a table names is missing."""

_COLUMNS = ("path", "label", "split", "group")


@dataclass(frozen=True, eq=False)
class ImageIndex:
    """Images with their labels and splits; the number of a row is the image's identity, from file to prediction.

    The table has the columns `path` (posix; relative to `root` if below it, else absolute), `label` (int64, a position
    in `classes`, or -1), `split` (one of `SPLITS`, or "" before splitting) and `group` ("" = none).
    """

    root: Path  # an absolute folder
    table: pd.DataFrame
    classes: tuple[str, ...]  # in plain string order, as torchvision's `ImageFolder` numbers them
    layout: str  # one line that says what was found
    missing: tuple[str, ...] = ()  # what a table of images names although there is no such file; it is left out
    doubts: tuple[tuple[str, str], ...] = ()  # pairs of a kind of `quality.findings` and a sentence without its stop

    def __post_init__(self) -> None:
        if tuple(self.table.columns) != _COLUMNS or not self.table.index.equals(pd.RangeIndex(len(self.table))):
            raise ValueError(f"The table needs the columns {', '.join(_COLUMNS)} and rows numbered from 0.")
        if not self.table["split"].isin((*SPLITS, "")).all():
            raise ValueError(f"A split must be one of {', '.join(SPLITS)}, or empty.")
        if not self.table["label"].between(UNLABELLED, len(self.classes) - 1).all():
            raise ValueError(f"A label must be from -1 to {len(self.classes) - 1}, a position in the classes.")

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def labels(self) -> np.ndarray:
        """Labels of all rows, (N,) int64; -1 where there is none."""
        return self.table["label"].to_numpy(np.int64, copy=True)

    def rows(self, split: str) -> np.ndarray:
        """Rows of `split` in ascending order, (n,) int64; "" gives the rows that are not in any split yet."""
        if split not in (*SPLITS, ""):
            raise ValueError(f"'{split}' is not a split; the splits are {', '.join(SPLITS)}.")
        return np.flatnonzero(self.table["split"].to_numpy(object) == split).astype(np.int64, copy=False)

    @cached_property
    def _ids(self) -> list[str]:
        return self.table["path"].tolist()

    def ids(self) -> list[str]:
        """The paths of all rows as in the table, by which the world outside knows them."""
        return list(self._ids)

    def id(self, row: int) -> str:
        """The path of `row` as in the table, with `/` on every machine."""
        return self._ids[row]

    def path(self, row: int) -> Path:
        """The absolute path of `row`."""
        return self.root / self._ids[row]

    def counts(self) -> pd.DataFrame:
        """Images per class (index: class names) and split (columns: the splits present, or "unsplit")."""
        labelled = self.table[self.table["label"] != UNLABELLED]
        names = labelled["split"].replace("", "unsplit")
        counts = pd.crosstab(labelled["label"], names).reindex(range(len(self.classes)), fill_value=0)
        counts = counts[[split for split in (*SPLITS, "unsplit") if split in counts.columns]]
        return counts.set_axis(pd.Index(self.classes, name="class"), axis="index").rename_axis(columns=None)

    def summary(self) -> str:
        """`5 classes; 320 train, 80 val images`."""
        counts = ", ".join(f"{count} {split}" for split, count in self.counts().sum().items())
        return f"{len(self.classes)} classes; {counts} images"

    def without(self, rows: Collection[int] | np.ndarray) -> ImageIndex:
        """A new index, renumbered, that lacks `rows`; the classes keep their order.

        Raises:
            UserError: a class would lose its last image to train on.
        """
        return self._with_classes_kept(self.table.drop(index=list(rows)).reset_index(drop=True))

    def with_labels(self, labels: Mapping[int, int]) -> ImageIndex:
        """A new index in which some rows have other class numbers; the classes keep their order.

        Raises:
            UserError: a class would lose its last image to train on.
        """
        column = [labels.get(row, label) for row, label in enumerate(self.labels.tolist())]
        return self._with_classes_kept(self.table.assign(label=column))

    def _with_classes_kept(self, table: pd.DataFrame) -> ImageIndex:
        def trained(table: pd.DataFrame) -> set[int]:
            return set(table.loc[table["split"].isin(("train", "")) & (table["label"] != UNLABELLED), "label"])

        for label in sorted(trained(self.table) - trained(table)):
            raise UserError(
                f"{self.root}: no usable training image of class '{self.classes[label]}' is left; "
                "fix its files or remove the class."
            )
        return replace(self, table=table)
