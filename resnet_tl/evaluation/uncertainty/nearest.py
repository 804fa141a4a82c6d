"""Nearest neighbours of images by their features: which they are, how far away, and what they vote for.

Features are compared by their direction: the distance is 1 less the cosine, 0 for the same direction, 2 for the
opposite one.
"""

from __future__ import annotations

import numpy as np

NEIGHBOURS, TEMPERATURE = 20, 0.07
"""Of `knn_shares`: how many vote, and how sharply their closeness counts."""
_AT_ONCE = 8_000_000
"""Distances that are held at once, 32 MB."""


def unit(features: np.ndarray) -> np.ndarray:
    """Features (n, F) of length 1, float32; of zeros alone they stay zero."""
    values = features.astype(np.float32)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def nearest(queries: np.ndarray, gallery: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances (n, k) float32, rising, and places in the gallery (n, k) int64 of the nearest of it.

    Both `queries` (n, F) and `gallery` (g, F) are of length 1; k is `count`, or all of a smaller gallery.
    """
    count = min(count, len(gallery))
    distances = np.empty((len(queries), count), np.float32)
    places = np.empty((len(queries), count), np.int64)
    step = max(1, _AT_ONCE // len(gallery))
    for start in range(0, len(queries), step):
        rows = slice(start, start + step)
        each = 1 - queries[rows] @ gallery.T
        found = np.argpartition(each, count - 1, axis=1)[:, :count]
        found.sort(axis=1)  # of equally near ones the first
        near = np.take_along_axis(each, found, axis=1)
        order = np.argsort(near, axis=1, kind="stable")
        distances[rows] = np.maximum(np.take_along_axis(near, order, axis=1), 0)  # rounding goes below 0
        places[rows] = np.take_along_axis(found, order, axis=1)
    return distances, places


def knn_shares(queries: np.ndarray, gallery: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Probabilities (n, classes) float64 of images (n, F) by the votes of the 20 nearest of others (g, F).

    Directions are those from the others' mean, about which they differ. A vote counts exp(cosine / 0.07), as in Wu et
    al. 2018, Unsupervised Feature Learning via Non-Parametric Instance Discrimination, arXiv 1805.01978, and in DINO
    (arXiv 2104.14294); nothing is tuned. Each class has one vote more, of an image at right angles, so that no class is
    impossible. `labels` (g,) are class numbers.
    """
    mean = gallery.mean(axis=0)
    distances, places = nearest(unit(queries - mean), unit(gallery - mean), NEIGHBOURS)
    votes = np.ones((len(queries), classes))
    rows = np.repeat(np.arange(len(queries)), places.shape[1])
    np.add.at(votes, (rows, labels[places].ravel()), np.exp((1 - distances.ravel().astype(np.float64)) / TEMPERATURE))
    return votes / votes.sum(axis=1, keepdims=True)


def drawn(labels: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Places of at most `count` images, rising: each class its share, and one at least where there is room."""
    if len(labels) <= count:
        return np.arange(len(labels))
    order = np.random.default_rng(seed).permutation(len(labels))
    sizes = np.bincount(labels)
    by_class = order[np.argsort(labels[order], kind="stable")]
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    share = rank / sizes[labels[by_class]]
    return np.sort(by_class[np.argsort(share, kind="stable")[:count]])
