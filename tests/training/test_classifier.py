"""The classifier's losses, optimizers, checkpoints and exact evaluation, with the real Trainer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from resnet_tl import ImageClassifier, ImageDataModule, Predictor
from resnet_tl.errors import UserError
from resnet_tl.evaluation.metrics import compute_metrics
from resnet_tl.training.building import choose_network

Fit = Callable[..., ImageClassifier]


class FirstLoss(L.Callback):
    """The logits, labels and loss of the first step; no dropout and no augmentation, so that all can be recomputed."""

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        pl_module.network.head.register_forward_hook(lambda _, inputs, output: self.logits.append(output.detach()))
        self.logits: list[Tensor] = []
        self.images: list[Tensor] = []
        normalised = pl_module.network.stage(pl_module.network.stage_names[0])[0]
        normalised.register_forward_pre_hook(lambda _, inputs: self.images.append(inputs[0].detach()))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: dict[str, Tensor], batch_idx: int
    ) -> None:
        if batch_idx == 0:
            self.loss, self.batch = outputs["loss"], batch


def first_step(fit: Fit, data: dict[str, Any] | None = None, **settings: Any) -> FirstLoss:
    seen = FirstLoss()
    data = {"augmentation": "none", "batch_size": 24, **(data or {})}
    settings = {"mode": "head", "weights": "default", "activation_cache": "off", **settings}
    fit(trainer={"callbacks": [seen], "limit_train_batches": 1}, data=data, **settings)
    return seen


# The loss.


def test_the_loss_is_the_cross_entropy(fit: Fit):
    seen = first_step(fit)

    log_probabilities = seen.logits[0].log_softmax(1)
    expected = -log_probabilities[torch.arange(24), seen.batch["label"]].mean()
    torch.testing.assert_close(seen.loss, expected)


def test_label_smoothing_mixes_the_target_with_the_uniform_distribution(fit: Fit):
    seen = first_step(fit, label_smoothing=0.3)

    log_probabilities = seen.logits[0].log_softmax(1)
    target = 0.7 * F.one_hot(seen.batch["label"], 3) + 0.3 / 3
    torch.testing.assert_close(seen.loss, -(target * log_probabilities).sum(1).mean())


def test_the_focal_loss_is_the_training_loss_when_a_gamma_is_given(fit: Fit):
    seen = first_step(fit, focal_gamma=2.0)

    p = seen.logits[0].softmax(1)[torch.arange(len(seen.batch["label"])), seen.batch["label"]]
    torch.testing.assert_close(seen.loss, (-((1 - p) ** 2) * p.log()).mean())


@pytest.fixture
def uneven(tmp_path: Path) -> Path:
    """Three classes with 12, 6 and 2 training images."""
    generator = np.random.default_rng(0)
    for name, count in (("a", 12), ("b", 6), ("c", 2)):
        for split, images in (("train", count), ("val", 2)):
            folder = tmp_path / "uneven" / split / name
            folder.mkdir(parents=True)
            for number in range(images):
                pixels = generator.integers(0, 255, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "uneven"


def fit_on(root: Path, callbacks: list[L.Callback], epochs: int = 1, *, model: ImageClassifier, **data: Any) -> None:
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=callbacks,
    )
    trainer.fit(model, datamodule=ImageDataModule(root, augmentation="none", image_size=16, workers=0, **data))


def test_class_weights_make_every_class_count_the_same(uneven: Path):
    """Inverse frequencies; and the loss is scikit-learn's weighted mean, computed by hand."""
    seen = FirstLoss()

    model = ImageClassifier("resnet20", mode="head", class_weights="balanced")
    fit_on(uneven, [seen], model=model, batch_size=20)

    labels, log_probabilities = seen.batch["label"], seen.logits[0].log_softmax(1)
    weights = (20 / (3 * torch.tensor([12.0, 6.0, 2.0])))[labels]
    losses = -log_probabilities[torch.arange(20), labels]
    torch.testing.assert_close(seen.loss, (weights * losses).sum() / weights.sum())
    by_class = torch.stack([losses[labels == label].mean() for label in range(3)])
    torch.testing.assert_close(seen.loss, by_class.mean())
    assert not torch.isclose(seen.loss, losses.mean())


