"""Phases that train at sizes of their own, evaluation at another one, and norms that are tuned again at that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor

from resnet_tl import ImageClassifier, ImageDataModule, Predictor, cache
from resnet_tl.data.pixels.preprocessing import plan_preprocessing
from resnet_tl.errors import UserError
from resnet_tl.evaluation.predictions import classes_of
from resnet_tl.finetuning.freezing import frozen_digest

Fit = Callable[..., ImageClassifier]
PROGRESSIVE = [{"epochs": 1, "image_size": 8}, {"epochs": 1, "image_size": 12}, {"epochs": 1}]
NORMS = [{"epochs": 1, "image_size": 12}, {"mode": "last_stages", "norms_only": True}]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESNET_TL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Seen(L.Callback):
    """The sizes of the images of each epoch, and of the evaluations; what the steps were given; each step's loss."""

    def __init__(self) -> None:
        self.trained: list[int] = []
        self.evaluated: set[int] = set()
        self.losses: list[float] = []
        self.kinds: list[str] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(float(outputs["loss"]))
        self.kinds.append("activation" if "activation" in batch else "image")
        if batch_idx == 0 and "image" in batch:
            self.trained.append(batch["image"].shape[-1])

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if "image" in batch:
            self.evaluated.add(batch["image"].shape[-1])


def same(one: ImageClassifier, other: ImageClassifier) -> bool:
    state = other.state_dict()
    return one.numbers == other.numbers and all(
        torch.equal(tensor, state[key]) for key, tensor in one.state_dict().items()
    )


@pytest.mark.parametrize("augmentation", ["none", "light"])
def test_each_phase_has_its_size_and_all_are_judged_at_one(fit: Fit, augmentation: str):
    models = []
    for workers in (0, 1):
        seen = Seen()
        data = {"test_size": 20, "augmentation": augmentation, "workers": workers}
        models.append(fit(3, data=data, trainer={"callbacks": [seen]}, schedule=PROGRESSIVE))
        assert (seen.trained, seen.evaluated) == ([8, 12, 16], {20})

    assert same(*models)
    assert [entry.kind for entry in cache.entries()].count("pixels") == 1
    stored = models[0].preprocessing
    assert stored is not None
    assert (stored.size, stored.storage_size) == (20, 20)


def test_the_model_predicts_at_the_test_size_what_the_fit_has_measured(fit: Fit, tmp_path: Path):
    schedule = [{"epochs": 1, "image_size": 24}, {"image_size": 10}]
    model = fit(2, data={"test_size": 20}, schedule=schedule)
    data = model.trainer.datamodule

    predictor = Predictor(model.save(tmp_path / "model").path, device="cpu")

    seen = predictor.ensemble.members[0].bundle.preprocessing
    assert seen == model.preprocessing
    assert (seen.size, seen.storage_size) == (20, 24)
    table = predictor.predict_rows(data.index, data.index.rows("val"))
    names = [f"prob_{name}" for name in classes_of(table)]
    assert np.array_equal(table[names], model.prediction_table("val")[names])


def test_only_the_training_images_change_with_the_training_size(fit: Fit):
    """The pixels that are judged, and with them weights that nothing has trained, are those of any other fit."""
    idle = {"class_path": "torch.optim.SGD", "init_args": {"lr": 1e-30}}
    data = {"augmentation": "none", "storage_size": 20}
    one = fit(1, data=data, mode="head", optimizer=idle)
    other = fit(1, data=data, schedule=[{"mode": "head", "image_size": 12}], optimizer=idle)

    assert one.numbers == other.numbers
    assert one.trainer.callback_metrics["train_loss"] != other.trainer.callback_metrics["train_loss"]


KEPT = [
    {"mode": "head", "epochs": 2, "image_size": 12},
    {"mode": "head", "epochs": 2},
    {"mode": "last_stages", "trainable_stages": 2, "epochs": 2, "image_size": 12},
    {"mode": "last_stages", "norms_only": True, "epochs": 2},
]


