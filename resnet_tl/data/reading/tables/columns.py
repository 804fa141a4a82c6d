"""Which of a table's columns name the images, their classes, splits and groups."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import pandas as pd

from resnet_tl.data.reading.folders.tree import is_image
from resnet_tl.data.reading.options import Reading
from resnet_tl.data.reading.tables.named_images import NamedImages
from resnet_tl.data.reading.words import split_of
from resnet_tl.errors import UserError, listed, nearest

# Names without blanks, lines and points, in small letters; those in front are preferred.
PATHS = ("path", "image", "imageid", "id", "filename", "file", "img", "imagename", "imagepath", "filepath", "photo",
         "imgname", "imgpath", "imagefile", "url", "imageurl")  # fmt: skip
LABELS = ("label", "labels", "category", "class", "breed", "species", "target", "classname", "labelname",
          "categoryname", "categoryid", "classid", "labelid", "y")  # fmt: skip
SPLIT = "split"
PERHAPS_SPLITS = ("set", "subset", "dataset", "partition")
"""Columns of splits where all of their values are."""
FLAGS = {"isvalid": "val", "isval": "val", "isvalidation": "val", "istest": "test"}
GROUPS = ("group", "groupid", "subject", "subjectid", "patient", "patientid", "driver", "lesionid")
_ROWS, _LOOKED_AT = 10_000, 1_000
"""Rows, and different values of a column in them, that tell whether they are images."""


@dataclass(frozen=True)
class Source:
    """What a message calls a table, and what is typed to have it read: options of a command, or of Python's call."""

    name: str
    root: str | None = None  # as the command line was given it; None for a data frame

    def option(self, name: str, value: str) -> str:
        """One option with its value."""
        return f'{name}="{value}"' if self.root is None else f"--data.{name} {shlex.quote(value)}"

    def command(self, **options: str | None) -> str:
        """All that is to be typed."""
        root = [] if self.root is None else [f"--data.root {shlex.quote(self.root)}"]
        given = [self.option(name, value) for name, value in options.items() if value]
        return (", " if self.root is None else " ").join([*root, *given])


@dataclass(frozen=True)
class Columns:
    """The columns in use, by name: `labels` is one, or one for each class; `flags` say of one split each."""

    path: str
    labels: tuple[str, ...] = ()
    split: str | None = None
    flags: tuple[str, ...] = ()
    group: str | None = None

    def described(self, columns: Sequence[str]) -> str:
        """`path: id, label: breed; unused: age`; a column named after what it holds stands for itself."""
        labels = self.labels[0] if len(self.labels) == 1 else f"{len(self.labels)} columns"
        roles = {"path": self.path, "label": labels, "split": self.split or "", "group": self.group or ""}
        said = [role if role == name else f"{role}: {name}" for role, name in roles.items() if name]
        said += [f"split: {name}" for name in self.flags]
        used = {self.path, *self.labels, self.split, *self.flags, self.group}
        unused = [name for name in columns if name not in used]
        return ", ".join(said) + (f"; unused: {listed(unused)}" if unused else "")


def key_of(name: str) -> str:
    """`Image ID`, `image_id` and `ImageId` are one name."""
    return re.sub(r"[\W_]", "", name.casefold())


def find_path(frame: pd.DataFrame, images: NamedImages, source: Source, reading: Reading) -> tuple[str, bool]:
    """The column whose values are images ("" where none is called so), and whether they are there, most of them.

    Raises:
        UserError: the named one is not there, none is, or two name different images.
    """
    given = _named(frame, "path_column", source, reading)
    names = [given] if given else list(frame.columns)
    head = frame.head(_ROWS)
    different = {name: [value for value in head[name].map(str).str.strip().unique() if value] for name in names}
    looked_at = {name: values[:_LOOKED_AT] for name, values in different.items()}
    # Where paths are as they stand, nothing else of the disk is looked through, which may be a whole home.
    standing = [name for name, values in looked_at.items() if 2 * len(images.standing(values)) >= max(1, len(values))]
    found = []
    for name in standing or names:
        values = looked_at[name]
        meant = images.meant_by(values)
        share = len(meant) / max(1, len(values))
        looks = sum(map(is_image, values)) * 2 > len(values)
        if share > 0 and (share >= 0.5 or looks or is_called(name, PATHS) or given):
            count = round(share * len(different[name]))
            found.append((not looks, -count, _rank(name, PATHS), name, [*meant.paths.values()]))
    if not found:
        return given or next(_called(names, PATHS), ""), False
    first, *others = sorted(found, key=lambda one: one[:3])
    for other in others:
        are_alike = is_called(other[3], PATHS) == is_called(first[3], PATHS)
        if other[:2] == first[:2] and are_alike and other[4] != first[4]:
            raise UserError(
                f"{source.name} names images in the column '{first[3]}' and others in '{other[3]}'; say which: "
                f"{source.command(path_column=first[3], label_column=reading.label_column)}"
            )
    return first[3], True


def find_columns(frame: pd.DataFrame, path: str, has_header: bool, source: Source, reading: Reading) -> Columns:
    """The other columns; `labels` is empty where looking tells of none.

    Raises:
        UserError: a named column is not there, or two known names contradict each other.
    """
    others = [name for name in frame.columns if name != path]
    split, flags = _split_columns(frame, others, has_header)
    group = _named(frame, "group_column", source, reading) or next(_called(others, GROUPS), None)
    others = [name for name in others if name not in (split, *flags, group)]
    label = _named(frame, "label_column", source, reading)
    labels = (label,) if label else _label_columns(frame, others, has_header, source, path)
    return Columns(path, labels, split, flags, group if reading.group_column or group not in labels else None)


