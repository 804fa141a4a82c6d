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
from resnet_tl.data.reading.catalog import SAMPLE, fetch
from resnet_tl.networks.weights import BUILT_IN

FILE = BUILT_IN / "resnet20_cifar10.safetensors"
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


@pytest.fixture(scope="module")
def features() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Features (N, 64) and labels (N,) of both splits of the built-in sample: five species."""
    data, model = ImageDataModule(source=SAMPLE), ImageClassifier("resnet20", mode="head")
    L.Trainer(fast_dev_run=1, **QUIET).fit(model, data)
    found = {}
    with torch.inference_mode():
        network = model.network.eval()
        for split in ("train", "val"):
            parts = [network.forward_stages(model.preprocessing.normalise(b["image"])) for b in data.loader(split)]
            found[split] = torch.cat(parts).numpy(), data.index.labels[data.index.rows(split)]
    return found


def accuracy(rows: int, epochs: int, folder: Path, augmentation: str = "none", **settings: Any) -> float:
    """On the validation images of the sample, after training on some images of each class."""
    known = ImageDataModule(fetch(SAMPLE))
    known.setup()
    table = known.index.table.assign(label=[known.index.classes[label] for label in known.index.labels])
    some = table[table["split"] == "train"].groupby("label").head(rows)
    frame = table.loc[[*some.index, *table.index[table["split"] == "val"]], ["path", "label", "split"]]
    data = ImageDataModule.from_dataframe(frame, fetch(SAMPLE), augmentation=augmentation)
    model = ImageClassifier("resnet20", **settings)
    L.Trainer(max_epochs=epochs, default_root_dir=folder, **QUIET).fit(model, data)
    return model.numbers["val"]["accuracy"]


@pytest.mark.slow
def test_with_few_images_a_head_on_them_beats_the_same_network_from_scratch(tmp_path: Path):
    frozen = accuracy(8, 20, tmp_path, mode="head")

    assert frozen > 0.55  # of five classes
    # With the augmentation that is the default for training everything, and without it.
    assert frozen > accuracy(8, 20, tmp_path, augmentation="light", weights="none", mode="all") + 0.2
    assert frozen > accuracy(8, 20, tmp_path, weights="none", mode="all") + 0.08


def test_the_nearest_neighbours_of_a_picture_are_mostly_of_its_kind(features):
    right = KNeighborsClassifier(5).fit(*features["train"]).score(*features["val"])

    assert right > 0.55  # chance: 0.2


def test_the_file_is_small_in_half_precision_and_says_where_it_comes_from():
    assert FILE.stat().st_size < 700_000
    with safe_open(FILE, framework="pt") as file:
        metadata = file.metadata()
        tensors = [file.get_tensor(key) for key in file.keys()]  # noqa: SIM118
    assert {tensor.dtype for tensor in tensors} == {torch.float16}
    assert all(tensor.isfinite().all() for tensor in tensors)
    assert metadata["licence"] == "Apache-2.0"
    assert {"recipe", "seed", "data", "date", "epochs"} <= metadata.keys()
    assert float(metadata["test_accuracy"]) > 0.75
