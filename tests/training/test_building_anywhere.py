"""Lightning calls `configure_model` under the device that trains: all of it happens on the CPU all the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from resnet_tl import ImageClassifier, ImageDataModule
from resnet_tl.data.samples import Batch


def built(blobs: Path, device: str, cache: str) -> tuple[ImageClassifier, Batch]:
    data = ImageDataModule(blobs, image_size=16, batch_size=8, workers=0, pixel_cache=cache)
    data.setup()
    model = ImageClassifier("resnet20", weights="none", head_hidden=[4], mixup=0.2, seed=3)
    with torch.device(device):
        model.build(data)
        batch = next(iter(data.train_dataloader()))
    return model, batch


@pytest.mark.parametrize("cache", ["auto", "off"])
def test_under_another_device_it_is_the_same_twice(blobs: Path, tmp_path: Path, monkeypatch, cache: str):
    expected, images = built(blobs, "cpu", cache)

    for run in ("first", "second"):
        monkeypatch.setenv("RESNET_TL_CACHE", str(tmp_path / run))  # nothing is kept from before
        model, batch = built(blobs, "meta", cache)
        for key, tensor in expected.state_dict().items():
            assert torch.equal(model.state_dict()[key], tensor), key
        assert torch.equal(batch["image"], images["image"])
        assert batch["label"].device.type == "cpu"
