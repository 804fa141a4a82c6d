"""Label tables that lie among their images, as Kaggle, Hugging Face and Roboflow lay them out: found by looking."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pandas as pd

from resnet_tl.data.index import SPLITS, ImageIndex
from resnet_tl.data.reading.folders.labelled_folders import labelled_in_folders
from resnet_tl.data.reading.folders.tree import Folder
from resnet_tl.data.reading.options import Reading
from resnet_tl.data.reading.tables.added_columns import adds, with_columns_of, with_images_of
from resnet_tl.data.reading.tables.columns import Columns, Source, are_numbers, find_path, likely_labels
from resnet_tl.data.reading.tables.given_tables import images_for, with_columns
from resnet_tl.data.reading.tables.label_rows import LabelTable, Rows, index_of, rows_of
from resnet_tl.data.reading.tables.named_images import NamedImages, relative, split_by_folders
from resnet_tl.data.reading.tables.table_files import TableFile, read_table
from resnet_tl.data.reading.words import split_in
from resnet_tl.errors import UserError, listed

_SUFFIXES = (".csv", ".tsv", ".jsonl")
_HEAD = 1 << 18
"""Bytes of a table's beginning that tell whether it is one of labels."""
_LEAST = 0.05
"""Share of the images that a table must name; one of fewer may be given itself."""
_MOST = 50
"""Tables that are looked into."""
_OPTIONS = ("path_column", "label_column", "group_column", "image_folder")


def labelled_by_table(root: Path, folder: Folder, reading: Reading, learns: bool) -> ImageIndex | None:
    """The images of `folder`, read from `root`, as tables in it label them; None where folders or names do.

    A table of labels names images below `root` and has classes for them. Where the folders say the same, it counts only
    for the splits and groups that it adds.

    Raises:
        UserError: tables contradict each other or the folders, or it cannot be told which columns count.
    """
    said = [f"--data.{name}" for name in _OPTIONS if getattr(reading, name)]
    if reading.layout != "auto":
        if said:
            raise UserError(f"{said[0]} is for tables, which --data.layout {reading.layout} leaves aside; drop one.")
        return None
    root, folder = _with_tables(root, folder)
    looked_at = [_looked_at(path, root, folder, reading) for path in _table_files(root, folder)]
    found = [one for one in looked_at if isinstance(one, LabelTable)]
    tables = [one for one in found if one.columns.labels]
    if not tables:
        for one in looked_at:
            if isinstance(one, UserError):
                raise one
        if said and not found:
            raise UserError(f"{said[0]} is for tables, and no table in {root} names images and has this column.")
        index = labelled_in_folders(root, folder, reading.layout, learns) if found else None
        for table in found:
            index = index and with_columns_of(index, rows_of(table, reading), Path(table.source.name).name, learns)
        return index
    chosen = _chosen(tables, root)
    rows = [rows_of(table, reading) for table in chosen]
    named = sum(len(one.frame) - len(one.missing) for one in rows)
    if not said and (named < _LEAST * len(chosen[0].images.all) or _folders_say_it(rows, chosen[0].source.name, root)):
        return None
    names, used = _names(tables, root), _names(chosen, root)
    if learns and not said and (learnt := _learnt_from_folders(rows, folder, root)):
        return with_images_of(labelled_in_folders(root, learnt, reading.layout, learns), rows, listed(used))
    index = index_of(rows, root, f"table{'s' * (len(used) > 1)} {listed(used)}", learns)
    passed_over = [name for name in names if name not in used]
    return replace(index, layout=f"{index.layout}; not read: {listed(passed_over)}") if passed_over else index


def _names(tables: Sequence[LabelTable], root: Path) -> list[str]:
    return [relative(table.source.name, root) for table in tables]


# Where tables lie


def _with_tables(root: Path, folder: Folder) -> tuple[Path, Folder]:
    """Goes into the one folder that all lies in."""
    while not folder.images and not _table_files(root, folder) and len(inner := folder.filled()) == 1:
        name, folder = next(iter(inner.items()))
        root = root / name
    return root, folder


