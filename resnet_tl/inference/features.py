"""What a network sees in images, in front of its head: for finding images that show the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from resnet_tl.bundle import Bundle
from resnet_tl.data.index import ImageIndex
from resnet_tl.data.loader import ImageLoader
from resnet_tl.data.order import evaluation_batches
from resnet_tl.data.pixels.preprocessing import Preprocessing, plan_preprocessing
from resnet_tl.data.samples import ImageSamples
from resnet_tl.data.threads import usable_cores
from resnet_tl.networks import create_network
from resnet_tl.networks.frozen import FrozenStages
from resnet_tl.networks.stages import StagedNetwork
from resnet_tl.networks.weights import load_weights

BATCH = 64


def backbone_features(index: ImageIndex, rows: np.ndarray, source: str) -> np.ndarray:
    """The features of some rows' images, (n, F) float32: their mean over the rows taken off, of length 1.

    Without the mean every two images would look alike, for the features that a ReLU leaves are all positive.

    Args:
        source: a run, a model bundle, or the name of a network, which is then taken with its default weights.
    """
    network, preprocessing = _network_of(source)
    stages = FrozenStages(network)
    loader = ImageLoader(
        ImageSamples(index, preprocessing),
        lambda epoch: evaluation_batches(rows, BATCH),
        threads=min(8, usable_cores()),
    )
    features = np.zeros((len(rows), network.num_features), np.float32)
    place = 0
    for batch in loader:
        images = batch["image"]
        assert isinstance(images, torch.Tensor)
        found = stages(preprocessing.normalise(images))
        assert isinstance(found, torch.Tensor)
        features[place : place + len(found)] = found.float().numpy()
        place += len(found)
    features -= features.mean(axis=0)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-9)


def _network_of(source: str) -> tuple[StagedNetwork, Preprocessing]:
    if Path(source).exists():
        bundle = Bundle.open(source)
        return bundle.load_network(), bundle.preprocessing
    network = create_network(source, num_classes=2)
    origin = load_weights(network)
    preprocessing = plan_preprocessing(
        origin.image_size,
        crop_ratio=origin.crop_ratio,
        interpolation=origin.interpolation,
        mean=origin.mean,
        std=origin.std,
        channels=network.in_chans,
    )
    return network, preprocessing