@pytest.mark.parametrize(
    ("data", "tables"),
    [
        # At 12, 16 and 20 pixels: training images at two sizes, those to evaluate; then three stages less are frozen,
        # and at the test size all images share a table.
        ({"augmentation": "none", "test_size": 20}, 3 + 2 + 1),
        ({"augmentation": "none"}, 2 + 1 + 2 + 1),
        ({"augmentation": "light", "views": 1, "test_size": 20}, 3 + 2 + 2),
    ],
    ids=["test size", "no test size", "augmented"],
)
def test_what_is_kept_is_kept_by_size_and_changes_nothing(fit: Fit, data: dict[str, Any], tables: int):
    seen = {cached: Seen() for cached in ("on", "off")}
    kept, computed = (
        fit(8, data=data, trainer={"callbacks": [seen[cached]]}, schedule=KEPT, activation_cache=cached)
        for cached in ("on", "off")
    )

    assert set(seen["on"].kinds) == {"activation"}
    assert set(seen["off"].kinds) == {"image"}
    assert seen["on"].losses == seen["off"].losses
    assert same(kept, computed)
    assert [entry.kind for entry in cache.entries()].count("activations") == tables


def test_phases_of_one_size_keep_what_a_fit_without_phases_keeps(fit: Fit):
    data = {"augmentation": "none"}
    fit(2, data=data, mode="head", activation_cache="on")
    fit(2, data=data, schedule=[{"mode": "head", "image_size": 16}], activation_cache="on")

    assert [entry.kind for entry in cache.entries()].count("activations") == 1


def test_the_rate_goes_on_where_only_the_size_changes(fit: Fit):
    def rates(schedule: list[dict[str, Any]]) -> list[float]:
        class Rates(L.Callback):
            def __init__(self) -> None:
                self.seen: list[float] = []

            def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
                self.seen.append(trainer.optimizers[0].param_groups[-1]["lr"])

        watch = Rates()
        fit(3, trainer={"callbacks": [watch]}, schedule=schedule)
        return watch.seen

    assert rates(PROGRESSIVE) == rates([{"mode": "all"}])
    again = rates([*PROGRESSIVE[:2], {"lr": 1e-3}])
    assert again[6] < again[7]


# Norms that are tuned again.


def parts(model: ImageClassifier) -> dict[str, Tensor]:
    return {key: tensor.clone() for key, tensor in model.network.state_dict().items()}


class AtLastPhase(L.Callback):
    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            self.state = parts(pl_module)


@pytest.mark.parametrize(
    ("phase", "stages"),
    [
        ({"mode": "last_stages"}, ("layer3",)),
        ({"mode": "last_stages", "trainable_stages": 2}, ("layer2", "layer3")),
        ({"mode": "all"}, ("conv1", "bn1", "layer1", "layer2", "layer3")),
    ],
)
def test_the_norms_alone_train_at_the_test_size(fit: Fit, phase: dict[str, Any], stages: tuple[str, ...]):
    begun, seen = AtLastPhase(), Seen()
    model = fit(
        2,
        data={"test_size": 20},
        trainer={"callbacks": [begun, seen]},
        schedule=[{"epochs": 1, "image_size": 12}, {**phase, "norms_only": True}],
    )

    after = parts(model)
    changed = {key for key, before in begun.state.items() if not torch.equal(before, after[key])}
    norms = {
        f"body.{path}.{key}"
        for path, module in model.network.body.named_modules()
        if isinstance(module, torch.nn.BatchNorm2d) and path.startswith(stages)
        for key in module.state_dict()
    }
    head = {key for key in after if key.startswith("body.fc.")}
    assert changed == norms | head
    assert seen.trained == [12, 20]
    assert [proof.mode for proof in model.freezing.proofs] == ["all, 12 px", str(model.schedule.phases[1])]
    assert model.freezing.proofs[1].sha256 == frozen_digest(model.network)