def test_class_weights_hold_for_a_model_that_was_loaded(uneven: Path, tmp_path: Path):
    model = ImageClassifier("resnet20", weights="none", mode="head", class_weights="balanced")
    fit_on(uneven, [], model=model)
    model.trainer.save_checkpoint(tmp_path / "model.ckpt")
    seen = FirstLoss()

    loaded = ImageClassifier.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    fit_on(uneven, [seen], model=loaded, batch_size=20)

    labels = seen.batch["label"]
    weights = (20 / (3 * torch.tensor([12.0, 6.0, 2.0])))[labels]
    losses = -seen.logits[0].log_softmax(1)[torch.arange(20), labels]
    torch.testing.assert_close(seen.loss, (weights * losses).sum() / weights.sum())


def test_the_balanced_sampler_shows_rare_classes_as_often_as_others(uneven: Path):
    class Counts(L.Callback):
        labels: list[int] = []  # noqa: RUF012

        def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
            self.labels.extend(batch["label"].tolist())

    model = ImageClassifier("resnet20", weights="none", mode="head")
    fit_on(uneven, [Counts()], 10, model=model, batch_size=10, sampler="balanced")

    counts = np.bincount(Counts.labels)
    assert counts.sum() == 200
    assert (counts > 45).all()


def test_mixup_blends_images_and_labels_by_the_same_share(fit: Fit):
    plain, mixed = first_step(fit, mode="all"), first_step(fit, mode="all", mixup=1.0)

    images, other = plain.images[0], plain.images[0].roll(1, 0)
    share = ((mixed.images[0] - other) * (images - other)).sum() / ((images - other) ** 2).sum()
    assert 0.01 < share < 0.99
    torch.testing.assert_close(mixed.images[0], share * images + (1 - share) * other, rtol=0, atol=1e-4)
    one_hot = F.one_hot(mixed.batch["label"], 3).float()
    target = share * one_hot + (1 - share) * one_hot.roll(1, 0)
    torch.testing.assert_close(mixed.loss, -(target * mixed.logits[0].log_softmax(1)).sum(1).mean())


def test_cutmix_pastes_a_rectangle_and_mixes_the_labels_by_its_area(fit: Fit):
    plain, mixed = first_step(fit, mode="all"), first_step(fit, mode="all", cutmix=1.0)

    images, other = plain.images[0], plain.images[0].roll(1, 0)
    kept = (mixed.images[0] == images).all(1)
    assert (kept | (mixed.images[0] == other).all(1)).all()
    assert (kept == kept[0]).float().mean() > 0.99
    share = kept[0].float().mean()
    assert 0 < share < 1
    one_hot = F.one_hot(mixed.batch["label"], 3).float()
    target = share * one_hot + (1 - share) * one_hot.roll(1, 0)
    torch.testing.assert_close(mixed.loss, -(target * mixed.logits[0].log_softmax(1)).sum(1).mean())


def test_mixup_goes_with_label_smoothing_and_class_weights(fit: Fit):
    model = fit(mode="head", mixup=0.2, cutmix=1.0, label_smoothing=0.1, class_weights="balanced")

    assert torch.isfinite(model.trainer.callback_metrics["train_loss"])


# The optimizer and its schedule.


@pytest.mark.parametrize(
    "given",
    [
        {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.2, "momentum": 0.9, "weight_decay": 0.3}},
        {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.2, "weight_decay": 0.3}},
    ],
)
def test_another_optimizer_keeps_the_named_groups(fit: Fit, given: dict[str, Any]):
    model = fit(mode="last_stages", backbone_lr_factor=0.1, optimizer=given)

    optimizer = model.trainer.optimizers[0]
    assert type(optimizer).__name__ in given["class_path"]
    assert [(group["name"], group["initial_lr"], group["weight_decay"]) for group in optimizer.param_groups] == [
        ("stage3", pytest.approx(0.02), 0.3),
        ("stage3, no decay", pytest.approx(0.02), 0.0),
        ("head", 0.2, 0.3),
        ("head, no decay", 0.2, 0.0),
    ]


