"""What evidence may cost: shares of the training, counted in passes of an image through the network, and memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resnet_tl.data.datamodule import ImageDataModule
    from resnet_tl.training.classifier import ImageClassifier

MOST = 2000
"""Training images that validation images, and later new ones, are compared with."""
SHARE = 0.05
"""Of the training's passes, which may be spent on features: on pretrained ones of all images for the baselines, where
they fit into it, and what is left on the trained network's."""
LEAST = 200
"""Training images of which the trained network's features are taken in any case."""
MOST_NUMBERS = 250_000_000
"""Features of the validation images, and of the training images, that are held in memory, 1 GB each; where validation
has more there is no evidence."""
MOST_BYTES = 64 << 20
"""Of the features in a bundle: 2000 images of up to 16,384, and fewer of wider ones."""
SECONDS, SECONDS_OF_IMAGE = 2.0, 0.003
"""Of everything else on a slow core: imports, tables, Grad-CAM; and for each of up to 2000 validation images, the map.

The sample, 80 validation images: 0.7 s; cats and dogs, ResNet-18, 500 of them: see docs/evidence.md.
"""


def training_passes(model: ImageClassifier, data: ImageDataModule, epochs: int) -> float:
    """What a training of some epochs costs, in passes of one image through the network as it is evaluated.

    A step of the stages that train counts as three passes through them, one forward and two backward; what the frozen
    ones give is counted once for each view. A function of recipe and data, so that the same fit leaves the same files.
    """
    assert model.built is not None
    costs = {cost.name: cost.multiply_adds for cost in model.built.costs}
    views = (data.views or epochs) if data.augments else 1
    passes = 0.0
    for epoch in range(epochs):
        phase = model.schedule.phases[model.schedule.phase_at(epoch)]
        frozen = sum(costs[name] for name in phase.frozen_stages(model.network.stage_names)) / sum(costs.values())
        area = (data.train_size(epoch) / data.preprocessing.size) ** 2
        passes += area * (3 * (1 - frozen) + (frozen if epoch < views else 0))
    return passes * len(data.index.rows("train"))


def affords_baselines(data: ImageDataModule, passes: float) -> bool:
    """Whether pretrained features of all training and validation images fit into the share of a training."""
    return len(data.index.rows("train")) + len(data.index.rows("val")) <= SHARE * passes


def reference_images(data: ImageDataModule, passes: float) -> int:
    """How many training images the trained network's features are taken of, whatever the cache holds."""
    images = len(data.index.rows("train")) + len(data.index.rows("val"))
    left = SHARE * passes - (images if affords_baselines(data, passes) else 0)
    return min(MOST, max(LEAST, int(left)))


def images_in_memory(features: int) -> int:
    """Of how many images so many features each may be held in memory."""
    return MOST_NUMBERS // features


def images_in_bundle(features: int) -> int:
    """Of how many images a bundle keeps so many features each, to compare new ones with."""
    return max(1, min(MOST, MOST_BYTES // (2 * features)))
