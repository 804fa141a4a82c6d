"""Confident learning: which labels are probably wrong, by what models say of images that they had not seen.

Northcutt, Jiang and Chuang 2021, Confident Learning: Estimating Uncertainty in Dataset Labels, arXiv 1911.00068. In all
functions `labels` are class numbers (N,) and `probabilities` (N, C) are out of fold.
"""

from __future__ import annotations

import numpy as np

TOLERANCE = 1e-6
"""Probabilities this close are equal."""


def self_confidence(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The probability of each image's own label, (N,): the lower, the more suspicious."""
    return probabilities[np.arange(len(labels)), labels]


def confident_joint(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """How many images with the label of the row belong to the class of the column, (C, C) int64, as estimated.

    An image is counted for the class of which it is as sure as that class's own images are on average (of several, for
    the most probable); images that are so of no class are left out. The counts of each row are then scaled to the
    number of images that have the label (sections 3.1 and 3.2 of the paper).
    """
    classes = probabilities.shape[1]
    images = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, self_confidence(labels, probabilities), classes)
    thresholds = np.where(images > 0, sums / np.maximum(images, 1), np.inf)
    confident = np.where(probabilities >= thresholds - TOLERANCE, probabilities, -1.0)
    rows = np.flatnonzero(confident.max(axis=1) >= 0)
    joint = np.zeros((classes, classes), np.int64)
    np.add.at(joint, (labels[rows], confident[rows].argmax(axis=1)), 1)
    np.fill_diagonal(joint, np.maximum(joint.diagonal(), 1))  # no class consists of errors alone
    return _rounded(joint / joint.sum(axis=1, keepdims=True) * images[:, None])


def prune_by_noise_rate(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Whether each label is an error, (N,) bool: of each label and other class as many as the joint counts.

    They are those by which the other class is most probable beside the label (section 3.3); none of which the label is
    the most probable class.
    """
    joint = confident_joint(labels, probabilities)
    found = np.zeros(len(labels), bool)
    for label, row in enumerate(joint):
        members = np.flatnonzero(labels == label)
        for other in np.flatnonzero(row):
            if other != label:
                margins = probabilities[members, other] - probabilities[members, label]
                found[members[np.argsort(-margins)[: row[other]]]] = True
    return found & ~_is_own_best(labels, probabilities)


def prune_by_both(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """As `prune_by_noise_rate`, but only where the label is among the least probable of its class as well, (N,) bool.

    These are as many as the joint counts for all other classes together.
    """
    joint = confident_joint(labels, probabilities)
    least = np.zeros(len(labels), bool)
    for label, row in enumerate(joint):
        members = np.flatnonzero(labels == label)
        order = np.argsort(probabilities[members, label])
        least[members[order[: len(members) - row[label]]]] = True
    return least & prune_by_noise_rate(labels, probabilities)


def _is_own_best(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    return self_confidence(labels, probabilities) > probabilities.max(axis=1) - TOLERANCE


def _rounded(counts: np.ndarray) -> np.ndarray:
    """Whole numbers with the same sum in each row: the nearest ones, but where these add up to another sum."""
    whole = np.rint(counts)
    for given, row in zip(counts, whole, strict=True):
        missing = round(given.sum() - row.sum())
        order = np.argsort(given - row)
        row[order[-missing:] if missing > 0 else order[:-missing]] += np.sign(missing)
    return whole.astype(np.int64)
