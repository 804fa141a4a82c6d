"""The weights in the package are worth having: on pictures of another kind, without a network connection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from safetensors import safe_open
from sklearn.neighbors import KNeighborsClassifier

from resnet_tl import ImageClassifier, ImageDataModule
from resnet_tl.networks.weights import BUILT_IN

FILE = BUILT_IN / "resnet20_cifar10.safetensors"


def accuracy(epochs: int, folder: Path, **settings: Any) -> float:
    """Validation accuracy on the built-in sample of five species, after the last epoch."""
    data = ImageDataModule(source="seedlings_sample", augmentation="none")
    model = ImageClassifier("resnet20", **settings)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    L.Trainer(max_epochs=epochs, default_root_dir=folder, enable_model_summary=False, **quiet).fit(model, data)
    return model.metrics["val"]["accuracy"]


def test_a_head_on_them_beats_the_same_network_from_scratch_by_far(tmp_path: Path):
    frozen = accuracy(8, tmp_path, mode="head")
    from_scratch = accuracy(8, tmp_path, weights="none", mode="all")

    assert frozen > 0.7  # of five classes
    assert frozen > from_scratch + 0.15


def test_the_nearest_neighbours_of_a_picture_are_mostly_of_its_kind():
    data = ImageDataModule(source="seedlings_sample")
    data.prepare_data()
    data.setup()
    model = ImageClassifier("resnet20", mode="head")
    L.Trainer(fast_dev_run=1, logger=False, enable_progress_bar=False, accelerator="cpu").fit(model, data)
    network = model.network.eval()
    known = {}
    for split in ("train", "val"):
        with torch.inference_mode():
            parts = [network.forward_stages(model.preprocessing.normalise(b["image"])) for b in data.loader(split)]
        known[split] = torch.cat(parts).numpy(), data.index.labels[data.index.rows(split)]

    right = KNeighborsClassifier(5).fit(*known["train"]).score(*known["val"])

    assert right > 0.55  # chance: 0.2


def test_features_are_near_unit_deviation_as_one_learning_rate_of_the_head_serves_all():
    with safe_open(FILE, framework="pt") as file:
        assert "function unchanged" in file.metadata()["scale"]
    data = ImageDataModule(source="seedlings_sample")
    data.prepare_data()
    data.setup()
    model = ImageClassifier("resnet20", mode="head")
    L.Trainer(fast_dev_run=1, logger=False, enable_progress_bar=False, accelerator="cpu").fit(model, data)
    with torch.inference_mode():
        batch = next(iter(data.loader("val")))
        features = model.network.eval().forward_stages(model.preprocessing.normalise(batch["image"]))

    assert 0.4 < features.std().item() < 2.5


def test_the_file_is_small_in_half_precision_and_says_where_it_comes_from():
    assert FILE.stat().st_size < 700_000
    with safe_open(FILE, framework="pt") as file:
        metadata = file.metadata()
        assert {str(file.get_tensor(key).dtype) for key in file.keys()} == {"torch.float16"}  # noqa: SIM118
        assert all(np.isfinite(file.get_tensor(key).numpy()).all() for key in file.keys())  # noqa: SIM118
    assert metadata["licence"] == "Apache-2.0"
    assert {"recipe", "seed", "data", "date", "epochs", "val_accuracy", "test_accuracy"} <= metadata.keys()
    assert float(metadata["test_accuracy"]) > 0.8
