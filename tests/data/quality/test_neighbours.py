from __future__ import annotations

import numpy as np
import pytest

from resnet_tl.data.quality import neighbours
from resnet_tl.data.quality.neighbours import close_pairs


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("cosine", [0.7, 0.9, 0.98])
@pytest.mark.parametrize("dimensions", [8, 100])
def test_it_finds_what_comparing_each_with_each_finds(cosine: float, dimensions: int, monkeypatch) -> None:
    monkeypatch.setattr(neighbours, "_BLOCK", 64)
    monkeypatch.setattr(neighbours, "_CHUNK", 100)
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(700, dimensions))
    vectors[300:500] = vectors[:200] + generator.normal(size=(200, dimensions)) * generator.uniform(0, 1, (200, 1))
    vectors = unit(vectors)
    rows, columns = np.nonzero(np.triu(vectors @ vectors.T >= cosine, 1))
    assert len(rows) > 20
    np.testing.assert_array_equal(close_pairs(vectors, cosine, 10**6), np.stack([rows, columns], axis=1))


def test_too_many_pairs_are_none() -> None:
    vectors = unit(np.ones((50, 4)))
    assert close_pairs(vectors, 0.9, 50 * 49 // 2 - 1) is None
    assert len(close_pairs(vectors, 0.9, 50 * 49 // 2)) == 50 * 49 // 2


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_make_no_pair(count: int) -> None:
    assert close_pairs(unit(np.ones((count, 4))), 0.9, 10).shape == (0, 2)


@pytest.mark.slow
def test_two_hundred_thousand_take_a_minute_and_little_memory() -> None:
    vectors = np.random.default_rng(0).normal(size=(200_000, 64)).astype(np.float32)
    vectors *= np.linspace(3, 0.1, 64, dtype=np.float32)
    vectors[100_000] = vectors[7]
    assert [7, 100_000] in close_pairs(unit(vectors), 0.98, 800_000).tolist()
