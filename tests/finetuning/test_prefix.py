"""A fit from kept activations is the fit without them, to the bit."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from resnet_tl import ImageClassifier, cache
from resnet_tl.errors import UserError
from resnet_tl.finetuning.prefix import FrozenPrefix

Fit = Callable[..., ImageClassifier]
HEAD = {"mode": "head"}
LAST_STAGES = {"mode": "last_stages", "trainable_stages": 2}


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("RESNET_TL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def losses() -> Any:
    """A callback that remembers the loss of each step, and whether the step was given images or activations."""
    import lightning as L

    class Losses(L.Callback):
        def __init__(self) -> None:
            self.seen: list[float] = []

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            self.seen.append(float(outputs["loss"]))
            self.kind = "activation" if "activation" in batch else "image"

    return Losses()


def both(fit: Fit, epochs: int = 4, data: dict | None = None, trainer: dict | None = None, **settings):
    """The same fit with and without the cache: (model, losses) of each."""
    results = []
    for cached in ("on", "off"):
        watch = losses()
        given = {**(trainer or {}), "callbacks": [watch]}
        model = fit(epochs, data=dict(data or {}), trainer=given, activation_cache=cached, **settings)
        results.append((model, watch))
    return results


def assert_same(kept: ImageClassifier, computed: ImageClassifier) -> None:
    for key, tensor in computed.network.state_dict().items():
        assert torch.equal(kept.network.state_dict()[key], tensor), key
    assert np.array_equal(kept.predictions["val"].logits, computed.predictions["val"].logits)
    assert kept.numbers == computed.numbers


def test_a_transformer_is_frozen_or_trained_as_one_stage(fit: Fit) -> None:
    arguments = {"img_size": 16, "patch_size": 8, "depth": 1, "embed_dim": 16, "num_heads": 2}
    settings = {"network": "vit_tiny_patch16_224", "network_args": arguments}
    data = {"augmentation": "none", "image_size": None}
    (kept, watch), (computed, other) = both(fit, 2, data=data, mode="head", **settings)
    assert (watch.kind, watch.seen) == ("activation", other.seen)
    assert_same(kept, computed)
    assert_same(fit(2, data=data, mode="last_stages", **settings), fit(2, data=data, mode="all", **settings))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("settings", [HEAD, LAST_STAGES], ids=["head", "last_stages"])
@pytest.mark.parametrize(
    "data", [{"augmentation": "none"}, {"augmentation": "light", "views": 2}], ids=["centre", "K=2"]
)
def test_the_cache_changes_nothing(fit: Fit, settings: dict, data: dict, precision: str):
    (kept, kept_watch), (computed, computed_watch) = both(
        fit, data=data, trainer={"precision": precision}, head_dropout=0.3, **settings
    )

    assert (kept_watch.kind, computed_watch.kind) == ("activation", "image")
    assert kept_watch.seen == computed_watch.seen
    assert_same(kept, computed)


def test_the_frozen_phases_of_a_schedule_are_kept(fit: Fit):
    schedule = [
        {"mode": "head", "epochs": 2},
        {"mode": "last_stages", "epochs": 2, "trainable_stages": 1},
        {"mode": "all"},
    ]
    (kept, kept_watch), (computed, computed_watch) = both(
        fit, 5, data={"augmentation": "light", "views": 1}, schedule=schedule
    )

    assert kept_watch.kind == "image", "in the last phase nothing is frozen"
    assert kept_watch.seen == computed_watch.seen
    assert_same(kept, computed)


def test_a_network_with_two_branches_is_kept(fit: Fit):
    settings = {"network": "mnist_two_branch", "weights": "none", **LAST_STAGES}
    (kept, kept_watch), (computed, computed_watch) = both(
        fit, 3, data={"augmentation": "none", "channels": 1, "image_size": 28}, **settings
    )

    assert kept_watch.kind == "activation"
    assert kept_watch.seen == computed_watch.seen
    assert_same(kept, computed)


def keys() -> set[str]:
    return {entry.key for entry in cache.entries() if entry.kind == "activations"}


def test_each_view_is_computed_once_and_evaluation_has_one(fit: Fit):
    fit(5, data={"augmentation": "light", "views": 2}, activation_cache="on", **HEAD)

    assert len(keys()) == 3  # two views of the training images, the centre of the others


def test_another_learning_rate_head_or_batch_size_computes_nothing_anew(fit: Fit):
    data = {"augmentation": "none"}
    fit(2, data=data, activation_cache="on", **HEAD)
    before = keys()
    optimizer = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}}

    fit(3, data={**data, "batch_size": 5}, activation_cache="on", optimizer=optimizer, head_hidden=[7], **HEAD)

    assert keys() == before != set()


def test_another_split_uses_what_is_kept(fit: Fit, blobs: Path):
    data = {"root": blobs / "train", "augmentation": "none"}
    fit(2, data={**data, "split_seed": 1}, activation_cache="on", **HEAD)
    before = keys()

    fit(2, data={**data, "split_seed": 2}, activation_cache="on", **HEAD)

    assert keys() == before != set()


@pytest.mark.parametrize(
    "data", [{"augmentation": "none"}, {"augmentation": "light", "views": 2}], ids=["centre", "K=2"]
)
def test_all_folds_use_what_the_first_one_has_kept(fit: Fit, data: dict):
    (kept, watch), (computed, _) = both(fit, 2, data={**data, "folds": 3, "fold": 1}, **HEAD)
    assert watch.kind == "activation"
    assert_same(kept, computed)
    before = keys()

    (kept, watch), (computed, _) = both(fit, 2, data={**data, "folds": 3, "fold": 2}, **HEAD)

    assert watch.kind == "activation"
    assert_same(kept, computed)
    assert keys() == before != set()


def test_views_that_no_epoch_repeats_are_kept_for_the_other_folds(
    fit: Fit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(FrozenPrefix, "_measure", lambda prefix, size: (10, 1.0))  # slow stages
    caplog.set_level(logging.INFO, "resnet_tl")
    data = {"augmentation": "light", "views": None}

    fit(2, data=data, **HEAD)
    assert len(keys()) == 1  # the centre of the validation images
    fit(2, data={**data, "folds": 3, "fold": 1}, **HEAD)

    assert len(keys()) == 1 + 3  # two views and the centre of all images
    assert "computed twice for 37 images instead of 6 times" in caplog.text
    assert "in 3 folds" in caplog.text


@pytest.mark.parametrize(
    ("data", "settings"),
    [
        ({"seed": 1}, {}),
        ({"random_erasing": 1.0}, {}),
        ({"augmentation": "shift"}, {}),
        ({"symmetry": "mirror"}, {}),
        ({"image_size": 24}, {}),
        ({"storage_size": 32}, {}),
        ({}, {"seed": 1, "network": "resnet20"}),  # other random weights
        ({}, {"mode": "last_stages"}),
    ],
)
def test_whatever_changes_them_makes_new_ones(fit: Fit, data: dict, settings: dict):
    usual = {"augmentation": "light", "symmetry": "none", "views": 1}
    fit(2, data=usual, activation_cache="on", **HEAD)
    before = keys()

    fit(2, data={**usual, **data}, activation_cache="on", **{**HEAD, **settings})

    assert keys() - before


def test_a_changed_image_makes_new_ones(fit: Fit, blobs: Path, tmp_path: Path):
    import shutil

    from PIL import Image

    copy = shutil.copytree(blobs, tmp_path / "copy")
    fit(2, data={"root": copy, "augmentation": "none"}, activation_cache="on", **HEAD)
    before = keys()
    fit(2, data={"root": blobs, "augmentation": "none"}, activation_cache="on", **HEAD)
    assert keys() == before, "the same images in another folder"

    Image.new("RGB", (32, 32), "red").save(copy / "train" / "red" / "0.png")
    fit(2, data={"root": copy, "augmentation": "none"}, activation_cache="on", **HEAD)

    assert len(keys()) == 2 * len(before)


def test_auto_says_what_it_does_and_why(fit: Fit, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "resnet_tl"):
        fit(3, data={"augmentation": "light"}, **HEAD)

    assert (
        "training images: stem to stage3: computed again in each pass, since each epoch has a new view" in caplog.text
    )
    assert "images at their centre: stem to stage3: computed once for 20 images instead of 4 times" in caplog.text


def test_mixup_sees_images_and_validation_uses_what_is_kept(fit: Fit):
    watch = losses()
    fit(3, data={"augmentation": "none"}, trainer={"callbacks": [watch]}, mixup=0.2, **HEAD)

    assert watch.kind == "image"
    assert len(keys()) == 1


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"activation_cache": "maybe", **HEAD}, "model.activation_cache is 'maybe'; it must be one of auto, on, off"),
        ({"activation_cache": "on", "mixup": 0.2, **HEAD}, "mixup and cutmix mix the images of each step"),
        ({"activation_cache": "on", "mode": "all"}, "no stage is ever frozen"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict, sentence: str):
    with pytest.raises(UserError, match=sentence):
        ImageClassifier(**settings)


def test_views_without_end_cannot_be_kept(fit: Fit):
    with pytest.raises(UserError, match="is on, but each epoch has a new view of each image; give data"):
        fit(2, data={"augmentation": "light", "views": None}, activation_cache="on", **HEAD)


def test_without_a_cache_folder_they_are_kept_in_memory(fit: Fit, root: Path):
    root.write_text("a file where the folder would be")
    (kept, kept_watch), (computed, _) = both(fit, data={"augmentation": "none"}, **HEAD)

    assert kept_watch.kind == "activation"
    assert_same(kept, computed)


def test_the_numbers_at_the_end_are_those_of_the_bundle(fit: Fit, tmp_path: Path):
    from resnet_tl import Predictor
    from resnet_tl.evaluation.predictions import classes_of

    model = fit(3, data={"augmentation": "none"}, trainer={"precision": "bf16-mixed"}, **LAST_STAGES)
    bundle = model.save(tmp_path / "model", precision="bf16-mixed")
    data = model.trainer.datamodule

    table = Predictor(bundle.path, device="cpu").predict_rows(data.index, data.index.rows("val"))

    names = [f"prob_{name}" for name in classes_of(table)]
    assert np.array_equal(table[names], model.prediction_table("val")[names])


def test_another_network_with_the_same_weights_has_activations_of_its_own(fit: Fit):
    settings = {"network": "resnet18", **HEAD, "activation_cache": "on"}
    data = {"augmentation": "none", "image_size": 32}
    fit(1, data=data, **settings)
    before = keys()

    fit(1, data=data, network_args={"global_pool": "max"}, **settings)

    assert len(keys()) == 2 * len(before)


def test_a_kept_view_is_no_reason_to_keep_a_new_one_in_each_epoch(fit: Fit):
    fit(2, data={"augmentation": "light", "views": 1}, activation_cache="on", **HEAD)
    before = keys()

    fit(3, data={"augmentation": "light"}, **HEAD)

    assert keys() == before


def test_training_images_are_evaluated_as_they_are_whatever_is_kept_of_them(fit: Fit):
    """What is kept is of their augmented views, and of the other splits."""
    numbers = []
    for cached in ("on", "off"):
        model = fit(2, data={"augmentation": "light", "views": 1}, activation_cache=cached, **HEAD)
        loader = model.trainer.datamodule.loader("train")
        numbers += model.trainer.validate(model, dataloaders=loader, verbose=False)

    assert numbers[0] == numbers[1]


def test_a_trial_of_a_few_batches_does_not_compute_all_images(fit: Fit):
    fit(2, data={"augmentation": "none"}, trainer={"fast_dev_run": 1}, **HEAD)
    fit(2, data={"augmentation": "none"}, trainer={"limit_train_batches": 1, "limit_val_batches": 1}, **HEAD)

    assert keys() == set()


def test_a_fit_that_counts_steps_is_kept_too(fit: Fit):
    fit(-1, data={"augmentation": "none"}, trainer={"max_steps": 9}, **HEAD)

    assert len(keys()) == 1


def test_more_processes_than_images_to_compute_do_no_harm():
    from resnet_tl.finetuning.prefix import FrozenPrefix

    prefix = FrozenPrefix.__new__(FrozenPrefix)
    assert list(prefix.compute(None, 0)(np.array([], np.int64))) == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_on_a_gpu_the_losses_are_those_without_the_cache_up_to_rounding(fit: Fit, precision: str):
    """A GPU's kernels may depend on the size of the batch, which differs where a table is filled."""
    trainer = {"accelerator": "gpu", "precision": precision}
    (_, kept), (_, computed) = both(fit, data={"augmentation": "none"}, trainer=trainer, **LAST_STAGES)

    np.testing.assert_allclose(kept.seen, computed.seen, rtol=1e-3 if precision == "32-true" else 0.1)
