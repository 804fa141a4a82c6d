"""A small bundle of a network of random weights, with what it keeps of validation images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from resnet_tl.bundle import Bundle, write_bundle
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.evaluation.uncertainty.familiarity import Reference
from resnet_tl.networks import create_network

MakeBundle = Callable[..., Bundle]
CLASSES = ("beech", "oak", "pine")


def judged_arrays(classes: int, images: int, wrong: int) -> dict[str, np.ndarray]:
    """Of images of which the first ones are taken for the next class, half surely."""
    labels = np.arange(images) % classes
    predicted = np.where(np.arange(images) < wrong, (labels + 1) % classes, labels)
    sure = np.linspace(0.6, 0.95, images)
    return {
        "labels": labels.astype(np.int64),
        "predicted": predicted.astype(np.int64),
        "probability": sure,
        "label_probability": np.where(labels == predicted, sure, (1 - sure) / 2),
    }


@pytest.fixture
def make_bundle(tmp_path: Path) -> MakeBundle:
    """`make_bundle("leaves", images=60, wrong=6, weights={...})` writes a bundle into a folder of that name."""

    def make(name: str = "leaves", images: int = 60, wrong: int = 6, **values: Any) -> Bundle:
        classes = values.pop("classes", CLASSES)
        counts = {"train": dict.fromkeys(classes, 40), "val": dict.fromkeys(classes, images // len(classes))}
        metrics = {"val": {"accuracy": 1 - wrong / images, "loss": 0.4, "auroc": 0.9}} if images else {}
        torch.manual_seed(0)
        bundle = Bundle(
            path=tmp_path / name,
            network={"name": "resnet8"},
            classes=tuple(classes),
            preprocessing=Preprocessing(32, 36, 32),
            weights=values.pop(
                "weights", {"source": "timm/resnet18.tv_in1k", "digest": "ab", "licence": "bsd-3-clause"}
            ),
            metrics=values.pop("metrics", metrics),
            data={"root": "trees", "layout": "class folders", "counts": counts, "fingerprint": "f00d"}
            | values.pop("data", {}),
            **values,
        )
        network = create_network("resnet8", num_classes=len(classes))
        features = np.random.default_rng(0).normal(size=(30, network.num_features))
        reference = Reference.make(features, np.arange(30) % 3, np.arange(30), features[:20] + 0.1)
        judged = judged_arrays(len(classes), images, wrong) if images else None
        return write_bundle(bundle, network, judged, reference.arrays)

    return make
