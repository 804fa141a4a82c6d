"""Which things belong together, by the pairs that join them."""

from __future__ import annotations

import numpy as np


def united(pairs: np.ndarray, count: int) -> np.ndarray:
    """For each of `count` things the smallest one that the pairs (M, 2) join it to, directly or not, (count,) int64."""
    leader = list(range(count))

    def leader_of(thing: int) -> int:
        while leader[thing] != thing:
            leader[thing] = leader[leader[thing]]  # halves the way for the next time
            thing = leader[thing]
        return thing

    for one, other in pairs.tolist():
        low, high = sorted((leader_of(one), leader_of(other)))
        leader[high] = low
    joined = np.arange(count, dtype=np.int64)
    for thing in np.unique(pairs).tolist():
        joined[thing] = leader_of(thing)
    return joined