def test_the_backbone_learns_slower_where_its_weights_are_others_than_the_built_in_ones(fit: Fit, tmp_path: Path):
    def factor(weights: str) -> float:
        model = fit(weights=weights)
        save_file({key: value.contiguous() for key, value in model.network.state_dict().items()}, file)
        groups = {group["name"]: group for group in model.trainer.optimizers[0].param_groups}
        return groups["stage1"]["initial_lr"] / groups["head"]["initial_lr"]

    file = tmp_path / "weights.safetensors"
    assert factor("default") == 1.0
    assert factor(str(file)) == pytest.approx(0.3)
    assert factor("none") == 1.0


def test_training_without_an_end_is_refused_with_a_sentence(fit: Fit):
    with pytest.raises(UserError, match="max_epochs must be given"):
        fit(-1, trainer={"max_time": {"seconds": 1}})


# Checkpoints.


@pytest.fixture
def saved(fit: Fit, tmp_path: Path) -> tuple[ImageClassifier, Path]:
    model = fit(2, schedule=[{"mode": "head", "epochs": 1}, {"mode": "all"}], head_hidden=[5], head_dropout=0.2)
    model.trainer.save_checkpoint(tmp_path / "model.ckpt")
    return model, tmp_path / "model.ckpt"


def test_a_checkpoint_holds_no_classes_to_unpickle(saved: tuple[ImageClassifier, Path]):
    assert torch.load(saved[1], weights_only=True)["resnet_tl"]["classes"] == ["blue", "green", "red"]


