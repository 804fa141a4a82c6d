"""What was found in a data set, as a table: unusable files, copies, classes, groups; and the CSV file to act on."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from resnet_tl.data.index import ImageIndex
from resnet_tl.data.quality.audit import Audit
from resnet_tl.data.quality.duplicates import Duplicates
from resnet_tl.errors import UserError, listed
from resnet_tl.files import replacing

Suggestion = Literal["exclude", "look"]
FEW = 10
"""Training images below which a class is tiny: one in five is held out for validation, and two cannot be measured."""
_RANK = {"": 0, "train": 0, "val": 1, "test": 2, "predict": 3}
"""Of two copies in two splits the one of the lower rank may go: what is measured on stays as it is."""


@dataclass(frozen=True)
class Kind:
    """One kind of finding: a `stop` keeps a fit from starting, a `warning` can change its numbers."""

    severity: Literal["stop", "warning", "note"]
    title: str
    advice: str


KINDS: dict[str, Kind] = {
    "unusable": Kind("stop", "no usable image", "repair, remove or exclude; data.on_bad_image skip leaves them out"),
    "missing": Kind("stop", "named in a table, but not there", "correct it; data.on_bad_image skip leaves them out"),
    "lost_class": Kind("stop", "a class of which no file is read", "convert its files, or move them away"),
    "leak": Kind("stop", "the same picture in two splits", "exclude the copy that is trained on"),
    "cannot_split": Kind("stop", "nothing to validate with", "give a val split, or more images or groups"),
    "group_in_two_splits": Kind("stop", "a group in two splits", "give all its images one split"),
    "structure": Kind("warning", "what may be no class", "look at the folders; data.layout says what they mean"),
    "empty_folder": Kind("warning", "a folder without images", "fill it, or remove it"),
    "unread": Kind("warning", "pictures that are not read", "convert them, or install what reads them"),
    "near_leak": Kind("warning", "nearly the same picture in two splits", "look, and exclude the copy in train"),
    "contradiction": Kind("warning", "one picture, two labels", "correct the label, or exclude all copies"),
    "class_names": Kind("warning", "class names hard to tell apart", "rename, if they mean one class"),
    "too_alike": Kind("warning", "images all alike", "give a group column, if they are frames or series"),
    "tiny_class": Kind("warning", "few images to train on", "collect more, or merge classes"),
    "duplicate": Kind("note", "the same picture twice in a split", "exclude the copies in train"),
    "near_duplicate": Kind("note", "nearly the same picture twice", "look; our own split keeps them together"),
}
"""Every kind by its name in the CSV file, the gravest first."""


class Finding(NamedTuple):
    """One line of the table of findings; `exclude` is suggested where leaving the image out is safe and solves it."""

    path: str  # of the image as in the index; "" where classes are concerned
    finding: str  # a name in `KINDS`
    detail: str
    partner: str = ""  # the other image of a pair
    suggestion: Suggestion = "look"


COLUMNS = list(Finding._fields)


def find_all(
    index: ImageIndex, audit: Audit, contents: np.ndarray, duplicates: Duplicates, others: Iterable[Finding] = ()
) -> pd.DataFrame:
    """All findings, the gravest kinds first: columns `path, finding, detail, partner, suggestion`, all text.

    `contents` are the images' content hashes (N, 32), `others` findings that were made elsewhere.
    """
    found = [
        *(Finding(index.id(row), "unusable", reason, suggestion="exclude") for row, reason in audit.bad.items()),
        *_duplicates(index, contents, duplicates),
        *_classes(index, audit),
        *_groups(index),
        *(Finding("", "missing", name) for name in index.missing),
        *(Finding("", kind, detail) for kind, detail in index.doubts),
        *others,
    ]
    order = {kind: place for place, kind in enumerate(KINDS)}
    found.sort(key=lambda finding: order[finding.finding])
    return _with_classes_kept(pd.DataFrame(found, columns=COLUMNS, dtype=object), index, audit)


def _with_classes_kept(table: pd.DataFrame, index: ImageIndex, audit: Audit) -> pd.DataFrame:
    """Takes back the suggestions for a class that they would leave without a training image."""
    number = {path: row for row, path in enumerate(index.ids())}
    suggested = table["suggestion"] == "exclude"
    gone = {number[path] for path in table.loc[suggested, "path"]}
    splits = index.table["split"].isin(("train", "")).to_numpy()
    left = [row for row in np.flatnonzero(splits).tolist() if row not in gone and row not in audit.bad]
    emptied = set(index.labels[sorted(gone)].tolist()) - set(index.labels[left].tolist())
    kept = {index.id(row) for row in gone if index.labels[row] in emptied and row not in audit.bad}
    return table.assign(suggestion=table["suggestion"].mask(suggested & table["path"].isin(kept), "look"))


def counts(findings: pd.DataFrame) -> dict[str, int]:
    """How many findings there are of each kind, the gravest first."""
    number = findings["finding"].value_counts()
    return {kind: int(number[kind]) for kind in KINDS if kind in number}


def stops(findings: pd.DataFrame) -> bool:
    """Whether something was found that keeps a fit from starting."""
    return any(KINDS[kind].severity == "stop" for kind in counts(findings))


def in_one_line(findings: pd.DataFrame) -> str:
    """The counts as one line, such as `few images to train on: 3`, in the words of `data check`; "" for none."""
    return ", ".join(f"{KINDS[kind].title}: {count}" for kind, count in counts(findings).items())


def write_findings(findings: pd.DataFrame, path: str | Path) -> None:
    """Writes the table as CSV, whole or not at all; a path that begins like a formula gets `./` in front."""

    def no_formula(path: str) -> str:
        return f"./{path}" if path[:1] in tuple("=+-@ ") else path

    safe = findings.assign(**{name: findings[name].map(no_formula) for name in ("path", "partner")})
    with replacing(path) as temporary:
        safe.to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")


def refuse_lost_classes(index: ImageIndex) -> None:
    """Raises UserError, in one sentence, when there is a class of which no file is read."""
    for kind, detail in index.doubts:
        if kind == "lost_class":
            raise UserError(f"{index.root}: {detail}; to go on without it, move its files away.")


def refuse_leaks(index: ImageIndex, findings: pd.DataFrame) -> None:
    """Raises UserError, in one sentence, when an image of one split is in another one as well.

    Only equal files and equal pixels stop: of near duplicates (CIFAR-10 has 14 such pairs) a person has to judge.
    """
    leaks = findings[findings["finding"] == "leak"]
    if not len(leaks):
        return
    first = leaks.iloc[0]
    count = "one image is" if len(leaks) == 1 else f"{len(leaks)} images are"
    raise UserError(
        f"{index.root}: {count} in two splits, such as {first['path']} and {first['partner']} ({first['detail']}), "
        f"so that validation would look at what was trained on; list all with `resnet-tl data check {index.root}` and "
        "leave the copies out by --data.exclude findings.csv, or allow it with --data.on_leak warn."
    )


def _duplicates(index: ImageIndex, contents: np.ndarray, duplicates: Duplicates) -> Iterator[Finding]:
    """The copies that may go; each of them where labels contradict each other.

    Suggested for exclusion are copies in train that are in val or test as well, and in val of those in test; second
    copies within train; and, of equal images with different labels, all.
    """
    if duplicates.too_many:
        yield Finding("", "too_alike", "too many pairs are nearly the same to tell copies from a series of photos")
    rank = np.array([_RANK[split] for split in index.table["split"]], np.int64)
    equal = Duplicates(duplicates.pairs[duplicates.is_equal], duplicates.likeness[duplicates.is_equal])
    clusters = equal.clusters(len(index))
    members: dict[int, list[int]] = {}
    for row in np.unique(equal.pairs).tolist():
        members.setdefault(int(clusters[row]), []).append(row)
    for rows in members.values():
        yield from _equal(index, rows, rank, contents)
    for number in np.argsort(-duplicates.likeness, kind="stable"):
        if not duplicates.is_equal[number]:
            yield from _near(index, duplicates.pairs[number].tolist(), rank, float(duplicates.likeness[number]))


def _equal(index: ImageIndex, members: list[int], rank: np.ndarray, contents: np.ndarray) -> Iterator[Finding]:
    def how(one: int, other: int) -> str:
        return "the same file" if (contents[one] == contents[other]).all() else "the same pixels"

    labels = {int(index.labels[row]) for row in members}
    if len(labels) > 1:
        for row in members:
            other = next(other for other in members if index.labels[other] != index.labels[row])
            detail = f"{how(row, other)}, {_labelled(index, row, other)}"
            yield Finding(index.id(row), "contradiction", detail, index.id(other), "exclude")
    kept = max(members, key=lambda row: (rank[row], -row))
    for row in members:
        if rank[row] < rank[kept]:
            detail = f"{how(row, kept)}, {_across(index, row, kept)}"
            yield Finding(index.id(row), "leak", detail, index.id(kept), "exclude")
        elif row != kept and len(labels) == 1:
            # Another copy in val or test is only counted twice; what is measured on is not ours to change.
            suggestion: Suggestion = "look" if rank[row] else "exclude"
            yield Finding(index.id(row), "duplicate", how(row, kept), index.id(kept), suggestion)


def _near(index: ImageIndex, pair: list[int], rank: np.ndarray, likeness: float) -> Iterator[Finding]:
    how = f"correlate by {likeness:.3f}"
    row, kept = sorted(pair, key=lambda row: (rank[row], -row))
    if index.labels[row] != index.labels[kept]:
        for one, other in ((row, kept), (kept, row)):
            detail = f"{how}, {_labelled(index, one, other)}"
            yield Finding(index.id(one), "contradiction", detail, index.id(other))
    if rank[row] < rank[kept]:
        yield Finding(index.id(row), "near_leak", f"{how}, {_across(index, row, kept)}", index.id(kept), "exclude")
    elif index.labels[row] == index.labels[kept]:
        yield Finding(index.id(row), "near_duplicate", how, index.id(kept))


def _across(index: ImageIndex, row: int, kept: int) -> str:
    one, other = (index.table["split"].iloc[number] or "train" for number in (row, kept))
    return f"in {one} and {other}"


def _labelled(index: ImageIndex, one: int, other: int) -> str:
    first, second = (index.classes[int(index.labels[row])] for row in (one, other))
    return f"labelled '{first}' and '{second}'"


def _classes(index: ImageIndex, audit: Audit) -> Iterator[Finding]:
    """Class names hard to tell apart, and classes with few images; images that cannot be used do not count."""
    alike: dict[str, list[str]] = {}
    for spelling in index.classes:
        plain = " ".join(unicodedata.normalize("NFKC", spelling).casefold().split())
        alike.setdefault(plain, []).append(spelling)
    for names in alike.values():
        if len(names) > 1:
            detail = f"{listed(map(ascii, names))} differ by case, white space or Unicode form only"
            yield Finding("", "class_names", detail)
    counts = replace(index, table=index.table.drop(index=list(audit.bad)).reset_index(drop=True)).counts()
    training = counts[[name for name in ("train", "unsplit") if name in counts]].sum(axis=1)
    for name, count in training[training < FEW].items():
        yield Finding("", "tiny_class", f"'{name}' has {count} to train on")


def _groups(index: ImageIndex) -> Iterator[Finding]:
    grouped = index.table[(index.table["group"] != "") & (index.table["split"] != "")]
    for group, splits in grouped.groupby("group")["split"].unique().items():
        if len(splits) > 1:
            yield Finding("", "group_in_two_splits", f"'{group}' has images in {', '.join(sorted(splits))}")
