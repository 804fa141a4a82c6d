"""From a table of paths, labels, splits and groups (a CSV file, a data frame) to an ImageIndex."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from resnet_tl.data.index import SPLITS, UNLABELLED, ImageIndex
from resnet_tl.errors import CONTROLS, UserError, listed, nearest

SPLIT_OF = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""The names of splits as people write them, in small letters, and ours."""


def from_csv(path: Path, learns: bool) -> ImageIndex:
    """Labelled images from a CSV file with the columns `path,label[,split][,group]`, paths relative to its folder."""
    return from_table(read_csv(path), path.parent, str(path), f"CSV file {path.name}", learns)


def paths_in_csv(path: Path) -> list[str]:
    """The absolute paths in the column `path` of a CSV file, all of which exist."""
    frame = read_csv(path)
    require_columns(frame, ("path",), str(path))
    paths = [_join(path.parent, name) for name in frame["path"]]
    _require_files(paths, str(path))
    return paths


def read_csv(path: Path) -> pd.DataFrame:
    """The table in a CSV file, all of it text."""
    if not path.exists():
        near = nearest(path.name, [entry.name for entry in path.parent.iterdir()]) if path.parent.is_dir() else ""
        raise UserError(f"{path} does not exist.{near}")
    if not path.is_file():
        raise UserError(f"{path} is no plain file; give a CSV file that lies on the disk.")
    try:  # text as it stands: a class may be called "NA" or "007"; without an index, or longer rows would make one
        with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):
            return pd.read_csv(
                path, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True, index_col=False
            )
    except pd.errors.ParserWarning:
        raise UserError(f"{path} has rows with more values than its header has columns; correct them.") from None
    except pd.errors.EmptyDataError:
        raise UserError(f"{path} is empty; its first line must name its columns.") from None
    except (ValueError, OSError) as error:  # pandas' parser errors and wrong encodings are ValueErrors
        raise UserError(f"{path} cannot be read as a CSV file in UTF-8: {str(error).strip()}.") from error


def from_table(frame: pd.DataFrame, root: Path, source: str, layout: str, learns: bool) -> ImageIndex:
    """Labelled images from a table with the columns `path`, `label` and perhaps `split` and `group`.

    Relative paths start from `root`; `source` is what a message calls the table. Where the images are to train on
    (`learns`) the classes are those of the train split, two or more.
    """
    columns = [str(column) for column in frame.columns]
    several = [name for name in columns if re.fullmatch(r"labels?[ _.]?\d*", name, re.IGNORECASE)]
    if len(several) > 1:
        raise UserError(
            f"{source} has several label columns ({listed(several)}); an image must have exactly one label."
        )
    require_columns(frame, ("path", "label"), source)
    if frame.empty:
        raise UserError(f"{source} has no rows.")
    absolute = [_join(root, path) for path in frame["path"]]
    _require_files(absolute, source)
    columns_of = {
        "path": [relative(path, root) for path in absolute],
        "label": [_text(label) for label in frame["label"]],
        "split": _splits(frame["split"], source) if "split" in columns else "",
        "group": [_text(group) for group in frame["group"]] if "group" in columns else "",
    }
    table = pd.DataFrame(columns_of)
    if len(twice := table.loc[table["path"].duplicated(), "path"]):
        count = "a path" if len(twice) == 1 else f"{len(twice)} paths"
        raise UserError(f"{source} names {count} twice, such as {twice.iloc[0]}; an image has one row.")
    if len(bare := table.loc[(table["label"] == "") & (table["split"] != "predict"), "path"]):
        raise UserError(f"{source} gives no label for {bare.iloc[0]}; only rows of split 'predict' may have none.")
    _refuse_several_labels(set(table["label"]) - {""}, source)
    given = [split for split in SPLITS if (table["split"] == split).any()]
    return number_classes(root, table, source, f"{layout}: {', '.join(given) or 'path, label'}", learns)


def require_columns(frame: pd.DataFrame, needed: Iterable[str], source: str) -> None:
    """Raises UserError, with the nearest name, for the first of `needed` that `frame`, read from `source`, lacks."""
    columns = [str(column) for column in frame.columns]
    for name in needed:
        if name in columns:
            continue
        if len(columns) == 1 and (separator := re.search(r"[;\t|]", columns[0])):
            raise UserError(f"{source} separates its columns by {separator[0]!r}; separate them by commas.")
        close = nearest(name, columns).replace("Did you mean", "Rename").replace("?", f" to '{name}'.")
        raise UserError(f"{source} has no column '{name}', only {listed(columns)}.{close}")


