"""The one gate to an ImageIndex: classes are numbered, and names that could do harm are refused."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from resnet_tl.data.index import SPLITS, UNLABELLED, ImageIndex
from resnet_tl.errors import CONTROLS, UserError, nearest


def number_classes(root: Path, table: pd.DataFrame, source: str, layout: str, learns: bool) -> ImageIndex:
    """Numbers the classes, to learn from those of the training rows alone, and refuses what does not fit them."""
    is_learnt = table["split"].isin(("train", "") if learns else (*SPLITS, "")) & (table["label"] != "")
    classes = tuple(sorted(set(table.loc[is_learnt, "label"])))
    if not classes:
        raise UserError(f"{source} has no images {'to train on' if learns else 'with labels'}.")
    for label, split in table.loc[~table["label"].isin((*classes, "")), ["label", "split"]].itertuples(index=False):
        near = nearest(label, classes) or f" Give it images to learn from, or take it out of {split}."
        raise UserError(f"{source}: class '{label}' is in {split} but not in train.{near}")
    if learns and len(classes) == 1:
        raise UserError(f"{source} has one class only, '{classes[0]}'; a classifier needs two or more.")
    number = {name: position for position, name in enumerate(classes)} | {"": UNLABELLED}
    return _index(root, table.assign(label=[number[label] for label in table["label"]]), classes, layout)


def without_labels(root: Path, paths: list[str], layout: str) -> ImageIndex:
    """The index of images to predict."""
    table = pd.DataFrame({"path": paths, "label": UNLABELLED, "split": "predict", "group": ""}, dtype=object)
    return _index(root, table, (), layout)


def _index(root: Path, table: pd.DataFrame, classes: tuple[str, ...], layout: str) -> ImageIndex:
    """The one gate for names: refuses those that no text file could hold, or that could steer a terminal.

    The table comes with columns of objects: pandas' own type for text, where pyarrow is installed, takes only UTF-8.
    """
    refuse_controls(root, "the path", [str(root)])
    refuse_controls(root, "a file named", table["path"])
    refuse_controls(root, "the class", classes)
    refuse_controls(root, "the group", table["group"])
    return ImageIndex(root, table.astype({"label": "int64"}), classes, layout)


def refuse_controls(root: Path, what: str, names: Iterable[str]) -> None:
    """UserError for the first of some names that no text file could hold, or that could steer a terminal."""
    if not (found := CONTROLS.search("".join(names))):
        return
    name = next(name for name in names if found[0] in name)
    why = "is not UTF-8" if "\ud800" <= found[0] <= "\udfff" else f"holds the control character {found[0]!a}"
    one_line = CONTROLS.sub(lambda control: ascii(control[0])[1:-1], str(root))
    raise UserError(f"{one_line} has {what} {name!a}, which {why}; rename it.")
