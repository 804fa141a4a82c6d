"""Splitting images into train, val and test: stratified, whole groups together, the same on every machine."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from resnet_tl.data.index import ImageIndex
from resnet_tl.errors import UserError

_TRAIN, _VAL, _TEST = range(3)
_NAMES = np.array(["train", "val", "test"], dtype=object)


def assign_splits(
    index: ImageIndex,
    val_fraction: float = 0.2,
    test_fraction: float = 0.0,
    seed: int = 0,
    clusters: np.ndarray | None = None,
    groups_may_span: bool = False,
) -> ImageIndex:
    """Fills in the splits that `index` lacks, from its training or unsplit rows.

    Val is made when there is none; test only when `test_fraction` is above 0 and there is none. Each class is divided
    by the fractions, keeps at least one image in train and, where it has two or more, one in val. Images of one group
    stay together, and so do rows of one cluster, numbered by `clusters` (N,), which show the same picture: they follow
    the first of them by path. An image's place follows from (seed, path) alone.

    Raises:
        UserError: the fractions leave nothing to train on or to validate with, or, unless `groups_may_span`, a group
            spans two splits.
    """
    made = _divided(index, val_fraction, test_fraction, seed, clusters)
    grouped = made.table[made.table["group"] != ""].groupby("group")["split"].unique()
    for group, splits in grouped.items() if not groups_may_span else ():
        if len(splits) > 1:
            raise UserError(
                f"{index.root}: the group '{group}' has images in {', '.join(sorted(splits))}; a group must stay in "
                "one split, or validation would look at what was trained on; allow it with --data.on_leak warn."
            )
    return made


def _divided(
    index: ImageIndex, val_fraction: float, test_fraction: float, seed: int, clusters: np.ndarray | None
) -> ImageIndex:
    present = set(index.table["split"])
    val = 0.0 if "val" in present else val_fraction
    test = 0.0 if "test" in present else test_fraction
    if "val" not in present and not 0 < val < 1:
        raise UserError(f"val_fraction is {val}; it must be above 0 and below 1, for there is no val split.")
    if not 0 <= test < 1 or val + test >= 1:
        raise UserError(f"val_fraction {val} and test_fraction {test} must be from 0 and below 1 together.")

    pool = np.concatenate([index.rows(""), index.rows("train")])
    if len(pool) == 0:
        raise UserError(f"{index.root} has no images to train on.")
    if val == test == 0:
        return _with_splits(index, pool, np.zeros(len(pool), int), index.layout)

    order = np.array([hashlib.sha256(f"{seed}:{index.id(row)}".encode()).hexdigest() for row in pool])
    pool = pool[np.argsort(order)]
    labels = index.labels[pool]
    groups = index.table["group"].to_numpy(object)[pool]
    cluster = np.arange(len(pool)) if clusters is None else clusters[pool]
    if not groups.any():
        paths = index.table["path"].iloc[pool].reset_index(drop=True)
        leaders = paths.rank(method="first").groupby(cluster).transform("idxmin")  # the first of each cluster by path
        places = _led(labels, leaders.to_numpy(), val, test)
    else:
        own = np.array([group or place for place, group in enumerate(groups)], object)  # one without a group is its own
        places = _grouped(labels, _joined(pd.factorize(own)[0], cluster), val, test)
    if val and not (places == _VAL).any():
        raise UserError(f"{index.root}: no class has two images, or two groups, so there is nothing to validate with.")
    made = [f"{name} {fraction:.0%}" for name, fraction in (("val", val), ("test", test)) if fraction]
    return _with_splits(index, pool, places, f"{index.layout}; split off here: {', '.join(made)}, seed {seed}")


def _with_splits(index: ImageIndex, rows: np.ndarray, places: np.ndarray, layout: str) -> ImageIndex:
    splits = index.table["split"].to_numpy(object, copy=True)
    splits[rows] = _NAMES[places]
    return replace(index, table=index.table.assign(split=splits.tolist()), layout=layout)


def _led(labels: np.ndarray, leaders: np.ndarray, val: float, test: float) -> np.ndarray:
    """Place of each image: those that lead a cluster (or are alone) are divided, the others follow their leaders."""
    leads = leaders == np.arange(len(labels))
    places = np.full(len(labels), _TRAIN)
    places[leads] = _stratified(labels[leads], val, test)
    places = places[leaders]
    for label in np.unique(labels):  # one whose images all follow those of another class must have some to train on
        members = labels == label
        if not (places[members] == _TRAIN).any():
            places[np.isin(leaders, leaders[members])] = _TRAIN
    return places


def _joined(groups: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Groups (numbered from 0) of which those that share a cluster are one."""
    first = pd.Series(groups).groupby(clusters).transform("first").to_numpy()
    joined = coo_array((np.ones(len(groups)), (groups, first)), (groups.max() + 1,) * 2)
    return pd.factorize(connected_components(joined, directed=False)[1][groups])[0]


def _stratified(labels: np.ndarray, val: float, test: float) -> np.ndarray:
    """Place of each image: in every class the first ones go to val, the next to test, the rest to train."""
    places = np.full(len(labels), _TRAIN)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        _, in_val, in_test = _shares(len(members), val, test)
        places[members[:in_val]] = _VAL
        places[members[in_val : in_val + in_test]] = _TEST
    return places


def _shares(count: int, val: float, test: float) -> tuple[int, int, int]:
    """How many of a class's `count` images go to train, val and test; train comes first when there are few."""

    def rounded(fraction: float) -> int:  # halves up, of the decimals: float products would round by their error
        return int(count * Fraction(str(fraction)) + Fraction(1, 2))

    in_val = min(max(rounded(val), 1), count - 1) if val else 0
    in_test = min(max(rounded(test), 1), max(count - 1 - in_val, 0)) if test else 0
    return count - in_val - in_test, in_val, in_test


def _grouped(labels: np.ndarray, groups: np.ndarray, val: float, test: float) -> np.ndarray:
    """Place of each image when groups (numbered from 0) stay whole.

    First every class gets a group in train, then, where one is left, in val and test, rare classes first. The other
    groups, largest first, go where their images are most needed.
    """
    labels = np.unique(labels, return_inverse=True)[1]
    sizes = np.bincount(groups)
    labels_of = np.split(labels[np.argsort(groups, kind="stable")], np.cumsum(sizes)[:-1])
    groups_of = [np.unique(groups[labels == label]) for label in range(labels.max() + 1)]
    need = np.array([_shares(count, val, test) for count in np.bincount(labels).tolist()]).T  # (places, classes)
    covered = np.zeros(need.shape, bool)
    place_of = np.full(len(sizes), -1)

    def put(group: int, place: int) -> None:
        place_of[group] = place
        covered[place, labels_of[group]] = True
        np.subtract.at(need[place], labels_of[group], 1)

    by_rarity = sorted(range(len(groups_of)), key=lambda label: len(groups_of[label]))
    for place in [_TRAIN] + [_VAL] * (val > 0) + [_TEST] * (test > 0):
        for label in by_rarity:
            free = groups_of[label][place_of[groups_of[label]] == -1]
            if len(free) and not covered[place, label]:
                put(free[np.argmin(sizes[free])], place)
    for group in np.argsort(-sizes, kind="stable"):
        if place_of[group] == -1:
            put(group, int(np.argmax(need[:, labels_of[group]].sum(axis=1))))
    return place_of[groups]
