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
    validates: bool = True,
) -> ImageIndex:
    """Fills in the splits that `index` lacks, from its training or unsplit rows.

    Val is made when there is none; test only when `test_fraction` is above 0 and there is none. Each class is divided
    by the fractions, keeps at least one image in train and, where it has two or more, one in val. Images of one group
    stay together, and so do rows of one cluster, numbered by `clusters` (N,), which show the same picture: they follow
    the first of them by path. An image's place follows from (seed, path) alone. Unless it `validates`, a `val_fraction`
    of 0 is allowed.

    Raises:
        UserError: the fractions leave nothing to train on or to validate with, or, unless `groups_may_span`, a group
            spans two splits.
    """
    if validates and "val" not in set(index.table["split"]) and not 0 < val_fraction < 1:
        raise UserError(f"val_fraction is {val_fraction}; it must be above 0 and below 1, for there is no val split.")
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
    if not 0 <= test < 1 or val + test >= 1:
        raise UserError(f"val_fraction {val} and test_fraction {test} must be from 0 and below 1 together.")

    pool = np.concatenate([index.rows(""), index.rows("train")])
    if len(pool) == 0:
        raise UserError(f"{index.root} has no images to train on.")
    if val == test == 0:
        return _with_splits(index, pool, np.zeros(len(pool), int), index.layout)

    pool = _drawn(index, pool, seed)
    labels = index.labels[pool]
    groups = index.table["group"].to_numpy(object)[pool]
    cluster = np.arange(len(pool)) if clusters is None else clusters[pool]
    if not groups.any():
        paths = index.table["path"].iloc[pool].reset_index(drop=True)
        leaders = paths.rank(method="first").groupby(cluster).transform("idxmin")  # the first of each cluster by path
        places = _led(labels, leaders.to_numpy(), val, test)
    else:
        places = _grouped(labels, _joined(groups, cluster), val, test)
    if val and not (places == _VAL).any():
        raise UserError(f"{index.root}: no class has two images, or two groups, so there is nothing to validate with.")
    made = [f"{name} {fraction:.0%}" for name, fraction in (("val", val), ("test", test)) if fraction]
    return _with_splits(index, pool, places, f"{index.layout}; split off here: {', '.join(made)}, seed {seed}")


def pooled(index: ImageIndex) -> ImageIndex:
    """All but the test rows as training images."""
    return _with_splits(index, index.table["split"].to_numpy(object) != "test", _TRAIN, index.layout)


def assign_fold(
    index: ImageIndex, fold: int, folds: int, seed: int = 0, clusters: np.ndarray | None = None
) -> ImageIndex:
    """The `pooled` rows dealt into `folds` parts, of which number `fold`, from 1, is val and the others train.

    Each class is spread evenly, and the parts are of one size as far as that goes; groups and clusters stay whole, as
    in `assign_splits`. An image's part follows from (seed, paths) alone.

    Raises:
        UserError: a class has fewer images, or groups and clusters, than there are folds, or a fold would hold all of
            its images.
    """
    pool = _drawn(index, np.flatnonzero(index.table["split"].to_numpy(object) != "test"), seed)
    labels, cluster = index.labels[pool], np.arange(len(pool)) if clusters is None else clusters[pool]
    groups = _joined(index.table["group"].to_numpy(object)[pool], cluster)
    classes, apart = np.unique(np.unique(np.stack([labels, groups]), axis=1)[0], return_counts=True)
    if apart.min() < folds:
        rarest = classes[apart.argmin()]
        images, name, most = int((labels == rarest).sum()), index.classes[rarest], int(apart.min())
        kept = "" if images == most else f", which groups and copies of one picture leave in {most} parts"
        way = f"give {most} or fewer" if most > 1 else "add images of it, or leave the class out"
        images_of = "1 image" if images == 1 else f"{images} images"
        raise UserError(f"data.folds is {folds}, but the class '{name}' has {images_of}{kept}: {way}.")
    parts = _dealt(labels, groups, folds)
    for label in classes[[len(set(parts[labels == label])) < 2 for label in classes]]:
        raise UserError(
            f"data.folds is {folds}, but the groups leave all images of the class '{index.classes[label]}' in one of "
            "them, without which it cannot be learned: give another number of folds."
        )
    places = np.where(parts == fold - 1, _VAL, _TRAIN)
    return _with_splits(index, pool, places, f"{index.layout}; dealt into {folds} folds here, seed {seed}")


def deal(
    index: ImageIndex, rows: np.ndarray, folds: int, seed: int = 0, clusters: np.ndarray | None = None
) -> np.ndarray:
    """The part, from 0, of each of some rows (n,), dealt as by `assign_fold`; rare classes are in fewer parts."""
    drawn = _drawn(index, rows, seed)
    cluster = np.arange(len(drawn)) if clusters is None else clusters[drawn]
    groups = _joined(index.table["group"].to_numpy(object)[drawn], cluster)
    parts = np.empty(len(index), int)
    parts[drawn] = _dealt(index.labels[drawn], groups, folds)
    return parts[rows]


def _dealt(labels: np.ndarray, groups: np.ndarray, folds: int) -> np.ndarray:
    """Part of each image, from 0: groups of the rarest classes first, large ones first, go where they are most needed.

    Of parts that need a group alike the one with the fewest images takes it.
    """
    labels, counts = np.unique(labels, return_inverse=True, return_counts=True)[1:]
    sizes = np.bincount(groups)
    labels_of = np.split(labels[np.argsort(groups, kind="stable")], np.cumsum(sizes)[:-1])
    rarity = np.array([counts[members].min() for members in labels_of])
    rarest = np.array([members[counts[members].argmin()] for members in labels_of])
    need = np.tile(counts, (folds, 1))  # of images, times `folds`, so that it is whole
    held = np.zeros(folds, int)
    part_of = np.empty(len(sizes), int)
    for group in np.lexsort((-sizes, rarest, rarity)):
        members = labels_of[group]
        part = part_of[group] = np.lexsort((held, -need[:, members].sum(axis=1)))[0]
        np.subtract.at(need[part], members, folds)
        held[part] += len(members)
    return part_of[groups]


def _drawn(index: ImageIndex, rows: np.ndarray, seed: int) -> np.ndarray:
    """Rows in an order that is drawn by (seed, path) alone."""
    order = [hashlib.sha256(f"{seed}:{index.id(row)}".encode()).hexdigest() for row in rows]
    return rows[np.argsort(np.array(order))]


def _with_splits(index: ImageIndex, rows: np.ndarray, places: np.ndarray | int, layout: str) -> ImageIndex:
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


def _joined(names: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Groups, numbered from 0, by their names ("": an image by itself); those that share a cluster are one."""
    groups = pd.factorize(np.array([name or place for place, name in enumerate(names)], object))[0]
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
