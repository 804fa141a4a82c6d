"""Images that are in a data set more than once: the same file, the same pixels, or all but the same picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from resnet_tl.data.index import ImageIndex
from resnet_tl.data.kept_arrays import Arrays, kept_arrays, key_of
from resnet_tl.data.pixels.decode import BadImage, decode
from resnet_tl.data.pixels.deep import ValueRange
from resnet_tl.data.quality.audit import Audit
from resnet_tl.data.quality.neighbours import close_pairs
from resnet_tl.data.quality.thumbnails import MIN_CONTRAST, contrast, directions, extent, shrunk
from resnet_tl.data.threads import for_each

# Chosen on pairs looked at by eye, see docs/data_audit.md. The most alike strokes that are the digit 1 correlate by
# 0.986: images which show little must be more alike than others.
CANDIDATE = 0.97
"""Correlation of the thumbnails of the decode pass, coarser and less exact, from which on a pair is looked at again."""
ALIKE = 0.98
"""Correlation at 32 pixels from which on two images are near duplicates."""
MIN_EXTENT = 1 / 8
"""Share of its area on which an image must show something to be judged by `ALIKE`; by `SURELY_ALIKE` otherwise."""
SURELY_ALIKE = 0.995
MOST_PER_IMAGE = 4
"""Pairs per image; beyond, the images are alike by their nature (one camera that never moves, frames of a film)."""
_ARRAYS = ("pairs", "likeness", "too_many")
_CONTENT = 3
"""Raised whenever other pairs are found or they are kept in another way."""
_BLANK = 1.0
_SIDE = 32


@dataclass(frozen=True, eq=False)
class Duplicates:
    """Pairs of labelled images that show the same; of k equal files there are k - 1, with the first of them."""

    pairs: np.ndarray  # rows (M, 2) int64, the smaller one first
    likeness: np.ndarray  # (M,) float32: 1 for the same pixels, else the correlation at 32 pixels, from 0.98 up
    too_many: bool = False  # near duplicates to mean anything: `pairs` are then the equal ones

    @cached_property
    def is_equal(self) -> np.ndarray:
        """Which pairs have the same pixels, (M,) bool."""
        return self.likeness == 1

    def clusters(self, count: int) -> np.ndarray:
        """For each of `count` rows the first row of its cluster, (count,) int64: pairs join rows to clusters."""
        joined = coo_array((np.ones(len(self.pairs)), self.pairs.T), (count, count))
        number = connected_components(joined, directed=False)[1]
        return np.unique(number, return_index=True)[1][number]


def find_duplicates(index: ImageIndex, contents: np.ndarray, audit: Audit) -> Duplicates:
    """The duplicates among the good, labelled images: kept ones for images of the same content, else searched now."""
    rows = np.setdiff1d(np.flatnonzero(index.labels >= 0), list(audit.bad))

    key = key_of(["duplicates", _CONTENT, audit.value_range], contents[rows])
    about = f"duplicates among {len(rows)} images in {index.root}"
    found = kept_arrays(key, _ARRAYS, len(rows), 20, about, lambda: _search(index, rows, contents[rows], audit))
    return Duplicates(rows[found["pairs"]], found["likeness"], bool(found["too_many"][0]))


def _search(index: ImageIndex, rows: np.ndarray, contents: np.ndarray, audit: Audit) -> Arrays:
    """The duplicates as positions in `rows`."""
    thumbnails = audit.thumbnails[rows]
    contrasts = contrast(thumbnails)
    firsts, copies = _equal_files(contents)
    shown = contrasts[firsts[copies]] >= _BLANK  # blank pages are copies of each other, and teach nothing
    pairs = np.stack([firsts[copies], copies], axis=1)[shown]
    likeness = np.ones(len(pairs), np.float32)
    judged = np.setdiff1d(np.flatnonzero(contrasts >= MIN_CONTRAST), copies)
    candidates = close_pairs(directions(thumbnails[judged]), CANDIDATE, MOST_PER_IMAGE * len(rows))
    if candidates is not None:
        candidates = judged[candidates]
        alike = _confirmed(index, rows, candidates, audit.value_range)
        near = alike > 0
        pairs, likeness = np.concatenate([pairs, candidates[near]]), np.concatenate([likeness, alike[near]])
    return {"pairs": pairs, "likeness": likeness, "too_many": np.array([candidates is None])}


def _equal_files(contents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each position the first one with the same content, and the positions that are not the first, ascending."""
    _, first, inverse = np.unique(contents.view("V32"), return_index=True, return_inverse=True)
    firsts = first[inverse.ravel()]
    return firsts, np.flatnonzero(firsts != np.arange(len(firsts)))


def _confirmed(
    index: ImageIndex, rows: np.ndarray, candidates: np.ndarray, value_range: ValueRange | None
) -> np.ndarray:
    """The likeness of each candidate pair (M, 2), (M,) float32; 0 where the two are not alike enough.

    The images are decoded again in one way, so that the outcome does not follow from how the pass before shrunk them.
    """
    members, places = np.unique(candidates, return_inverse=True)
    places = places.reshape(-1, 2)
    fine = np.zeros((len(members), _SIDE, _SIDE), np.uint8)

    def decode_member(place: int) -> None:
        try:
            grey = decode(index.path(int(rows[members[place]])), 1, 2 * _SIDE, value_range)
        except BadImage:  # gone since the audit; the loader will say so
            return
        fine[place] = shrunk(np.ascontiguousarray(grey[..., 0]), _SIDE)

    for_each(np.arange(len(members)), decode_member, "comparing")
    vectors, extents = directions(fine), extent(fine)
    correlation = np.einsum("nd,nd->n", vectors[places[:, 0]], vectors[places[:, 1]])
    needed = np.where(extents[places].min(axis=1) >= MIN_EXTENT, ALIKE, SURELY_ALIKE)
    likeness = np.where(correlation >= needed, np.minimum(correlation, np.float32(0.9999)), 0).astype(np.float32)

    def compare_pixels(number: int) -> None:
        one, other = (decode(index.path(int(row)), 4, None, value_range) for row in rows[candidates[number]])
        if np.array_equal(one, other):
            likeness[number] = 1

    same_at_a_glance = (fine[places[:, 0]] == fine[places[:, 1]]).all(axis=(1, 2)) & (likeness > 0)
    for_each(np.flatnonzero(same_at_a_glance), compare_pixels, "comparing")
    return likeness