def _table_files(root: Path, folder: Folder) -> list[Path]:
    """The tables in `root` and in the folders there; none that is a form for predictions."""
    files = [Path(file) for one in (folder, *folder.folders.values()) for file in one.others]
    tables = [file for file in files if file.suffix.lower() in _SUFFIXES]
    return [path for path in tables if not re.search("submission|^sample$", path.stem, re.IGNORECASE)][:_MOST]


def _split(path: Path, root: Path) -> str:
    """The split that the name of a table, or of its folder, speaks of; "" for none."""
    return split_in(path.stem) or ("" if path.parent == root else split_in(path.parent.name))


def _looked_at(path: Path, root: Path, folder: Folder, reading: Reading) -> LabelTable | UserError | None:
    """A table by its beginning, and where it is one of labels, splits or groups, all of it; None for any other.

    Of one that seems to be of labels, the UserError says what cannot be told.
    """
    source = Source(str(path), str(root))
    images = images_for(root, source, reading) if reading.image_folder else NamedImages(path.parent, root, folder)
    named = {reading.path_column, reading.label_column, reading.group_column} - {None}
    head = whole = _head(path)
    if head is None or whole is None:
        return None
    frame = head.frame
    is_of_predictions = any(name.startswith("prob_") for name in frame.columns)
    if frame.empty or is_of_predictions or not named.issubset(frame.columns):
        return None
    try:
        if not find_path(frame, images, source, reading)[1]:
            return None
        whole = head if path.stat().st_size <= _HEAD else read_table(path)
        table = with_columns(whole, source, images, reading)
    except UserError as question:
        column, paths = _images_of(whole.frame, images)
        if 2 * len(set(paths) - {""}) < len(images.all):  # it is about other things
            return None
        known = None
        with suppress(UserError):
            known = with_columns(whole, source, images, reading, needs_labels=False)
        if _may_label(whole.frame, known.columns if known else Columns(column), paths, folder):
            return UserError(f"{str(question).rstrip('.')}{_or_folders(root, folder)}")
        return known if known and adds(known.columns) else None
    is_form = all(frame[name].map(str).nunique() == 1 for name in table.columns.labels)  # to be filled in
    return None if is_form and _split(path, root) in ("", "test") else table


def _or_folders(root: Path, folder: Folder) -> str:
    """What to type for the classes that folders or names have; a full stop where they have none."""
    for layout in ("class_folders", "split_folders", "flat_names"):
        with suppress(UserError):
            looked, told = (labelled_in_folders(root, folder, one, learns=True) for one in ("auto", layout))
            is_doubtful = any(finding == "structure" for finding, _ in looked.doubts)
            if looked.classes == told.classes and not is_doubtful:  # told class_folders, `train` would be a class
                return f"; --data.root {shlex.quote(str(root))} --data.layout {layout} leaves the table aside"
    return "."


def _head(path: Path) -> TableFile | None:
    """The beginning of a table; all of it where a value goes on beyond that; None for something else."""
    for most in (_HEAD, None):
        with suppress(UserError):
            return read_table(path, most)
    return None


def _images_of(frame: pd.DataFrame, images: NamedImages) -> tuple[str, list[str]]:
    """The column that names the most images, and the path of each row's below the root; "" for none."""
    meant = {name: images.meant_by(frame[name].map(str).unique().tolist()).paths for name in frame.columns}
    column = max(meant, key=lambda name: len(meant[name]))
    return column, [relative(meant[column].get(str(value), ""), images.root) for value in frame[column]]


def _may_label(frame: pd.DataFrame, columns: Columns, paths: list[str], folder: Folder) -> bool:
    """Whether a table whose columns cannot be told is likely to label the images, better than their folders do.

    It has texts that repeat and are not the names of the folders; numbers, which may be measures, count where there are
    no folders.
    """
    texts = [name for name in likely_labels(frame, columns) if not are_numbers(frame, name)]
    for name in texts:
        labels = frame[name].map(str).tolist()
        if sum(map(str.__eq__, _most_like(paths, labels), labels)) > 0.9 * len(labels):
            return False
    return bool(texts) or len(folder.filled()) < 2


