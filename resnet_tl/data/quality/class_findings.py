"""Findings about classes and groups: names hard to tell apart, rare classes, a shift between splits, torn groups."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from resnet_tl.data.index import ImageIndex
from resnet_tl.data.quality.audit import Audit
from resnet_tl.data.quality.finding_kinds import Finding

FEW = 10
"""Training images below which a class is tiny: one in five is held out for validation, and two cannot be measured."""
SHIFT = 0.1
"""Share of a split's images that would have to change class to make it like train (total variation)."""
CHANCE = 0.001
"""A shift is reported where chance would make one as large less often than this (chi-square test)."""


def class_findings(index: ImageIndex, audit: Audit) -> Iterator[Finding]:
    """Findings on the classes as a whole, and on groups in two splits; images that cannot be used do not count."""
    yield from _names(index.classes)
    counts = replace(index, table=index.table.drop(index=list(audit.bad)).reset_index(drop=True)).counts()
    training = counts[[name for name in ("train", "unsplit") if name in counts]].sum(axis=1)
    for name, count in training.items():
        if count < FEW:
            yield Finding("", "tiny_class", f"'{name}' has {count} to train on")
    for split in ("val", "test"):
        if split in counts and "train" in counts:
            yield from _shift(counts["train"].to_numpy(), counts[split].to_numpy(), split, index.classes)
    yield from _groups(index)


def _names(classes: tuple[str, ...]) -> Iterator[Finding]:
    alike: dict[str, list[str]] = {}
    for name in classes:
        plain = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        alike.setdefault(plain, []).append(name)
    for names in alike.values():
        if len(names) > 1:
            listed = ", ".join(map(ascii, names))
            yield Finding("", "class_names", f"{listed} differ by case, white space or Unicode form only")


def _shift(train: np.ndarray, other: np.ndarray, split: str, classes: tuple[str, ...]) -> Iterator[Finding]:
    table = np.stack([train, other])[:, train + other > 0].astype(float)
    if (table.sum(axis=1) == 0).any():
        return
    difference = other / other.sum() - train / train.sum()
    distance = np.abs(difference).sum() / 2
    if distance < SHIFT:
        return
    from scipy.special import chdtrc

    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    if chdtrc(table.shape[1] - 1, ((table - expected) ** 2 / expected).sum()) < CHANCE:
        most = int(np.abs(difference).argmax())
        shares = f"'{classes[most]}' is {train[most] / train.sum():.0%} of train, {other[most] / other.sum():.0%} of it"
        yield Finding("", "class_shift", f"{split} differs from train by {distance:.0%}: {shares}")


def _groups(index: ImageIndex) -> Iterator[Finding]:
    grouped = index.table[(index.table["group"] != "") & (index.table["split"] != "")]
    for group, splits in grouped.groupby("group")["split"].unique().items():
        if len(splits) > 1:
            detail = f"'{group}' has images in {', '.join(sorted(splits))}"
            yield Finding("", "group_in_two_splits", detail)