def _require_files(paths: Sequence[str], source: str) -> None:
    missing = [path for path in paths if not os.path.isfile(path)]  # noqa: PTH113 -- false also for impossible names
    if missing:
        count = "a file that does not" if len(missing) == 1 else f"{len(missing)} files that do not"
        raise UserError(f"{source} names {count} exist, such as {missing[0]}.")


def _splits(column: pd.Series, source: str) -> list[str]:
    """The names of the splits, in our spelling; all rows have one, or none has."""
    spelled = {**SPLIT_OF, "predict": "predict", "": ""}
    given = [_text(split).lower() for split in column]
    for split in given:
        if split not in spelled:
            raise UserError(
                f"{source} has the split '{split}'; it must be one of {', '.join(SPLITS)}.{nearest(split, SPLITS)}"
            )
    if "" in given and any(given):
        raise UserError(f"{source} gives a split for some rows and none for {given.count('')}; give all or none.")
    return [spelled[split] for split in given]


def _text(value: object) -> str:
    """A cell as text: "" for a missing one, `1` for 1.0 (pandas turns integers with gaps into floats)."""
    if hasattr(value, "__len__") and not isinstance(value, str):
        raise UserError(f"{value} is more than one label; an image must have exactly one.")
    if value is None or value is pd.NA or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _refuse_several_labels(labels: set[str], source: str) -> None:
    """Refuses lists in the label column: `cat|dog`, `cat;dog`, and `cat, dog` where cat and dog are labels as well."""
    for label in sorted(labels):
        parts = [part.strip() for part in label.split(",")]
        if (found := re.search(r"[|;]", label)) or (len(parts) > 1 and labels.issuperset(parts)):
            raise UserError(
                f"{source} has the label '{label}', which looks like several labels, and an image must have exactly "
                f"one: if it is one class, write its name without '{found[0] if found else ','}'; multi-label data is "
                "not supported."
            )


def number_classes(root: Path, table: pd.DataFrame, source: str, layout: str, learns: bool) -> ImageIndex:
    """Numbers the classes, to learn from those of the training rows alone, and refuses what does not fit them."""
    is_learnt = table["split"].isin(("train", "") if learns else (*SPLITS, "")) & (table["label"] != "")
    classes = tuple(sorted(set(table.loc[is_learnt, "label"])))
    if not classes:
        raise UserError(f"{source} has no images {'to train on' if learns else 'with labels'}.")
    for label, split in table.loc[~table["label"].isin((*classes, "")), ["label", "split"]].itertuples(index=False):
        raise UserError(f"{source}: class '{label}' is in {split} but not in train.{nearest(label, classes)}")
    if learns and len(classes) == 1:
        raise UserError(f"{source} has one class only, '{classes[0]}'; a classifier needs two or more.")
    number = {name: position for position, name in enumerate(classes)} | {"": UNLABELLED}
    return _index(root, table.assign(label=[number[label] for label in table["label"]]), classes, layout)


def without_labels(root: Path, paths: list[str], layout: str) -> ImageIndex:
    """The index of images to predict."""
    table = pd.DataFrame({"path": paths, "label": UNLABELLED, "split": "predict", "group": ""})
    return _index(root, table, (), layout)


def _index(root: Path, table: pd.DataFrame, classes: tuple[str, ...], layout: str) -> ImageIndex:
    """The one gate for names: refuses those that no text file could hold, or that could steer a terminal."""
    _refuse_controls(root, "the path", [str(root)])
    _refuse_controls(root, "a file named", table["path"])
    _refuse_controls(root, "the class", classes)
    _refuse_controls(root, "the group", table["group"])
    return ImageIndex(root, table.astype({"label": "int64"}), classes, layout)


def _refuse_controls(root: Path, what: str, names: Iterable[str]) -> None:
    if not (found := CONTROLS.search("".join(names))):
        return
    name = next(name for name in names if found[0] in name)
    why = "is not UTF-8" if "\ud800" <= found[0] <= "\udfff" else f"holds the control character {found[0]!a}"
    one_line = CONTROLS.sub(lambda control: ascii(control[0])[1:-1], str(root))
    raise UserError(f"{one_line} has {what} {name!a}, which {why}; rename it.")


def _join(root: Path, path: str | Path) -> str:
    return os.path.normpath(os.path.join(root, str(path).strip().replace("\\", "/")))  # noqa: PTH118 -- for speed


def relative(path: str, root: Path) -> str:
    """Posix path relative to `root` if below it, else absolute; by text, for there may be a million of them."""
    prefix = str(root).rstrip(os.sep) + os.sep
    return (path[len(prefix) :] if path.startswith(prefix) else path).replace(os.sep, "/")
