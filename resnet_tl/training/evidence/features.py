"""The features that evidence is made of: from the activation cache, or computed where that costs little."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from resnet_tl import cache, stopping
from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.errors import UserError
from resnet_tl.evaluation.uncertainty.nearest import drawn
from resnet_tl.finetuning.activation_cache import find_or_compute, stages_key
from resnet_tl.finetuning.freezing import digest
from resnet_tl.networks.frozen import FrozenStages
from resnet_tl.networks.stages import StagedNetwork
from resnet_tl.training.building import build
from resnet_tl.training.classifier import ImageClassifier
from resnet_tl.training.evidence.cost import SHARE, affords_baselines, images_in_memory, reference_images

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Gallery:
    """Training images with what the trained network's head is given of them."""

    rows: np.ndarray  # (n,) int64
    labels: np.ndarray  # (n,) int64
    features: np.ndarray  # (n, F) float32

    def of(self, places: np.ndarray) -> Gallery:
        """Some of them."""
        return Gallery(self.rows[places], self.labels[places], self.features[places])


def is_always_frozen(model: ImageClassifier) -> bool:
    """Whether no stage has trained, so that the network's features are the pretrained ones."""
    return not model.schedule.ever_trained(model.network.stage_names)


def gallery_of(model: ImageClassifier, data: ImageDataModule, passes: float) -> Gallery:
    """All training images where the cache has their features and memory is enough, else each class its share."""
    rows = data.index.rows("train")
    labels = data.index.labels[rows]
    stages = _stages(model.network, model)
    of_rows = kept_features(model.network, stages, model, data) if is_always_frozen(model) else None
    most = images_in_memory(model.network.num_features)
    if of_rows is None:
        of_rows, most = _computed(stages, data), min(most, reference_images(data, passes))
    few = drawn(labels, most)
    return Gallery(rows[few], labels[few], of_rows(rows[few]))


def pretrained_features(
    model: ImageClassifier, data: ImageDataModule, passes: float
) -> Callable[[np.ndarray], np.ndarray]:
    """What gives the features (n, F) of any rows that the network had before it was trained.

    Raises:
        UserError: it began with random weights, these cannot be had again, or computing them costs too much.
    """
    assert model.origin is not None
    if model.origin.source == "none":
        raise UserError("the network began with random weights")
    always = is_always_frozen(model)
    network = model.network if always else build(model.given_network, model.hparams, model.schedule, data).network
    stages = _stages(network.to(model.device), model)
    if found := kept_features(network, stages, model, data):
        return found
    if not affords_baselines(data, passes):
        images = len(data.index.rows("train")) + len(data.index.rows("val"))
        raise UserError(
            f"the pretrained features of {images:,} images would cost {images / max(1.0, passes):.0%} of the training, "
            f"more than {SHARE:.0%}; a fit by the recipe freeze_backbone, with images of the same size, "
            "keeps them for the next one"
        )
    return _computed(stages, data)


def kept_features(
    network: StagedNetwork, stages: FrozenStages, model: ImageClassifier, data: ImageDataModule
) -> Callable[[np.ndarray], np.ndarray] | None:
    """What gives the features of any labelled rows from the activation cache; None where it does not hold them."""
    if stages.code is None or model.hparams["activation_cache"] == "off":
        return None
    rows = np.sort(np.concatenate([data.index.rows(split) for split in ("train", "val", "test")]))
    weights = digest(network, network.stage_names)
    key = stages_key(stages, weights, data.preprocessing, data.contents_digest(rows))
    if not cache.find("activations", key):
        return None

    def compute(some: np.ndarray) -> Iterator[tuple[np.ndarray, Tensor]]:  # it was removed meanwhile
        yield some, torch.from_numpy(_computed(stages, data)(some))

    table = find_or_compute(key, f"{len(rows)} images, {', '.join(stages.names)}", rows, compute)
    assert table is not None  # as for several processes alone

    def of_rows(some: np.ndarray) -> np.ndarray:
        features = table[some]
        assert isinstance(features, Tensor)
        return features.flatten(1).float().numpy()

    return of_rows


def _computed(stages: FrozenStages, data: ImageDataModule) -> Callable[[np.ndarray], np.ndarray]:
    """What computes the features of any rows, in their order."""

    def of_rows(rows: np.ndarray) -> np.ndarray:
        found = []
        for images in data.centres(rows):
            stopping.check()
            features = stages(data.preprocessing.normalise(images.to(stages.device)))
            assert isinstance(features, Tensor)
            found.append(features.flatten(1).float().cpu().numpy())
        return np.concatenate(found)

    return of_rows


def _stages(network: StagedNetwork, model: ImageClassifier) -> FrozenStages:
    """All of them, as the bundle will compute them."""
    return FrozenStages(network, dtype=model.compute_type)
