from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from resnet_tl import ImageClassifier, ImageDataModule
from resnet_tl.training.features import frozen_features


def features_of(root: Path):
    data = ImageDataModule(root, image_size=16, augmentation="none")
    return data, frozen_features(data, ImageClassifier("resnet20", mode="head"))


def kept() -> set[str]:
    folder = Path(os.environ["RESNET_TL_CACHE"], "activations")
    return {path.name for path in folder.glob("*/")}


def test_features_are_those_that_the_network_gives_its_head(blobs: Path):
    data, features = features_of(blobs)
    rows = data.index.rows("val")
    images = torch.cat(list(data.centres(rows)))
    network = features.model.network.eval()
    with torch.inference_mode():
        expected = network.forward_stages(data.preprocessing.normalise(images))
    assert features.of(rows).shape == (13, network.head.in_features)
    torch.testing.assert_close(features.of(rows), expected, rtol=1e-4, atol=1e-4)


def test_rows_may_be_asked_for_in_any_order(blobs: Path):
    data, features = features_of(blobs)
    rows = data.index.rows("train")
    assert torch.equal(features.of(rows[::-1].copy()), features.of(rows).flip(0))


def test_a_fit_of_the_head_finds_what_was_kept(blobs: Path, fit):
    """So that a probe and the fit after it compute the frozen stages once."""
    data, features = features_of(blobs)
    before = kept()
    assert before
    fit(1, data={"augmentation": "none"}, mode="head", weights="default", activation_cache="on")
    assert kept() == before
    assert np.array_equal(features.table.rows, np.arange(len(data.index)))
