"""Features of a data set are those of a frozen fit, and earlier stages come in the same pass."""

from pathlib import Path

import pytest
import torch

from resnet_tl import ImageClassifier, ImageDataModule, cache
from resnet_tl.cli.main import main
from resnet_tl.errors import UserError
from resnet_tl.networks.frozen import FrozenStages
from resnet_tl.training.features import frozen_features


@pytest.fixture
def data(blobs: Path) -> ImageDataModule:
    return ImageDataModule(root=blobs)


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RESNET_TL_CACHE", str(tmp_path / "cache"))


def model() -> ImageClassifier:
    return ImageClassifier("resnet20", mode="head")


def test_depths_are_the_averaged_maps_of_the_stages(data: ImageDataModule):
    found = frozen_features(data, model(), depths=["stage1", "stage2"])
    rows = data.index.rows("val")
    batch = torch.cat([batch["image"] for batch in data.loader("val")])
    images = found.model.images({"image": batch})

    for name, stop in (("stage1", 2), ("stage2", 3)):
        maps = FrozenStages(found.model.network, stop=stop, dtype=found.dtype)(images)
        torch.testing.assert_close(found.of(rows, name), maps.float().mean(dim=(2, 3)))
    whole = FrozenStages(found.model.network, dtype=found.dtype)(images).float()
    assert torch.equal(found.of(rows), whole)


def test_the_features_are_the_same_with_and_without_depths(data: ImageDataModule):
    with_depths = frozen_features(data, model(), depths=["stage2"])
    kept = len([entry for entry in cache.entries() if entry.kind == "activations"])
    rows = data.index.rows("train")

    assert torch.equal(frozen_features(data, model()).of(rows), with_depths.of(rows))
    assert kept == len([entry for entry in cache.entries() if entry.kind == "activations"]) == 2


def test_a_frozen_fit_finds_them(data: ImageDataModule, blobs: Path, tmp_path: Path):
    frozen_features(data, model(), depths=["stage2"])
    before = {entry.key for entry in cache.entries() if entry.kind == "activations"}

    assert main(["fit", "--recipe", "freeze_backbone", "--data.root", str(blobs), "--run", str(tmp_path / "run")]) == 0

    assert {entry.key for entry in cache.entries() if entry.kind == "activations"} == before


def test_a_depth_that_is_not_there_is_named_with_the_nearest(data: ImageDataModule):
    with pytest.raises(UserError, match=r"no stage 'stag2'; its stages are stem.*Did you mean 'stage2'"):
        frozen_features(data, model(), depths=["stag2"])