# Several tables


def _chosen(tables: Sequence[LabelTable], root: Path) -> list[LabelTable]:
    """The table of labels, or those of the splits, told apart by their names or folders.

    Raises:
        UserError: it cannot be told which counts.
    """
    if len(tables) == 1:
        return list(tables)
    splits = [_split(Path(table.source.name), root) for table in tables]
    if "train" in splits and all(splits.count(split) < 2 for split in SPLITS):
        of_splits = {split: replace(table, split=split) for split, table in zip(splits, tables, strict=True)}
        return [of_splits[split] for split in SPLITS if split in of_splits]
    raise UserError(
        f"{root} has several tables of labels, {listed(_names(tables, root))}; say which: "
        f"{Source('', tables[0].source.name).command()}"
    )


# Tables and folders


def _folders_say_it(tables: Sequence[Rows], path: str, root: Path) -> bool:
    """Whether the folders name the classes as the tables do, which add neither splits nor groups.

    Raises:
        UserError: the folders name most of the classes as the tables do, and some otherwise.
    """
    rows = pd.concat([one.frame for one in tables], ignore_index=True)
    count, rows = len(rows), rows[(rows["path"] != "") & (rows["label"] != "")]
    if 2 * len(rows) < count:
        return False
    ids, labels = [relative(name, root) for name in rows["path"]], rows["label"].tolist()
    folders = _most_like(ids, labels)
    equal = sum(map(str.__eq__, folders, labels))
    if equal == len(rows) or _are_numbers_of(folders, labels):
        by_folders = [split_by_folders(name.split("/")[:-1]) for name in ids]
        return not rows["group"].any() and all(
            split in ("", by_folder) for split, by_folder in zip(rows["split"], by_folders, strict=True)
        )
    classes = set(labels)
    torn = [row for row, folder in enumerate(folders) if folder in classes and folder != labels[row]]
    if torn and equal > len(torn):
        layout = "split_folders" if split_in(ids[torn[0]].split("/")[0]) else "class_folders"
        by_folder, by_table = (Source("", str(where)).command() for where in (root, path))
        raise UserError(
            f"{path} contradicts the folders of {len(torn):,} of {len(rows):,} images: it calls {ids[torn[0]]} "
            f"'{labels[torn[0]]}'; say which is right: {by_table} or {by_folder} --data.layout {layout}"
        )
    return False


def _learnt_from_folders(tables: Sequence[Rows], folder: Folder, root: Path) -> Folder | None:
    """The folders to learn from, where tables label those to judge by: `train/<class>` beside `test/` and test.csv."""
    named = {path for one in tables for path in one.frame["path"] if path}
    others = folder.without_images(named)
    is_judged = _splits(named, root) <= {"val", "test"} and "train" in _splits(others.all(), root)
    return others if is_judged else None


def _splits(paths: Iterable[str], root: Path) -> set[str]:
    """The splits that the folders of images speak of, "" among them where one speaks of none."""
    folders = {relative(os.path.dirname(path), root) for path in paths}  # noqa: PTH120 -- for speed
    return {split_by_folders(folder.split("/")) for folder in folders}


def _most_like(ids: Sequence[str], labels: Sequence[str]) -> list[str]:
    """One folder of each image, equally far from its file, so that most are called as the image's class."""
    places = [[_folder(path, place) for path in ids] for place in (1, 2, 3)]
    return max(places, key=lambda folders: sum(map(str.__eq__, folders, labels)))


def _are_numbers_of(folders: Sequence[str], labels: Sequence[str]) -> bool:
    """Whether the labels only number the folders, which have names."""
    pairs = set(zip(folders, labels, strict=True))
    one_to_one = len(pairs) == len(set(folders)) == len(set(labels)) > 1
    return one_to_one and all(map(str.isdecimal, labels)) and not any(map(str.isdecimal, folders))


def _folder(path: str, place: int) -> str:
    parts = path.split("/")
    return parts[-1 - place] if place < len(parts) else ""
