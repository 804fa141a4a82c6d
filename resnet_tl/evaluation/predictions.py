"""The prediction table: one row per image, and everything that any number or submission is made from.

Columns: `id`, `path`, `label` (class name, empty when unlabelled), `predicted` (class name, empty for an abstention)
and one `prob_<class>` per class, in the order of the classes. That of a run of folds says in `fold` which of them
judged the image. What `predict` writes says in `familiarity` how familiar it looks (see there); with prediction sets
there are `set`, a JSON list of class names, and `set_size`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from resnet_tl.errors import UserError, listed, nearest
from resnet_tl.files import as_cell, from_cell, replacing

TEXT_COLUMNS = ("id", "path", "label", "predicted")
FURTHER_COLUMNS = ("fold", "familiarity", "set", "set_size")
_PREFIX = "prob_"


def softmax(logits: np.ndarray) -> np.ndarray:
    """The probabilities (N, C) of logits (N, C), both in float64."""
    logits = np.asarray(logits, dtype=np.float64)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def prediction_table(
    ids: Sequence[str], paths: Sequence[str], labels: np.ndarray | None, logits: np.ndarray, classes: Sequence[str]
) -> pd.DataFrame:
    """The table for `logits` (N, C); `labels` (N,) are class numbers, negative for unlabelled.

    Rows keep their order. Of equally probable classes the first is predicted.
    """
    return table_of(ids, paths, labels, softmax(logits), classes)


def table_of(
    ids: Sequence[str], paths: Sequence[str], labels: np.ndarray | None, shares: np.ndarray, classes: Sequence[str]
) -> pd.DataFrame:
    """The table for probabilities (N, C) float64; the rest as in `prediction_table`."""
    if shares.shape != (len(ids), len(classes)) or len(paths) != len(ids):
        raise ValueError(
            f"{shares.shape} numbers do not fit {len(ids)} ids, {len(paths)} paths, {len(classes)} classes"
        )
    labels = np.full(len(ids), -1) if labels is None else np.asarray(labels)
    if labels.shape != (len(ids),) or (labels >= len(classes)).any():
        raise ValueError(f"labels {labels.shape} do not fit {len(ids)} ids or go beyond {len(classes)} classes")
    names = np.array([*classes, ""], dtype=object)  # the last one, at -1, is for unlabelled images
    text = {
        "id": list(map(str, ids)),
        "path": list(map(str, paths)),
        "label": names[np.maximum(labels, -1)],
        "predicted": names[shares.argmax(axis=1)],
    }
    numbers = pd.DataFrame(shares, columns=[_PREFIX + name for name in classes])
    return pd.concat([pd.DataFrame(text), numbers], axis=1)


def classes_of(table: pd.DataFrame) -> tuple[str, ...]:
    """The class names of a prediction table, in their order."""
    return tuple(column.removeprefix(_PREFIX) for column in table.columns if column.startswith(_PREFIX))


def probabilities(table: pd.DataFrame) -> np.ndarray:
    """The probabilities of a prediction table, (N, C) float64."""
    return table[[_PREFIX + name for name in classes_of(table)]].to_numpy(np.float64)


def completed(table: pd.DataFrame) -> pd.DataFrame:
    """A table of `id` and `prob_<class>` with the columns it lacks: no path, no label, the most probable class."""
    names = np.array(classes_of(table), dtype=object)
    given = {name: table[name] for name in table.columns}
    filled = {"path": "", "label": "", "predicted": names[probabilities(table).argmax(axis=1)]}
    return pd.DataFrame({name: given.get(name, filled.get(name)) for name in dict.fromkeys((*TEXT_COLUMNS, *given))})


def contradiction(table: pd.DataFrame) -> str:
    """Where `predicted` is not the most probable class, or one of several equals, as a clause; else ""."""
    classes, values, predicted = classes_of(table), probabilities(table), table["predicted"].to_numpy(object)
    numbers = pd.Index(classes).get_indexer(pd.Index(predicted))
    chosen = values[np.arange(len(table)), numbers]
    wrong = np.flatnonzero((predicted != "") & ((numbers < 0) | (chosen < values.max(axis=1))))
    if not len(wrong):
        return ""
    first = wrong[0]
    return (
        f"the column predicted contradicts the probabilities in {len(wrong)} of {len(table)} rows "
        f"('{table['id'].iloc[first]}' is '{predicted[first]}', but '{classes[values[first].argmax()]}' is the most "
        "probable class); leave the column out, or correct it"
    )


def label_numbers(table: pd.DataFrame) -> np.ndarray:
    """The labels of a prediction table as numbers of its classes, (N,) int64, -1 for none; UserError for another."""
    classes, labels = classes_of(table), table["label"].to_numpy(object)
    numbers = pd.Index(classes).get_indexer(pd.Index(labels)).astype(np.int64)
    if (is_odd := (numbers < 0) & (labels != "")).any():
        odd = labels[is_odd][0]
        raise UserError(f"The prediction table has a label '{odd}' that is no class of it.{nearest(odd, classes)}")
    return np.where(labels == "", -1, numbers)


def write_predictions(table: pd.DataFrame, path: str | Path) -> None:
    """Writes the table as CSV, whole or not at all; each float as the shortest text that reads back the same."""
    cells = table.assign(**{name: table[name].map(as_cell) for name in TEXT_COLUMNS})
    with replacing(path) as temporary:
        cells.to_csv(temporary, index=False, na_rep="nan", lineterminator="\n", encoding="utf-8")


def read_predictions(path: str | Path) -> pd.DataFrame:
    """Reads what `write_predictions` wrote, bit for bit; a table of `id` and `prob_<class>` alone is `completed`.

    UserError where the file is no such table, or its `predicted` contradicts its probabilities.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such prediction table.")
    try:
        header = pd.read_csv(path, nrows=0, encoding="utf-8")
        numbers = [_PREFIX + name for name in classes_of(header)]
        texts = [name for name in TEXT_COLUMNS if name in header]
        if len(numbers) < 2 or "id" not in texts or set(header.columns) - set(FURTHER_COLUMNS) != {*texts, *numbers}:
            raise ValueError(
                f"its columns must be id and {_PREFIX}<class> for two or more classes, and may be path, label and "
                f"predicted, but are {listed(header.columns)}"
            )
        table = pd.read_csv(
            path,
            dtype=dict.fromkeys(texts, str) | dict.fromkeys(numbers, float),
            na_values=dict.fromkeys(numbers, "nan"),  # and in no other column: a class may well be called "NA"
            keep_default_na=False,
            float_precision="round_trip",
            encoding="utf-8",
        )
    except (ValueError, OverflowError) as error:  # pandas' parser errors and bytes that are no UTF-8 are among them
        raise UserError(f"{path}: this is not a prediction table ({error}).") from error
    table = completed(table.assign(**{name: table[name].map(from_cell) for name in texts}))
    if wrong := contradiction(table):
        raise UserError(f"{path}: {wrong}.")
    return table
