from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from resnet_tl.evaluation.uncertainty import nearest as module
from resnet_tl.evaluation.uncertainty.nearest import TEMPERATURE, drawn, knn_shares, nearest, unit


def features(count: int, width: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


@pytest.mark.parametrize("at_once", [1, 50, 10**6])
def test_the_nearest_are_those_of_scikit_learn(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", at_once)
    queries, gallery = features(30), features(40, seed=1)
    theirs = NearestNeighbors(n_neighbors=5, metric="cosine", algorithm="brute").fit(gallery)

    distances, places = nearest(unit(queries), unit(gallery), 5)

    expected, order = theirs.kneighbors(queries)
    np.testing.assert_allclose(distances, expected, atol=1e-6)
    assert (places == order).all()


def test_a_small_gallery_gives_all_it_has_and_a_copy_is_at_no_distance() -> None:
    gallery = unit(features(3))

    distances, places = nearest(gallery, gallery, 10)

    assert places.shape == (3, 3)
    assert places[:, 0].tolist() == [0, 1, 2]
    np.testing.assert_allclose(distances[:, 0], 0, atol=1e-6)
    assert (distances >= 0).all()


def test_features_of_zeros_alone_are_at_right_angles_to_all() -> None:
    zeros = unit(np.zeros((1, 4), np.float32))

    assert nearest(zeros, unit(features(5, 4)), 1)[0].item() == 1


def test_votes_count_by_closeness_about_the_mean() -> None:
    gallery = np.array([[4, 3], [3, 4]], np.float32)

    shares = knn_shares(np.array([[4, 4], [5, 2]], np.float32), gallery, np.array([0, 1]), classes=3)

    np.testing.assert_allclose(shares[0], [0.4, 0.4, 0.2], rtol=1e-5)  # at right angles to both
    expected = np.array([np.exp(1 / TEMPERATURE) + 1, np.exp(-1 / TEMPERATURE) + 1, 1])
    np.testing.assert_allclose(shares[1], expected / expected.sum(), rtol=1e-5)
    assert (shares > 0).all()
    np.testing.assert_allclose(shares.sum(axis=1), 1)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=80), st.integers(1, 90), st.integers(0, 3))
def test_each_class_is_drawn_by_its_share(labels: list[int], count: int, seed: int) -> None:
    of = np.array(labels)

    places = drawn(of, count, seed)

    assert len(places) == min(count, len(of))
    assert (np.diff(places) > 0).all()
    taken, sizes = np.bincount(of[places], minlength=7), np.bincount(of, minlength=7)
    if count >= len(set(labels)):
        assert (taken[sizes > 0] > 0).all()
        assert (taken <= np.floor(sizes * len(places) / len(of)) + 2).all()
    assert places.tolist() == drawn(of, count, seed).tolist()
