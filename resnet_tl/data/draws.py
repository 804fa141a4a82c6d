"""Random numbers that are a pure function of (seed, view, row, purpose), drawn for many rows at once."""

from __future__ import annotations

import os
from enum import IntEnum

import numpy as np

_GAMMA = np.uint64(0x9E3779B97F4A7C15)


class Purpose(IntEnum):
    """What numbers are drawn for; one purpose's numbers tell nothing about another's."""

    CROP = 0
    FLIP = 1
    ROTATION = 2
    COLOUR = 3
    SHIFT = 4
    TRIVIAL_AUGMENT = 5
    ERASING = 6
    TRANSFORM = 7
    PROBE = 8


def default_seed() -> int:
    """The seed of whoever is given none: that of Lightning's `seed_everything` where it was called, else 0."""
    return int(os.environ.get("PL_GLOBAL_SEED") or 0)


def step_seed(seed: int, step: int, rank: int) -> int:
    """A 64-bit seed of a training step for torch's generator, which dropout and mixup draw from."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def image_seed(seed: int, view: int, row: int) -> int:
    """A 64-bit seed of an image's view for generators of any kind, which a user's transform draws from."""
    return int(np.random.SeedSequence([seed, view, row, Purpose.TRANSFORM]).generate_state(1, np.uint64)[0])


def uniform(seed: int, view: int, rows: np.ndarray, purpose: Purpose, count: int) -> np.ndarray:
    """Numbers (N, count) float64 in [0, 1): those of a row are the same in whatever company it is drawn.

    A counter-based generator (Salmon et al. 2011) keeps no state that threads could disturb. The hash is SplitMix64
    (Steele, Lea and Flood 2014), whose n-th number can be had without those before it.
    """
    state = np.array([seed % 2**64], np.uint64)
    for counter in (view, int(purpose)):
        state = _splitmix(state, np.array([counter], np.uint64))
    streams = _splitmix(state, rows.astype(np.uint64))
    numbers = _splitmix(streams[:, None], np.arange(count, dtype=np.uint64))
    return (numbers >> np.uint64(11)) * 2.0**-53


def _splitmix(state: np.ndarray, counter: np.ndarray) -> np.ndarray:
    """The number at the place `counter` of the SplitMix64 sequence that starts at `state`; uint64, modulo 2**64."""
    mixed = state + (counter + np.uint64(1)) * _GAMMA
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
