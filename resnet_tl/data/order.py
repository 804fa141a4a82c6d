"""Which rows come next: the order of an epoch, and each process's share of its batches."""

from __future__ import annotations

import numpy as np


def epoch_order(rows: np.ndarray, seed: int, epoch: int, balanced_by: np.ndarray | None = None) -> np.ndarray:
    """The order of an epoch of training rows, a function of (seed, epoch) alone.

    With `balanced_by`, the label of each of `rows`, as many are drawn, with replacement, every class equally likely.
    """
    generator = np.random.default_rng([seed, epoch])
    if balanced_by is None:
        return generator.permutation(rows)
    _, inverse, counts = np.unique(balanced_by, return_inverse=True, return_counts=True)
    weights = 1.0 / counts[inverse]
    return generator.choice(rows, size=len(rows), p=weights / weights.sum())


def training_batches(order: np.ndarray, batch_size: int, rank: int = 0, world: int = 1) -> list[np.ndarray]:
    """This rank's share of each step; every rank makes the same number of steps and no row comes twice.

    A last step with a single image for some rank is left out, unless that is the batch size: BatchNorm cannot train
    on one.
    """
    step = batch_size * world
    chunks = [order[start : start + step] for start in range(0, len(order), step)]
    if len(chunks) > 1 and len(chunks[-1]) < min(2, batch_size) * world:
        chunks.pop()
    return [chunk[rank::world] for chunk in chunks]


def evaluation_batches(rows: np.ndarray, batch_size: int, rank: int = 0, world: int = 1) -> list[np.ndarray]:
    """This rank's `rows[rank::world]`, unpadded, in as many batches on every rank.

    Equal counts keep the collective operations of all ranks in step; a rank with too few rows ends on empty batches.
    """
    longest = -(-len(rows) // world)
    return np.array_split(rows[rank::world], -(-longest // batch_size)) if longest else []
