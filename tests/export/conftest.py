"""What the tests of exports share: a small model that any of them may export, and the files that it gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from resnet_tl.bundle import Bundle, write_bundle
from resnet_tl.data.index import ImageIndex
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.export.deployed import Deployed
from resnet_tl.export.facts import Facts
from resnet_tl.export.onnx_graph import tensor_graph, with_facts
from resnet_tl.export.raw_images import raw_graph
from resnet_tl.networks import create_network

CLASSES = ("<b>blue</b>, sky", "grün", "red")  # markup, a comma, a letter beyond ASCII
PLANNED = Preprocessing(size=16, storage_size=20, crop_size=16)


@pytest.fixture(scope="session")
def make_bundle() -> Callable[..., Bundle]:
    """Writes a bundle with random weights whose logits differ from image to image."""

    def make(
        path: Path, name: str = "resnet20", classes: Any = CLASSES, seen: Preprocessing = PLANNED, **head
    ) -> Bundle:
        torch.manual_seed(0)
        network = create_network(name, num_classes=len(classes), in_chans=seen.channels)
        network.replace_head(len(classes), **head)
        last = [module for module in network.head.modules() if isinstance(module, torch.nn.Linear)][-1]
        torch.nn.init.normal_(last.weight, std=0.2)
        described = {
            "name": name,
            "in_chans": seen.channels,
            **{f"head_{key}": value for key, value in head.items()},
        }
        weights = {"source": "none", "licence": "Apache-2.0"}
        return write_bundle(
            Bundle(path, described, tuple(classes), seen, weights, calibration={"temperature": 2.5}), network
        )

    return make


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, make_bundle: Callable[..., Bundle]) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("export") / "bundle")


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> dict[str, Path]:
    """The bundle as ONNX files: `tensor`, with features, and `raw`, with features."""
    folder = tmp_path_factory.mktemp("onnx")
    network = tensor_graph(Deployed(bundle, bundle.load_network(), with_features=True))
    written = {"tensor": folder / "tensor.onnx", "raw": folder / "raw.onnx"}
    whole = raw_graph(network, bundle.preprocessing)
    written["raw"].write_bytes(with_facts(whole, Facts.of(bundle, "raw")).SerializeToString())
    written["tensor"].write_bytes(with_facts(network, Facts.of(bundle, "tensor")).SerializeToString())
    return written


@pytest.fixture(scope="session")
def photos() -> list[np.ndarray]:
    """Coloured noise of five sizes, (H, W, 3) uint8."""
    draws = np.random.default_rng(0)
    sizes = ((40, 60), (40, 60), (33, 21), (3, 3), (1, 90))
    return [draws.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


@pytest.fixture(scope="session")
def make_run(make_bundle: Callable[..., Bundle]) -> Callable[..., Path]:
    """Makes a run of an untrained network on the images of an index."""

    def make(path: Path, index: ImageIndex, **options) -> Path:
        make_bundle(path / "model", classes=("red", "blue", "green"), **options)
        (path / "recipe.yaml").write_text("model:\n  mode: head\n")
        (path / "data").mkdir()
        facts = {"root": str(index.root), "classes": index.classes, "layout": index.layout}
        (path / "data" / "facts.json").write_text(json.dumps(facts))
        names = [index.classes[label] if label >= 0 else "" for label in index.labels]
        index.table.assign(label=names).to_csv(path / "data" / "index.csv", index_label="row")
        return path

    return make
