"""What people do with a Trainer of Lightning's: each habit works, or ends in one sentence before the first step.

`docs/lightning_habits.md` has the same rows, and those of the command line, which `tests/cli` tries.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import lightning.pytorch.callbacks
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BasePredictionWriter,
    BatchSizeFinder,
    DeviceStatsMonitor,
    EarlyStopping,
    GradientAccumulationScheduler,
    LambdaCallback,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelPruning,
    ModelSummary,
    OnExceptionCheckpoint,
    RichModelSummary,
    RichProgressBar,
    StochasticWeightAveraging,
    ThroughputMonitor,
    Timer,
    TQDMProgressBar,
)
from lightning.pytorch.callbacks.spike import SpikeDetection
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import DoublePrecision, HalfPrecision, MixedPrecision
from lightning.pytorch.plugins.io import AsyncCheckpointIO
from lightning.pytorch.strategies import ModelParallelStrategy

from resnet_tl import ImageClassifier, ImageDataModule
from resnet_tl.errors import UserError
from resnet_tl.training.trainer.trainer_checks import check_trainer

Fit = Callable[..., ImageClassifier]
PAGE = Path(__file__).parents[2] / "docs" / "lightning_habits.md"

# Flags: (settings of the Trainer, epochs, steps, validated images). Two epochs of three steps are usual.
FLAGS: list[tuple[dict[str, Any], int, int, int]] = [
    ({}, 2, 6, 13),
    ({"accelerator": "auto", "devices": "auto", "strategy": "auto", "num_nodes": 1}, 2, 6, 13),
    ({"devices": "1", "strategy": "single_device"}, 2, 6, 13),
    ({"precision": "16-mixed"}, 2, 6, 13),
    ({"precision": "bf16"}, 2, 6, 13),
    ({"precision": None}, 2, 6, 13),
    ({"fast_dev_run": True}, 1, 1, 7),
    ({"max_steps": 4}, 2, 4, 13),
    ({"min_epochs": 2, "min_steps": 2, "max_time": {"hours": 1}}, 2, 6, 13),
    ({"max_time": {"seconds": 0}}, 0, 0, 0),
    ({"limit_train_batches": 2, "limit_val_batches": 1}, 2, 4, 7),
    ({"limit_train_batches": 0.4, "limit_val_batches": 0.5}, 2, 2, 7),
    ({"limit_val_batches": 0}, 2, 6, 0),
    ({"overfit_batches": 1}, 2, 2, 7),
    ({"overfit_batches": 0.7}, 2, 4, 7),
    ({"val_check_interval": 2}, 2, 6, 13),
    ({"val_check_interval": 4, "check_val_every_n_epoch": None}, 2, 6, 13),
    ({"val_check_interval": "00:00:00:00"}, 2, 6, 13),
    ({"check_val_every_n_epoch": 2}, 2, 6, 13),
    ({"num_sanity_val_steps": -1}, 2, 6, 13),
    ({"log_every_n_steps": 0}, 2, 6, 13),
    ({"accumulate_grad_batches": 2}, 2, 4, 13),
    ({"gradient_clip_val": 0.1, "gradient_clip_algorithm": "value"}, 2, 6, 13),
    ({"benchmark": True, "deterministic": "warn", "inference_mode": False, "detect_anomaly": True}, 2, 6, 13),
    ({"use_distributed_sampler": False, "sync_batchnorm": True, "reload_dataloaders_every_n_epochs": 1}, 2, 6, 13),
    ({"enable_model_summary": True, "enable_progress_bar": True, "enable_checkpointing": True}, 2, 6, 13),
    ({"profiler": "simple", "enable_autolog_hparams": False, "model_registry": "mine"}, 2, 6, 13),
    ({"plugins": MixedPrecision("bf16-mixed", "cpu")}, 2, 6, 13),
    ({"plugins": AsyncCheckpointIO(), "enable_checkpointing": True}, 2, 6, 13),
]


@pytest.mark.parametrize(
    ("given", "epochs", "steps", "images"), FLAGS, ids=[str(row[0]).split(" object at ")[0] for row in FLAGS]
)
def test_a_flag_does_what_it_says(fit: Fit, given, epochs, steps, images):
    model = fit(2, mode="last_stages", trainer=given)
    torch.use_deterministic_algorithms(False)  # what a Trainer sets for the whole process
    torch.backends.cudnn.benchmark = False

    assert (model.trainer.current_epoch, model.trainer.global_step) == (epochs, steps)
    validated = len(model.predictions["val"].rows) if images else len(model.predictions)
    assert validated == images


def test_bare_bones_train_the_same_weights(fit: Fit):
    """Without logs there are no metrics on the trainer; the model has its numbers all the same."""
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"))

    bare, plain = fit(2, trainer={"barebones": True, **off}), fit(2)

    assert bare.numbers == plain.numbers
    assert bare.trainer.callback_metrics == {}


@pytest.mark.parametrize("mode", ["head", pytest.param("all", marks=pytest.mark.slow)])
@pytest.mark.parametrize("flag", [{"inference_mode": False}, {"reload_dataloaders_every_n_epochs": 1}], ids=str)
def test_how_it_is_computed_changes_no_number(fit: Fit, mode, flag):
    assert fit(2, mode=mode, trainer=flag).numbers == fit(2, mode=mode).numbers


class Rows(L.Callback):
    """Those of each epoch, as they come."""

    def __init__(self) -> None:
        self.epochs: list[list[int]] = []

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.epochs.append([])

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.epochs[-1] += batch["row"].tolist()


@pytest.mark.parametrize("settings", [{}, {"mode": "head", "activation_cache": "on"}], ids=["images", "activations"])
@pytest.mark.parametrize("sampler", ["shuffled", "balanced"])
def test_to_overfit_takes_the_same_images_in_each_epoch(fit: Fit, sampler, settings):
    rows = Rows()
    trainer = {"overfit_batches": 1, "callbacks": [rows]}

    fit(3, data={"sampler": sampler, "augmentation": "none"}, trainer=trainer, **settings)

    first, *others = rows.epochs
    assert len(first) == 8
    assert others == [first, first]


# What would train nothing, or otherwise than it looks: one sentence, before any image is read.
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"max_epochs": 0}, "max_epochs is 0; it must be above 0"),
    ({"max_steps": 0}, "max_steps is 0; it must be above 0"),
    ({"limit_train_batches": 0}, "limit_train_batches is 0; it must be above 0"),
    ({"accumulate_grad_batches": -1}, "accumulate_grad_batches is -1; it must be above 0"),
    ({"check_val_every_n_epoch": 0}, "check_val_every_n_epoch is 0; it must be above 0"),
    ({"log_every_n_steps": -1}, "log_every_n_steps is -1; it must be 0 or more"),
    ({"gradient_clip_val": -1}, "gradient_clip_val is -1; it must be 0 or more"),
    ({"gradient_clip_algorithm": "norm"}, "but nothing is clipped: give .*gradient_clip_val too"),
    ({"min_epochs": 3}, "min_epochs is 3, but .*max_epochs is 2"),
    ({"min_steps": 3, "max_steps": 2}, "min_steps is 3, but .*max_steps is 2"),
    *(
        ({"precision": word}, f"precision is {word}, but the weights stay float32: it must be one of 32-true, bf16")
        for word in ("bf16-true", "16-true", "64-true")
    ),
    ({"plugins": DoublePrecision()}, "precision is 64-true, but the weights stay float32"),
    ({"plugins": HalfPrecision("bf16-true")}, "precision is bf16-true, but the weights stay float32"),
    ({"callbacks": BackboneFinetuning()}, "BackboneFinetuning cannot be used in a fit: what it does is set by .*mode"),
    ({"callbacks": ModelPruning("l1_unstructured")}, "ModelPruning cannot be used in a fit: it changes weights"),
    ({"callbacks": GradientAccumulationScheduler({0: 1, 1: 2})}, "give .*accumulate_grad_batches a number"),
    ({"callbacks": EarlyStopping("val_acc")}, "'val_acc'; it must be one of .*Did you mean 'val_accuracy'"),
    ({"callbacks": EarlyStopping("val_accuracy")}, "val_accuracy, of which larger is better, but its mode is min"),
    ({"callbacks": ModelCheckpoint(monitor="val_accuracy")}, "val_accuracy, of which larger is better"),
    ({"callbacks": ModelCheckpoint(monitor="val_los")}, "Did you mean 'val_loss'"),
]


@pytest.mark.parametrize(("given", "sentence"), REFUSED, ids=[str(row[0])[:60] for row in REFUSED])
def test_what_would_go_wrong_is_refused_before_an_image_is_read(fit: Fit, given, sentence, tmp_path):
    with pytest.raises(UserError, match=sentence):
        fit(
            given.get("max_epochs", 2),
            trainer={"enable_checkpointing": True, **{name: given[name] for name in given if name != "max_epochs"}},
            data={"root": tmp_path / "nowhere"},
        )


@pytest.mark.parametrize("mode", ["all", "last_stages", "head"])
def test_stochastic_weight_averaging_is_refused_in_every_mode(fit: Fit, mode):
    with pytest.raises(UserError, match=r"copies the network before there is one, .*use EMAWeightAveraging"):
        fit(2, mode=mode, trainer={"callbacks": StochasticWeightAveraging(0.01)})


@pytest.mark.parametrize("strategy", ["ddp_spawn", "ddp_fork", "ddp_notebook"])
def test_processes_that_take_the_network_along_are_refused(strategy):
    trainer = L.Trainer(strategy=strategy, accelerator="cpu", devices=2, logger=False)

    with pytest.raises(UserError, match=r"nothing would be left of it: write a script with .*ddp"):
        check_trainer(trainer, ImageClassifier())


def test_a_network_in_parts_is_refused():
    trainer = L.Trainer(strategy=ModelParallelStrategy(), accelerator="cpu", devices=1, logger=False)

    with pytest.raises(UserError, match="ModelParallelStrategy, which splits or moves the network"):
        check_trainer(trainer, ImageClassifier())


def test_whoever_logs_more_may_watch_it(fit: Fit):
    class Logs(L.Callback):
        def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            pl_module.log("val_mine", 1.0)

    stop = EarlyStopping("val_mine", patience=0)

    assert fit(5, trainer={"callbacks": [Logs(), stop]}).trainer.current_epoch == 2


class Remembers(L.Callback):
    """What it remembers at the start, and from the second epoch on."""

    def __init__(self, first: Any, later: Any) -> None:
        self.state, self.later = {"kept": first}, {"kept": later}

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch:
            self.state = self.later

    def state_dict(self) -> dict[str, Any]:
        return self.state


@pytest.mark.parametrize("state", [(Path(), 0), (0, np.float64(1))], ids=["at once", "later"])
def test_a_state_that_could_not_be_loaded_is_refused_when_it_would_be_saved(fit: Fit, tmp_path: Path, state):
    trainer = {"callbacks": [Remembers(*state)], "enable_checkpointing": True}

    with pytest.raises(UserError, match="The state of the callback Remembers could not be read from a checkpoint"):
        fit(2, trainer=trainer)

    fit(2, trainer={"callbacks": [Remembers([1, "a"], {"b": torch.ones(2)})], "enable_checkpointing": True})


class LeavesOut(ImageClassifier):
    def configure_callbacks(self) -> list[L.Callback]:
        return [EarlyStopping("val_loss")]


class TakesNoStep(ImageClassifier):
    def begin(self) -> None:
        super().begin()
        self.automatic_optimization = False


class Adds(ImageClassifier):
    """What people override."""

    def configure_callbacks(self) -> list[L.Callback]:
        return [*super().configure_callbacks(), EarlyStopping("val_loss", patience=0, min_delta=1e9)]

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("images", float(len(batch["row"])), on_epoch=True)
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (LeavesOut, r"let it return \[\*super\(\)\.configure_callbacks\(\), \.\.\.\]"),
        (TakesNoStep, "TakesNoStep has automatic_optimization = False"),
    ],
)
def test_a_subclass_that_would_not_train_is_refused(fit: Fit, kind, sentence):
    with pytest.raises(UserError, match=sentence):
        fit(model=kind("resnet20", weights="none", mode="head"))


def test_hooks_of_a_subclass_do_what_they_say(fit: Fit):
    phases = [{"mode": "head", "epochs": 1}, {"mode": "all"}]

    model = fit(5, model=Adds("resnet20", weights="none", schedule=phases))

    assert model.trainer.current_epoch == 2
    assert [proof.mode for proof in model.freezing.proofs] == ["head", "all"]
    assert type(model.trainer.optimizers[0]) is torch.optim.SGD
    assert "images_epoch" in model.trainer.callback_metrics


# Callbacks that work: (makes it, what is true of it and the folder after two epochs).
CALLBACKS: dict[str, tuple[Callable[[], L.Callback], Callable[[Any, Path], Any]]] = {
    "EarlyStopping": (
        lambda: EarlyStopping("val_loss", patience=0, min_delta=1e9),
        lambda callback, folder: callback.stopped_epoch == 1,
    ),
    "ModelCheckpoint, steps": (
        lambda: ModelCheckpoint("steps", every_n_train_steps=2, save_top_k=-1, save_last=True),
        lambda callback, folder: len(list((folder / "steps").iterdir())) == 4,
    ),
    "ModelCheckpoint, time": (
        lambda: ModelCheckpoint("time", train_time_interval=timedelta(0)),
        lambda callback, folder: list((folder / "time").iterdir()),
    ),
    "ModelCheckpoint, best": (
        lambda: ModelCheckpoint("best", "{epoch}-{val_accuracy:.2f}", monitor="val_accuracy", mode="max"),
        lambda callback, folder: "val_accuracy=" in callback.best_model_path,
    ),
    "ModelCheckpoint, newest": (
        lambda: ModelCheckpoint("newest", monitor="step", mode="max", save_weights_only=True),
        lambda callback, folder: "step=6" in callback.best_model_path,
    ),
    "BatchSizeFinder": (lambda: BatchSizeFinder(max_trials=2), lambda callback, folder: callback.optimal_batch_size),
    "OnExceptionCheckpoint": (
        lambda: OnExceptionCheckpoint("exception"),
        lambda callback, folder: not (folder / "exception").exists(),
    ),
    "LambdaCallback": (lambda: LambdaCallback(on_fit_end=lambda *_: None), lambda callback, folder: True),
    "LearningRateMonitor": (lambda: LearningRateMonitor("step"), lambda callback, folder: "head" in str(callback.lrs)),
    "DeviceStatsMonitor": (lambda: DeviceStatsMonitor(cpu_stats=False), lambda callback, folder: True),
    "ThroughputMonitor": (
        lambda: ThroughputMonitor(batch_size_fn=lambda batch: len(batch["row"])),
        lambda callback, folder: "train/samples" in next((folder / "log").rglob("metrics.csv")).read_text(),
    ),
    "Timer": (lambda: Timer("00:01:00:00"), lambda callback, folder: callback.time_elapsed("train") > 0),
    "ModelSummary": (ModelSummary, lambda callback, folder: True),
    "RichModelSummary": (RichModelSummary, lambda callback, folder: True),
    "TQDMProgressBar": (TQDMProgressBar, lambda callback, folder: True),
    "RichProgressBar": (RichProgressBar, lambda callback, folder: True),
    "SpikeDetection": (SpikeDetection, lambda callback, folder: True),
}


@pytest.mark.parametrize("name", CALLBACKS)
def test_a_callback_works(fit: Fit, tmp_path: Path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    make, is_right = CALLBACKS[name]
    callback = make()
    trainer = {
        "callbacks": callback,
        "logger": CSVLogger(tmp_path / "log"),
        "log_every_n_steps": 1,
        "enable_checkpointing": True,
        "enable_progress_bar": "ProgressBar" in name,
        "enable_model_summary": "Summary" in name,
    }

    model = fit(2, mode="head", trainer=trainer)

    assert model.trainer.current_epoch == 2
    assert is_right(callback, tmp_path)


def test_what_is_saved_at_an_exception_goes_on(fit: Fit, tmp_path: Path):
    class Fails(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *arguments: Any) -> None:
            if trainer.global_step == 4:
                raise RuntimeError("out of luck")

    kept = {"callbacks": [OnExceptionCheckpoint(tmp_path), Fails()], "enable_checkpointing": True}
    with pytest.raises(RuntimeError, match="out of luck"):
        fit(2, trainer=kept)

    resumed = fit(2, ckpt_path=tmp_path / "on_exception.ckpt")

    assert resumed.numbers == fit(2).numbers


def test_a_writer_of_predictions_gets_their_rows(fit: Fit, blobs: Path):
    """Lightning finds no indices of batches, which our loaders do not hide in a sampler; the rows are in each batch."""
    rows: list[int] = []

    class Writer(BasePredictionWriter):
        def write_on_batch_end(self, trainer, pl_module, prediction, *batch: Any) -> None:
            rows.extend(prediction["row"].tolist())

    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    data = ImageDataModule(blobs, batch_size=4, workers=0, predict_root=blobs / "test")
    L.Trainer(**quiet, callbacks=Writer("batch"), limit_predict_batches=1).predict(fit(), datamodule=data)

    assert rows == [0, 1, 2, 3]


def test_a_fit_warns_of_nothing_that_is_well(fit: Fit, tmp_path: Path):
    """Frozen stages in eval mode, few steps beside a logger, a resume within an epoch, averages of the weights."""
    saves = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=2, save_top_k=-1)
    settings = {"mode": "head", "data": {"augmentation": "none"}}
    averages = lightning.pytorch.callbacks.EMAWeightAveraging

    def trainer() -> dict[str, Any]:
        logger = CSVLogger(tmp_path / "log")
        return {"logger": logger, "callbacks": [averages(), saves], "enable_checkpointing": True}

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fit(2, trainer=trainer(), **settings)
        model = fit(2, trainer=trainer(), ckpt_path=tmp_path / "step=4.ckpt", **settings)
        model.trainer.validate(model, datamodule=model.trainer.datamodule, verbose=False)

    others = [str(each.message) for each in said if not issubclass(each.category, DeprecationWarning)]
    assert [text for text in others if "exists and is not empty" not in text] == []  # which is true


def test_evaluating_after_a_fit_talks_of_no_callbacks(fit: Fit, caplog: pytest.LogCaptureFixture):
    model = fit()

    model.trainer.validate(model, datamodule=model.trainer.datamodule, verbose=False)

    assert "will override existing callbacks" not in caplog.text


def start(blobs: Path, folder: Path, strategy: str) -> subprocess.CompletedProcess[str]:
    """A script of two processes, as its user would start it."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
    environment = {key: value for key, value in os.environ.items() if key not in names}
    environment["PYTHONPATH"] = str(PAGE.parents[1])
    command = [sys.executable, Path(__file__).with_name("ddp_habits.py"), blobs, folder, strategy]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


