"""Findings about images that show the same: within a split, across splits, and with contradictory labels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from resnet_tl.data.index import ImageIndex
from resnet_tl.data.quality.duplicates import Duplicates
from resnet_tl.data.quality.finding_kinds import Finding

_RANK = {"": 0, "train": 0, "val": 1, "test": 2, "predict": 3}
"""Of two copies in two splits the one of the lower rank may go: what is measured on stays as it is."""


def duplicate_findings(index: ImageIndex, contents: np.ndarray, duplicates: Duplicates) -> Iterator[Finding]:
    """Findings on the copies that may go; on each of them where labels contradict each other.

    Suggested for exclusion are copies in train that are in val or test as well, and in val of those in test; second
    copies within train; and, of equal images with different labels, all. Only a person can tell which of two images
    that are merely alike is labelled wrong.
    """
    if duplicates.too_many:
        yield Finding("", "too_alike", "too many pairs are nearly the same to tell copies from a series of photos")
    rank = np.array([_RANK[split] for split in index.table["split"]], np.int64)
    for members in _equal_images(duplicates, len(index)):
        yield from _of_equal_images(index, members, rank, contents)
    for number in np.argsort(-duplicates.likeness, kind="stable"):
        if not duplicates.is_equal[number]:
            yield from _of_near_duplicates(
                index, duplicates.pairs[number].tolist(), rank, float(duplicates.likeness[number])
            )


def feature_findings(index: ImageIndex, pairs: np.ndarray, cosines: np.ndarray) -> Iterator[Finding]:
    """Pairs of rows (M, 2) whose features in a network point almost the same way, with their cosines (M,)."""
    splits = index.table["split"].tolist()
    for (one, other), cosine in zip(pairs.tolist(), cosines.tolist(), strict=True):
        where = " and ".join(dict.fromkeys(splits[row] or "unsplit" for row in (one, other)))
        labels = " and ".join(dict.fromkeys(f"'{_label(index, row)}'" for row in (one, other)))
        detail = f"features with cosine {cosine:.3f}, in {where}, labelled {labels}"
        yield Finding(index.id(other), "alike_features", detail, index.id(one))


def _equal_images(duplicates: Duplicates, count: int) -> list[list[int]]:
    """The rows of each cluster of equal images, ascending."""
    equal = Duplicates(duplicates.pairs[duplicates.is_equal], duplicates.likeness[duplicates.is_equal])
    clusters = equal.clusters(count)
    members: dict[int, list[int]] = {}
    for row in np.unique(equal.pairs).tolist():
        members.setdefault(int(clusters[row]), []).append(row)
    return list(members.values())


def _of_equal_images(
    index: ImageIndex, members: list[int], rank: np.ndarray, contents: np.ndarray
) -> Iterator[Finding]:
    labels = {int(index.labels[row]) for row in members}
    if len(labels) > 1:
        for row in members:
            other = next(other for other in members if index.labels[other] != index.labels[row])
            detail = f"{_how(contents, row, other)}, {_labelled(index, row, other)}"
            yield Finding(index.id(row), "contradiction", detail, index.id(other), "exclude")
    kept = max(members, key=lambda row: (rank[row], -row))
    for row in members:
        how = _how(contents, row, kept)
        if rank[row] < rank[kept]:
            yield Finding(index.id(row), "leak", f"{how}, {_across(index, row, kept)}", index.id(kept), "exclude")
        elif row != kept and len(labels) == 1:
            # Another copy in val or test is only counted twice; what is measured on is not ours to change.
            yield Finding(index.id(row), "duplicate", how, index.id(kept), "look" if rank[row] else "exclude")


def _of_near_duplicates(index: ImageIndex, pair: list[int], rank: np.ndarray, likeness: float) -> Iterator[Finding]:
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


def _how(contents: np.ndarray, one: int, other: int) -> str:
    return "the same file" if (contents[one] == contents[other]).all() else "the same pixels"


def _across(index: ImageIndex, row: int, kept: int) -> str:
    one, other = (index.table["split"].iloc[number] or "train" for number in (row, kept))
    return f"in {one} and {other}"


def _labelled(index: ImageIndex, one: int, other: int) -> str:
    return f"labelled '{_label(index, one)}' and '{_label(index, other)}'"


def _label(index: ImageIndex, row: int) -> str:
    return index.classes[int(index.labels[row])]