def _named(frame: pd.DataFrame, option: str, source: Source, reading: Reading) -> str | None:
    """The column that an option names, if it does; UserError where there is none of that name."""
    column = getattr(reading, option)
    if column is not None and column not in frame.columns:
        raise UserError(
            f"{source.name} has no column '{column}' as {source.option(option, column)} says, only "
            f"{listed(frame.columns)}.{nearest(column, frame.columns)}"
        )
    return column


def likely_labels(frame: pd.DataFrame, columns: Columns) -> list[str]:
    """Columns that may hold classes although their names do not say so, the likeliest first."""
    used = {columns.path, columns.split, columns.group, *columns.flags}
    others = [name for name in frame.columns if name not in used]
    misspelt = [name for name in others if get_close_matches(key_of(name), LABELS, n=1, cutoff=0.75)]
    repeated = [name for name in others if name not in misspelt and 2 <= _distinct(frame[name]) <= len(frame) / 2]
    return misspelt + sorted(repeated, key=lambda name: (key_of(name).endswith("id"), are_numbers(frame, name)))


def numbered_labels(columns: Iterable[str]) -> list[str]:
    """Columns `label_1`, `label_2`, …: each image has several labels."""
    found = [name for name in columns if re.fullmatch(r"labels?\d*", key_of(name))]
    return found if len(found) > 1 else []


def _label_columns(
    frame: pd.DataFrame, others: list[str], has_header: bool, source: Source, path: str
) -> tuple[str, ...]:
    if numbered_labels(others):
        return ()
    known = list(_called(others, LABELS))
    if any(key_of(name) == "x" for name in others):  # x and y are a place
        known = [name for name in known if key_of(name) != "y"]
    if len(known) > 1:
        first, *rest = (pd.factorize(frame[name].map(str))[0] for name in known)
        same = [known[0], *(name for name, one in zip(known[1:], rest, strict=True) if np.array_equal(first, one))]
        if len(same) == len(known) or not _rank(known[0], LABELS):
            known = sorted(same, key=lambda name: are_numbers(frame, name))  # names of classes before their numbers
        else:
            raise UserError(
                f"{source.name} has different classes in the columns {' and '.join(known)}; say which: "
                f"{source.command(path_column=path, label_column=known[0])}"
            )
    if known:
        return (known[0],)
    if hot := _shares(frame, others):
        return hot
    others = [name for name in others if not is_called(name, (*PERHAPS_SPLITS, "fold"))]
    if len(others) > 1:  # not every number is a class
        others = [] if has_header else [name for name in others if not are_numbers(frame, name)]
    return tuple(others) if len(others) == 1 and 2 <= _distinct(frame[others[0]]) <= len(frame) / 2 else ()


def _shares(frame: pd.DataFrame, others: list[str]) -> tuple[str, ...]:
    """Two columns or more of numbers from 0 to 1 that sum to one in each row; of only 0 and 1 where no others are."""
    numbers = {name: shares(frame[name]) for name in others}
    within = [name for name, column in numbers.items() if column.between(0, 1).all() and column.nunique() > 1]
    if len(within) < 2:
        return ()
    table = np.stack([numbers[name].to_numpy(np.float64) for name in within], axis=1)
    sum_to_one = bool((np.abs(table.sum(axis=1) - 1) < 0.01).all())
    are_only_flags = len(within) == len(others) and bool(np.isin(table, (0, 1)).all())
    return tuple(within) if sum_to_one or are_only_flags else ()


def shares(column: pd.Series) -> pd.Series:
    """A column as numbers, true as 1; NaN where a cell is none."""
    text = column.map(str).str.strip().str.lower().replace({"true": "1", "false": "0"})
    return pd.to_numeric(text, errors="coerce")


def _split_columns(frame: pd.DataFrame, others: list[str], has_header: bool) -> tuple[str | None, tuple[str, ...]]:
    for name in others:
        is_called, perhaps = key_of(name) == SPLIT, key_of(name) in PERHAPS_SPLITS or not has_header
        are_splits = map(split_of, frame[name].map(str).unique()) if is_called or perhaps else ()
        if (is_called and any(are_splits)) or (perhaps and all(are_splits)):  # not numbers of folds
            return name, ()
    return None, tuple(name for name in others if key_of(name) in FLAGS)


def _called(columns: Sequence[str], names: tuple[str, ...]) -> Iterator[str]:
    """The columns that are called by one of these names, the preferred one first."""
    return iter(sorted((one for one in columns if is_called(one, names)), key=lambda one: _rank(one, names)))


def is_called(column: str, names: tuple[str, ...]) -> bool:
    """Whether a column is called by one of these names, or by its plural."""
    return _rank(column, names) < len(names)


def _rank(name: str, names: tuple[str, ...]) -> int:
    keys = (key_of(name), key_of(name).removesuffix("s"))
    return next((rank for rank, known in enumerate(names) if known in keys), len(names))


def _distinct(column: pd.Series) -> int:
    return column.map(str).nunique()


def are_numbers(frame: pd.DataFrame, name: str) -> bool:
    """Whether every cell of a column is a number."""
    return bool(pd.to_numeric(frame[name].map(str), errors="coerce").notna().all())
