from __future__ import annotations

import numpy as np
import pytest

from resnet_tl.evaluation.image_map import map_of
from resnet_tl.evaluation.uncertainty.nearest import unit


def test_images_of_one_kind_lie_together() -> None:
    generator = np.random.default_rng(0)
    kinds = np.arange(60) % 3
    features = unit(generator.normal(size=(60, 16)) + 20 * np.eye(16)[kinds])

    places = map_of(features)

    assert places.shape == (60, 2)
    distances = np.linalg.norm(places[:, None] - places[None], axis=2) + np.eye(60) * 1e9
    assert (kinds[distances.argmin(axis=1)] == kinds).all()
    assert (map_of(features) == places).all()


def test_five_images_are_enough_and_four_are_not() -> None:
    features = unit(np.random.default_rng(0).normal(size=(5, 4)))

    assert np.isfinite(map_of(features)).all()
    with pytest.raises(ValueError, match="takes 5 images, and there are 4"):
        map_of(features[:4])


def test_images_that_are_all_alike_have_no_map() -> None:
    with pytest.raises(ValueError, match="the same"):
        map_of(unit(np.ones((8, 4))))
