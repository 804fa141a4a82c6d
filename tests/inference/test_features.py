from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from resnet_tl.data.reading.layouts import read_images
from resnet_tl.errors import UserError
from resnet_tl.inference.features import backbone_features


def test_features_are_centred_directions_in_the_order_of_the_rows(blobs: Path) -> None:
    index = read_images(blobs)
    features = backbone_features(index, np.arange(44), "resnet20")
    assert (features.shape, features.dtype) == ((44, 64), np.float32)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)
    reversed_rows = backbone_features(index, np.arange(44)[::-1], "resnet20")
    np.testing.assert_allclose(reversed_rows[::-1], features, atol=1e-4)


def test_the_same_image_twice_has_cosine_one(blobs: Path) -> None:
    features = backbone_features(read_images(blobs), np.array([0, 5, 9, 5]), "resnet20")
    assert features[1] @ features[3] == pytest.approx(1, abs=1e-4)


def test_an_unknown_network_is_the_users_mistake(blobs: Path) -> None:
    with pytest.raises(UserError, match="resnet2000"):
        backbone_features(read_images(blobs), np.arange(2), "resnet2000")