needs_processes = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch has no torch.distributed")


@pytest.mark.slow
@needs_processes
def test_a_script_of_two_processes_warns_of_nothing_and_overfits_the_same_images(blobs: Path, tmp_path: Path):
    done = start(blobs, tmp_path, "ddp")

    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    for words in ("sync_dist", "eval mode", "deprecated", "shuffling", "override existing callbacks"):
        assert words not in done.stderr
    first, second = ([set(epoch) for epoch in json.loads((tmp_path / f"{rank}.json").read_text())] for rank in (0, 1))
    assert first[0] == first[1] == first[2]
    assert second[0] == second[1] == second[2]


@pytest.mark.slow
@needs_processes
def test_processes_that_take_the_network_along_end_in_the_sentence(blobs: Path, tmp_path: Path):
    done = start(blobs, tmp_path, "ddp_spawn")

    assert done.returncode == 1
    assert "UserError: " in done.stderr.strip().splitlines()[-1]
    assert "so that nothing would be left of it" in done.stderr.strip().splitlines()[-1]


def test_the_page_names_every_flag_and_every_callback():
    text = PAGE.read_text()

    flags = list(inspect.signature(L.Trainer).parameters)
    assert [name for name in (*flags, *lightning.pytorch.callbacks.__all__) if f"`{name}" not in text] == []
