"""Pairs of unit vectors that point almost the same way, without comparing each with each."""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_limits

_DIMENSIONS = 32
"""Principal components in which vectors are compared first."""
_SAMPLE = 20_000
"""Vectors that the components are found from."""
_BLOCK, _CHUNK = 512, 8192
"""Vectors that are compared at once: 16 MB of inner products, whatever the number of vectors."""


@threadpool_limits.wrap(limits=1, user_api="blas")  # blocks are small: several threads would mostly wait for each other
def close_pairs(vectors: np.ndarray, cosine: float, most: int) -> np.ndarray | None:
    """Pairs (i, j), i < j, of unit vectors (N, D) whose inner product is at least `cosine`, (M, 2) int64, in order.

    Exact: vectors with such an inner product lie within r = sqrt(2 - 2 cosine) of each other, and so do their
    projections on any orthonormal basis. Sorted by their first principal component, only neighbours within r are
    compared; in 32 components, and those that are close there in all. None where there are more than `most` pairs.
    """
    found, count = [np.empty((0, 2), np.int64)], 0
    if len(vectors) < 2:
        return found[0]
    reach = 2 - 2 * cosine + 1e-5  # squared; and a little for rounding
    projected = vectors @ _components(vectors)
    order = np.argsort(projected[:, 0], kind="stable")
    vectors, projected = vectors[order], projected[order]
    first = projected[:, 0]
    # a b - |a|^2 / 2 - |b|^2 / 2 = -|a - b|^2 / 2, as one inner product.
    half = -(projected**2).sum(axis=1, keepdims=True) / 2
    ones = np.ones_like(half)
    left, right = np.hstack([projected, half, ones]), np.hstack([projected, ones, half])
    for start in range(0, len(vectors), _BLOCK):
        stop = min(start + _BLOCK, len(vectors))
        end = int(np.searchsorted(first, first[stop - 1] + np.sqrt(reach), side="right"))
        for low in range(start, end, _CHUNK):
            high = min(low + _CHUNK, end)
            near = left[start:stop] @ right[low:high].T >= -reach / 2
            some, others = np.flatnonzero(near.any(axis=1)) + start, np.flatnonzero(near.any(axis=0)) + low
            rows, columns = np.nonzero(vectors[some] @ vectors[others].T >= cosine)
            pairs = np.stack([some[rows], others[columns]], axis=1)
            found.append(np.sort(order[pairs[pairs[:, 0] < pairs[:, 1]]], axis=1))
            count += len(found[-1])
            if count > most:
                return None
    pairs = np.concatenate(found)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _components(vectors: np.ndarray) -> np.ndarray:
    """Directions of greatest spread, orthonormal, (D, at most 32) float32; any others would do, but skip less."""
    sample = vectors[:: max(1, len(vectors) // _SAMPLE)].astype(np.float64)
    components = np.linalg.eigh(np.cov(sample, rowvar=False)).eigenvectors  # by ascending spread
    return components[:, ::-1][:, :_DIMENSIONS].astype(np.float32)