@pytest.mark.slow
def test_an_average_leaves_the_weights_beside_the_norms_alone(fit: Fit):
    """One that began before they were fixed differs from them."""
    average = EMAWeightAveraging(decay=0.9)
    model = fit(2, trainer={"callbacks": [average]}, schedule=NORMS)

    assert model.freezing.proofs[1].sha256 == frozen_digest(model.network)


@pytest.mark.parametrize("mode", ["last_stages", pytest.param("all", marks=pytest.mark.slow)])
def test_weights_that_change_beside_the_norms_are_found_out(fit: Fit, mode: str):
    class Trains(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
            with torch.no_grad():
                pl_module.network.body.layer3[0].conv1.weight.mul_(1.01)

    words = "weights changed" if mode == "all" else "frozen stages .* or the weights of the others changed"
    with pytest.raises(UserError, match=f"The {words} during a phase"):
        fit(1, trainer={"callbacks": [Trains()]}, schedule=[{"mode": mode, "norms_only": True}])


# What cannot be.


@pytest.mark.parametrize(
    ("schedule", "sentence"),
    [
        ([{"image_size": 4}], "image_size of a phase in model.schedule is 4; it must be 8 or more"),
        ([{"image_size": "big"}], "image_size of a phase in model.schedule is 'big'; it must be a whole number"),
        ([{"mode": "head", "norms_only": True}], "mode head, which trains no stage, and norms_only"),
    ],
)
def test_a_wrong_phase_is_refused(schedule: list[dict[str, Any]], sentence: str):
    with pytest.raises(UserError, match=sentence):
        ImageClassifier(schedule=schedule)


@pytest.mark.parametrize(
    ("data", "settings", "sentence"),
    [
        (
            {"storage_size": 18, "test_size": 20},
            {},
            "storage_size is 18, but .* 32 px .median., are seen at 20 px: .* give 20",
        ),
        ({"storage_size": 18}, {"schedule": [{"image_size": 96}]}, "seen at 96 px: leave out data.storage_size, or"),
        ({"test_size": 4}, {}, "data.test_size is 4; it must be 8 or more"),
        ({}, {"schedule": [{"mode": "last_stages", "norms_only": True}], "network": "lenet5"}, "no layer that norm"),
        (
            {"image_size": None},
            {"network": "vit_tiny_patch16_224", "network_args": {"img_size": 16, "patch_size": 8, "depth": 1}}
            | {"schedule": [{"image_size": 24}]},
            "does not take images of 24 px; it was designed for 16",
        ),
    ],
)
def test_sizes_that_cannot_be_are_refused_before_the_first_step(
    fit: Fit, data: dict[str, Any], settings: dict[str, Any], sentence: str
):
    with pytest.raises(UserError, match=sentence):
        fit(1, data=data, **settings)


def test_one_cycle_spans_phases_of_several_sizes(fit: Fit):
    scheduler = {"class_path": "torch.optim.lr_scheduler.OneCycleLR", "init_args": {"max_lr": 0.01}}

    assert fit(3, schedule=PROGRESSIVE, lr_scheduler=scheduler).numbers["val"]


# Without a classifier.


def test_the_training_size_is_a_function_of_the_epoch(blobs: Path):
    data = ImageDataModule(blobs, batch_size=8, augmentation="light")
    planned = plan_preprocessing(16, crop_ratio=1.0)
    data.use(planned, train_sizes={0: 8, 2: 12})
    assert [data.train_size(epoch) for epoch in range(4)] == [8, 8, 12, 12]
    assert next(iter(data.train_dataloader()))["image"].shape == (8, 3, 8, 8)
    assert next(iter(data.loader("val")))["image"].shape[2:] == (16, 16)

    data.use(planned)
    assert data.train_size(3) == 16