def test_a_checkpoint_needs_neither_data_nor_weights_file(
    saved: tuple[ImageClassifier, Path], monkeypatch: pytest.MonkeyPatch
):
    model, file = saved
    for name in ("building.load_weights", "classifier.ImageDataModule"):
        monkeypatch.delattr(f"resnet_tl.training.{name}")

    loaded = ImageClassifier.load_from_checkpoint(file, weights_only=True)

    assert loaded.classes == ("blue", "green", "red")
    assert loaded.preprocessing == model.preprocessing
    images = torch.randint(0, 255, (4, 3, 16, 16), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(loaded.eval()(images), model.eval()(images))


def test_a_loaded_model_gives_the_same_table(saved: tuple[ImageClassifier, Path], blobs: Path):
    model, file = saved
    loaded = ImageClassifier.load_from_checkpoint(file, weights_only=True)

    quiet = {"logger": False, "enable_progress_bar": False, "accelerator": "cpu", "devices": 1}
    L.Trainer(**quiet).validate(loaded, datamodule=ImageDataModule(blobs, batch_size=8, workers=0), verbose=False)

    assert loaded.prediction_table("val").equals(model.prediction_table("val"))


def test_a_model_refuses_images_of_other_classes(saved: tuple[ImageClassifier, Path], uneven: Path):
    loaded = ImageClassifier.load_from_checkpoint(saved[1], weights_only=True)

    with pytest.raises(UserError, match="classes of the images are a, b, c, but those of the model are blue"):
        fit_on(uneven, [], model=loaded)


def test_a_resume_with_images_of_other_classes_is_refused(saved: tuple[ImageClassifier, Path], uneven: Path):
    model = ImageClassifier("resnet20", weights="none", head_hidden=[5], head_dropout=0.2)
    trainer = L.Trainer(max_epochs=3, accelerator="cpu", logger=False, enable_progress_bar=False)

    with pytest.raises(UserError, match="classes of the checkpoint are blue"):
        trainer.fit(model, datamodule=ImageDataModule(uneven, image_size=16, workers=0), ckpt_path=saved[1])


def test_nothing_can_be_saved_before_there_is_a_network(tmp_path: Path):
    with pytest.raises(UserError, match="has no network yet"):
        ImageClassifier().save(tmp_path)


# Evaluation.


def test_logged_metrics_are_those_of_the_table(fit: Fit):
    model = fit(2)

    table = model.prediction_table("val")
    assert len(table) == 13
    assert table["id"].tolist() == sorted(table["id"])
    expected = compute_metrics(table)
    assert model.numbers["val"] == expected
    logged = {name: float(value) for name, value in model.trainer.callback_metrics.items() if name.startswith("val_")}
    assert logged == pytest.approx({f"val_{name}": value for name, value in expected.items()}, rel=1e-6)


def test_the_table_is_that_of_the_bundle_without_the_trainer(fit: Fit, blobs: Path, tmp_path: Path):
    model = fit(2, weights="default", mode="last_stages", data={"storage_size": 20})
    model.save(tmp_path / "bundle")

    predicted = Predictor(tmp_path / "bundle", device="cpu").predict(blobs / "val")

    table = model.prediction_table("val")
    assert [Path(path).name for path in predicted["path"]] == [Path(path).name for path in table["path"]]
    assert predicted["predicted"].tolist() == table["predicted"].tolist()
    columns = [column for column in table if column.startswith("prob_")]
    assert len(columns) == 3
    np.testing.assert_allclose(predicted[columns], table[columns], rtol=0, atol=1e-5)


def test_the_batch_size_of_an_evaluation_changes_no_number(fit: Fit, blobs: Path):
    model = fit()
    before = model.prediction_table("val")

    quiet = {"logger": False, "enable_progress_bar": False, "accelerator": "cpu", "devices": 1}
    L.Trainer(**quiet).validate(model, datamodule=ImageDataModule(blobs, batch_size=5, workers=0), verbose=False)

    after = model.prediction_table("val")
    assert after["id"].tolist() == before["id"].tolist()
    np.testing.assert_allclose(after.iloc[:, 4:], before.iloc[:, 4:], rtol=0, atol=1e-6)


def test_an_interrupted_evaluation_leaves_nothing_behind(fit: Fit, blobs: Path):
    model = fit()
    quiet = {"logger": False, "enable_progress_bar": False, "accelerator": "cpu", "devices": 1}
    data = ImageDataModule(blobs, batch_size=4, workers=0)

    class Fails(L.Callback):
        def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
            if batch_idx == 1:
                raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        L.Trainer(**quiet, callbacks=[Fails()]).validate(model, datamodule=data, verbose=False)
    L.Trainer(**quiet).validate(model, datamodule=data, verbose=False)

    assert len(model.prediction_table("val")) == 13


def test_a_sanity_check_before_training_is_no_result(fit: Fit):
    model = fit(2, trainer={"num_sanity_val_steps": 2, "check_val_every_n_epoch": 3})

    assert model.numbers == {}
    assert model.predictions == {}


@pytest.mark.parametrize(
    ("limits", "rows"),
    [
        ({"fast_dev_run": True}, 8),
        ({"limit_val_batches": 1}, 8),
        ({"val_check_interval": 1}, 13),
        ({"max_steps": 4}, 13),
        ({"accumulate_grad_batches": 2}, 13),
        ({"overfit_batches": 1}, 8),
        ({"gradient_clip_val": 0.1}, 13),
        ({"precision": "bf16-mixed"}, 13),
    ],
    ids=str,
)
def test_the_trainers_options_work(fit: Fit, limits: dict[str, Any], rows: int):
    model = fit(2, trainer={"limit_val_batches": 1.0, **limits}, schedule=[{"mode": "head", "epochs": 1}, {}])

    assert abs(len(model.prediction_table("val")) - rows) <= 1  # batches are of equal size, give or take one


def test_early_stopping_reads_the_monitored_metric(fit: Fit):
    from lightning.pytorch.callbacks import EarlyStopping

    stop = EarlyStopping("val_loss", mode="min", patience=0, min_delta=1e9)

    model = fit(5, trainer={"callbacks": [stop]})

    assert model.trainer.current_epoch == 2


def test_loggers_get_the_metrics(fit: Fit, tmp_path: Path):
    from lightning.pytorch.loggers import CSVLogger

    logger = CSVLogger(tmp_path, name="log")

    fit(2, trainer={"logger": logger, "log_every_n_steps": 1})

    text = (Path(logger.log_dir) / "metrics.csv").read_text()
    assert {"val_loss", "val_accuracy", "train_loss_step", "train_loss", "train_accuracy"} <= set(
        text.splitlines()[0].split(",")
    )
    assert "resnet20" in (Path(logger.log_dir) / "hparams.yaml").read_text()


def test_tensorboard_gets_the_metrics(fit: Fit, tmp_path: Path):
    pytest.importorskip("tensorboard")
    from lightning.pytorch.loggers import TensorBoardLogger

    logger = TensorBoardLogger(tmp_path, name="log")

    fit(trainer={"logger": logger, "log_every_n_steps": 1})

    assert list(Path(logger.log_dir).glob("events.out.tfevents.*"))


def test_the_best_checkpoint_follows_the_monitor(fit: Fit, tmp_path: Path):
    best = ModelCheckpoint(dirpath=tmp_path, filename="best", monitor="val_loss")

    model = fit(3, trainer={"callbacks": [best], "enable_checkpointing": True}, mode="head")

    assert float(best.best_model_score) == pytest.approx(min(best.best_k_models.values()).item())
    quiet = {"logger": False, "enable_progress_bar": False, "accelerator": "cpu", "devices": 1}
    L.Trainer(**quiet).validate(
        model, datamodule=model.trainer.datamodule, ckpt_path=tmp_path / "best.ckpt", verbose=False, weights_only=True
    )
    assert model.numbers["val"]["loss"] == pytest.approx(float(best.best_model_score), rel=1e-6)


# Mistakes.


@pytest.mark.parametrize(
    "settings",
    [
        {"label_smoothing": 1.0},
        {"head_dropout": -0.1},
        {"warmup": 2.0},
        {"focal_gamma": -1.0},
        {"mixup": -1.0},
        {"cutmix": float("nan")},
    ],
    ids=str,
)
def test_a_setting_out_of_range_is_refused_by_name(settings: dict[str, Any]):
    (name,) = settings
    with pytest.raises(UserError, match=rf"model\.{name} is .*; it must be at least 0"):
        ImageClassifier(**settings)


def test_network_args_reach_the_network_and_travel_in_the_bundle(fit: Fit, tmp_path: Path):
    model = fit(network_args={"shortcut": "projection"})

    again = model.save(tmp_path / "bundle").load_network()

    assert "layer2.0.downsample.0.weight" in again.body.state_dict()
    assert again.state_dict().keys() == model.network.state_dict().keys()


def test_wrong_network_args_are_refused_in_one_sentence(fit: Fit):
    with pytest.raises(UserError, match=r"model\.network_args"):
        fit(network_args={"shortcuts": "projection"})


def test_a_phases_rate_needs_the_default_schedule():
    with pytest.raises(UserError, match="phase's lr"):
        ImageClassifier(schedule=[{"lr": 0.1}], lr_scheduler={"class_path": "torch.optim.lr_scheduler.StepLR"})


def test_a_classifier_needs_our_data_module():
    loader = torch.utils.data.DataLoader(torch.zeros(2, 3))

    with pytest.raises(UserError, match="needs an ImageDataModule"):
        L.Trainer(logger=False, accelerator="cpu").fit(ImageClassifier(), loader)


def test_auto_chooses_by_the_images():
    assert choose_network("auto", 64)[0] == "resnet20"
    assert choose_network("auto", 65)[0] == "resnet18"
    assert choose_network("resnet50", 32) == ("resnet50", "as given")
