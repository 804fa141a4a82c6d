"""From the rows of label tables to an ImageIndex: labels, splits, groups, and what contradicts itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from resnet_tl.data.index import SPLITS, ImageIndex
from resnet_tl.data.reading.indexing import number_classes
from resnet_tl.data.reading.options import Reading
from resnet_tl.data.reading.tables.columns import FLAGS, Columns, Source, key_of, shares
from resnet_tl.data.reading.tables.named_images import Meant, NamedImages, relative
from resnet_tl.data.reading.tables.table_files import TableFile
from resnet_tl.data.reading.words import split_in, split_of
from resnet_tl.errors import UserError, listed, nearest

_IMAGES = re.compile("ima?ge?s?", re.IGNORECASE)
_TRUE, _FALSE = ("true", "1", "1.0", "yes"), ("false", "0", "0.0", "no", "")


@dataclass(frozen=True)
class LabelTable:
    """A table whose columns are known, and the images that it may name."""

    file: TableFile
    source: Source
    images: NamedImages
    columns: Columns
    split: str = ""  # of all rows, where no column says it


@dataclass(frozen=True)
class Rows:
    """What a table says, row by row; what it names that is not there, what is wrong, and what else is to be known."""

    table: LabelTable
    frame: pd.DataFrame  # columns `path` (absolute; "" where there is no such file), `label`, `split`, `group`
    missing: list[str]
    problems: list[str]
    notes: list[str]


def rows_of(table: LabelTable, reading: Reading) -> Rows:
    """The rows of a table with their images."""
    frame, columns, source, problems = table.file.frame, table.columns, table.source, list[str]()
    notes = list(table.file.notes)
    values = [text_of(value) for value in frame[columns.path]]
    labels = _labels(frame, columns, source, problems)
    splits = _splits(frame, columns, table.split, problems)
    groups = [text_of(group) for group in frame[columns.group]] if columns.group else ""
    if empty := values.count(""):
        problems.append(f"{_count(empty, 'row names', 'rows name')} no image; remove them")
    different = [value for value in dict.fromkeys(values) if value]
    given = dict(zip(values, splits, strict=True))
    meant = table.images.meant_by(different, given, split_in(Path(source.name).stem) if source.root else "")
    problems += not_found(meant, len(different), columns.path, table.images, source, reading)
    if bare := [value for value, label, split in zip(values, labels, splits, strict=True)
                if columns.labels and not label and split != "predict"]:  # fmt: skip
        problems.append(
            f"{_count(len(bare), 'row has', 'rows have')} no label ({listed(bare, 3)}); label them, remove them, or "
            "give them the split predict"
        )
    known = set(labels) - {""}
    if several := [(label, mark) for label in sorted(known) if (mark := _mark_of_a_list(label, known))]:
        label, mark = several[0]
        problems.append(
            f"the label '{label}' looks like several labels, and an image must have exactly one: if it is one class, "
            f"write its name without '{mark}'; multi-label data is not supported"
        )
    if meant.moved:
        example = meant.moved[0]
        notes.append(f"found by the end of their paths, as {relative(meant.paths[example], table.images.root)}")
    paths = [meant.paths.get(value, "") for value in values]
    rows = pd.DataFrame({"path": paths, "label": labels, "split": splits, "group": groups}, dtype=object)
    return Rows(table, rows, meant.missing, problems, notes)


def index_of(tables: Sequence[Rows], root: Path, layout: str, learns: bool) -> ImageIndex:
    """The images of one or more tables; `layout` is what they are called.

    Raises:
        UserError: with all that is wrong with a table, not only the first.
    """
    require_sound(tables)
    table, missing = tables[0].table, [name for one in tables for name in one.missing]
    notes = list(dict.fromkeys(note for one in tables for note in one.notes))
    rows = pd.concat([one.frame for one in tables], ignore_index=True)
    there = rows[rows["path"] != ""]
    if lost := sorted({*rows["label"]} - {*there["label"], ""}):
        raise UserError(
            f"{table.source.name}: none of the images of class '{lost[0]}' is there; correct or remove its rows."
        )
    if missing:
        notes.append(f"{_count(len(missing), 'image that it names is', 'images that it names are')} not there")
    if unnamed := table.images.unnamed(there["path"]):
        notes.append(f"{_count(unnamed, 'other image', 'other images')} left out, no row names them")
    there = there.assign(path=[relative(path, root) for path in there["path"]])
    there = each_once(there, table.source.name, notes)
    columns = table.columns.described(list(table.file.frame.columns))
    index = number_classes(root, there, table.source.name, "; ".join([f"{layout} ({columns})", *notes]), learns)
    return replace(index, missing=tuple(missing))


def require_sound(tables: Iterable[Rows]) -> None:
    """Raises UserError with all that is wrong with a table; what is to be typed comes last, with nothing behind it."""
    for one in tables:
        if one.problems:
            raise UserError(sentence(one.table.source, one.problems))


def sentence(source: Source, problems: Sequence[str]) -> str:
    """All that is wrong with a table, in one sentence."""
    said = "; ".join(sorted(problems, key=lambda problem: "--data.root" in problem))
    return f"{source.name}: {said}" + ("" if "--data.root" in said or said.endswith("?") else ".")


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def not_found(
    meant: Meant, count: int, path_column: str, images: NamedImages, source: Source, reading: Reading
) -> list[str]:
    """What is wrong where values name no image, or more than one."""
    problems = []
    if meant.ambiguous:
        value, paths = next(iter(meant.ambiguous.items()))
        below = {relative(path, images.root).rpartition("/")[0].partition("/")[0] for path in paths}
        folders = sorted(below, key=lambda folder: not _IMAGES.search(folder))
        command = source.command(
            path_column=path_column, label_column=reading.label_column, image_folder=f"{images.root / folders[0]}"
        )
        way_out = f"or name the folder: {command}" if len(folders) > 1 else "or its file's suffix"
        problems.append(
            f"{_count(len(meant.ambiguous), 'name fits', 'names fit')} more than one image ({value} fits "
            f"{listed((relative(path, images.root) for path in paths), 2)}); write the whole path, {way_out}"
        )
    if meant.missing and (reading.on_bad_image != "skip" or not meant.paths):
        may_skip = reading.on_bad_image and meant.paths
        skip = f", or leave them out with {source.option('on_bad_image', 'skip')}" if may_skip else ""
        problems.append(
            f"{len(meant.missing):,} of its {count:,} images "
            f"{'does' if len(meant.missing) == 1 else 'do'} not exist ({listed(meant.missing)}); correct them{skip}"
        )
    return problems


def each_once(rows: pd.DataFrame, source: str, notes: list[str]) -> pd.DataFrame:
    """The rows without those that only say the same again; UserError where they say something else."""
    different = rows.drop_duplicates(["path", "label", "split", "group"])
    if len(different) < len(rows):
        notes.append(f"{_count(len(rows) - len(different), 'row says', 'rows say')} what another has said")
    again = different[different["path"].duplicated(keep=False)]
    for column in ("label", "split", "group"):
        kinds = again.groupby("path", sort=False)[column].unique()
        if len(torn := kinds[kinds.map(len) > 1]):
            raise UserError(
                f"{source} gives {_count(len(torn), 'image', 'images')} more than one {column} ({torn.index[0]}: "
                f"{listed(torn.iloc[0])}), and an image has one; correct the table"
                + ("; multi-label data is not supported." if column == "label" else ".")
            )
    return different.reset_index(drop=True)


# Labels


def _labels(frame: pd.DataFrame, columns: Columns, source: Source, problems: list[str]) -> list[str]:
    if not columns.labels:
        return [""] * len(frame)
    if len(columns.labels) > 1:
        return _largest(frame, columns, source, problems)
    labels = [text_of(label) for label in frame[columns.labels[0]]]
    if all(re.fullmatch(r"-?\d+(\.0+)?", label) for label in labels if label):  # numbers of classes, not measures
        labels = [label.partition(".")[0] for label in labels]
    return labels


def _largest(frame: pd.DataFrame, columns: Columns, source: Source, problems: list[str]) -> list[str]:
    """The class with the largest number in each row; "" where all are zero."""
    table = np.stack([shares(frame[name]).to_numpy(np.float64) for name in columns.labels], axis=1)
    labels = np.array(columns.labels, object)[table.argmax(axis=1)]
    ties = (table == table.max(axis=1, keepdims=True)).sum(axis=1) > 1
    labels[~table.any(axis=1)] = ""
    if (several := ties & table.any(axis=1)).any():
        row = int(several.argmax())
        equal = [name for name, value in zip(columns.labels, table[row], strict=True) if value == table[row].max()]
        problems.append(
            f"{_count(int(several.sum()), 'row has', 'rows have')} several classes, such as "
            f"{text_of(frame[columns.path].iloc[row])} with {listed(equal, 4)}; multi-label data is not supported: "
            f"remove the rows, or learn one of the columns: "
            f"{source.command(path_column=columns.path, label_column=columns.labels[0])}"
        )
    return labels.tolist()


def _mark_of_a_list(label: str, labels: set[str]) -> str:
    """What divides `cat|dog`, `cat;dog`, `7 12`, and `cat, dog` where cat and dog are labels as well; "" for none."""
    if found := re.search(r"[|;]", label):
        return found[0]
    if re.fullmatch(r"\d+( \d+)+", label):
        return " "
    return "," if "," in label and labels.issuperset(part.strip() for part in label.split(",")) else ""


def text_of(value: object) -> str:
    """A cell as text: "" for a missing one, `1` for 1.0 (pandas turns integers with gaps into floats)."""
    if hasattr(value, "__len__") and not isinstance(value, str):
        raise UserError(f"{value} is more than one label; an image must have exactly one.")
    if value is None or value is pd.NA or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


# Splits


def _splits(frame: pd.DataFrame, columns: Columns, otherwise: str, problems: list[str]) -> list[str]:
    """The split of each row in our spelling; all rows have one, or none has."""
    if columns.flags:
        return _flagged(frame, columns.flags, problems)
    if columns.split is None:
        return [otherwise] * len(frame)
    given = [text_of(split) for split in frame[columns.split]]
    ours = {split: split_of(split) for split in set(given)}
    if odd := sorted(split for split, name in ours.items() if split and not name):
        problems.append(f"'{odd[0]}' is no split; it must be one of {', '.join(SPLITS)}.{nearest(odd[0], SPLITS)}")
    elif "" in given and any(given):
        problems.append(f"{_count(given.count(''), 'row has', 'rows have')} no split; give all or none")
    return [ours[split] for split in given]


def _flagged(frame: pd.DataFrame, flags: Sequence[str], problems: list[str]) -> list[str]:
    splits = ["train"] * len(frame)
    for name in flags:
        cells = [text_of(cell).lower() for cell in frame[name]]
        if odd := sorted({*cells} - {*_TRUE, *_FALSE}):
            problems.append(f"'{odd[0]}' in column '{name}' is neither true nor false")
        if both := [row for row, cell in enumerate(cells) if cell in _TRUE and splits[row] != "train"]:
            problems.append(f"{_count(len(both), 'row is', 'rows are')} in two splits by {' and '.join(flags)}")
        splits = [FLAGS[key_of(name)] if cell in _TRUE else split for cell, split in zip(cells, splits, strict=True)]
    return splits
