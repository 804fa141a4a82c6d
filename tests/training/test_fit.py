"""A whole fit: what is in the run directory in the end, and that it all tells of the same weights."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from resnet_tl import ImageClassifier, ImageDataModule, Predictor, Run
from resnet_tl.errors import UserError
from resnet_tl.evaluation.metrics import compute_metrics, metrics_of
from resnet_tl.training.fit import best_checkpoint, fit, report
from resnet_tl.training.recorder import RunRecorder
from resnet_tl.training.resuming.resume_points import ResumePoints


def whole_fit(
    images: Path, run: Path, epochs: int, *, callbacks: list[L.Callback] | None = None, trainer=None, **settings: Any
) -> Run:
    model = ImageClassifier("resnet20", **settings)
    recorder = RunRecorder("fit", str(run), lambda model: "model: {}\n")
    best = best_checkpoint(model.hparams["monitor"], "min")
    quiet = {"accelerator": "cpu", "devices": 1, "logger": False, "enable_progress_bar": False}
    own = L.Trainer(
        max_epochs=epochs, callbacks=[recorder, ResumePoints(), best, *(callbacks or [])], **quiet | (trainer or {})
    )
    return fit(model, ImageDataModule(images, batch_size=8, image_size=16, workers=0), own, recorder)


@pytest.fixture(scope="module")
def run(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three epochs of which the last is not the best, since its rate is far too high."""
    schedule = [{"mode": "head", "epochs": 2}, {"mode": "all", "lr": 10.0}]
    return whole_fit(blobs, tmp_path_factory.mktemp("runs") / "fit-1", 3, schedule=schedule)


def test_the_run_directory_is_complete(run: Run):
    files = {path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file()}
    files -= {"evidence/val/knn.csv", "evidence/val/probe.csv"}  # there where another test has kept the features

    assert files == {
        "recipe.yaml",
        "environment.json",
        "metrics.csv",
        "summary.json",
        "data/facts.json",
        "data/index.csv",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "data/findings.csv",
        "freezing.json",
        "figures/augmented.png",
        "figures/learning_curves.png",
        "figures/confusion_val.png",
        "figures/confusion_test.png",
        "model/model.json",
        "model/weights.safetensors",
        "model/reference.safetensors",
        "model/validation.safetensors",
        "evidence/val/facts.json",
        "evidence/val/gradcam.npz",
        "evidence/val/map.csv",
        "evidence/val/neighbours.csv",
        "predictions/val.csv",
        "predictions/test.csv",
        "predictions/mistakes_val.csv",
        "predictions/least_certain_val.csv",
        "report.html",
        "figures/loss_curve.svg",
        "figures/accuracy_curve.svg",
        "figures/accuracy_val.svg",
        "figures/confusion_val.svg",
        "figures/map_val.svg",
    }


def test_a_report_that_cannot_be_written_is_no_reason_to_lose_the_fit(run: Run, tmp_path: Path, caplog):
    copy = Run(shutil.copytree(run.path, tmp_path / "copy"))
    (copy.path / "report.html").unlink()
    (copy.path / "report.html").mkdir()

    report(copy)

    assert "report.html could not be written" in caplog.text
    assert copy.is_complete


def test_the_time_that_the_report_took_is_counted(run: Run):
    page = (run.path / "report.html").read_text(encoding="utf-8")

    assert "Time, and where it went" in page
    assert run.environment["seconds"]["files"] > 0


def test_checkpoints_are_those_of_the_best_epoch_and_of_the_end(run: Run):
    epochs = {
        name: torch.load(run.checkpoints / f"{name}.ckpt", weights_only=True)["epoch"] for name in ("best", "last")
    }

    assert run.history["epoch"].tolist() == [1, 2, 3]
    assert epochs["last"] == 3  # epochs are over
    assert epochs["best"] + 1 == run.summary["best_epoch"] == run.history["val_loss"].argmin() + 1
    assert epochs["best"] < epochs["last"], "the test needs a run whose last epoch is not its best"


def test_the_bundle_holds_the_weights_of_the_best_checkpoint(run: Run):
    best = torch.load(run.checkpoints / "best.ckpt", weights_only=True)["state_dict"]
    bundle = load_file(run.path / "model" / "weights.safetensors")

    assert bundle.keys() == {key.removeprefix("network.") for key in best}
    assert all(torch.equal(tensor, best[f"network.{key}"]) for key, tensor in bundle.items())


def test_the_summary_the_tables_and_the_history_agree(run: Run):
    for split, images in (("val", 13), ("test", 7)):
        table = run.predictions(split)
        assert len(table) == images
        assert run.summary["metrics"][split] == compute_metrics(table)
        assert run.bundle.metrics[split] == run.summary["metrics"][split]
    best = run.history.set_index("epoch").loc[run.summary["best_epoch"]]
    for name, value in run.summary["metrics"]["val"].items():
        assert best[f"val_{name}"] == pytest.approx(value, rel=1e-6)


def test_the_summary_says_what_the_network_costs(run: Run):
    summary = run.summary

    assert summary["network"]["name"] == "resnet20"
    weights = load_file(run.path / "model" / "weights.safetensors")
    learnt = [tensor for key, tensor in weights.items() if not re.search("running_|num_batches", key)]
    assert summary["network"]["parameters"] == sum(tensor.numel() for tensor in learnt)
    assert summary["network"]["multiply_adds"] == pytest.approx(40.6e6 / 4, rel=0.02)  # He et al.'s at half the size
    assert run.environment["prediction_images_per_second"] > 1


def test_the_table_equals_the_predictors(run: Run, blobs: Path):
    predictor = Predictor(run.path, device="cpu")

    for split in ("val", "test"):
        table, predicted = run.predictions(split), predictor.predict(blobs / split)
        assert [Path(path).name for path in predicted["path"]] == [Path(path).name for path in table["path"]]
        assert predicted["predicted"].tolist() == table["predicted"].tolist()
        columns = [f"prob_{name}" for name in predictor.classes]
        np.testing.assert_allclose(predicted[columns], table[columns], rtol=0, atol=1e-5)


def test_a_dry_run_of_the_trainer_ends_well(blobs: Path, tmp_path: Path):
    run = whole_fit(blobs, tmp_path / "run", 3, mode="head", trainer={"fast_dev_run": True})

    assert set(run.summary["metrics"]) == {"val", "test"}


def test_a_fit_that_ends_before_any_validation_keeps_its_last_weights(blobs: Path, tmp_path: Path):
    run = whole_fit(blobs, tmp_path / "run", -1, mode="head", trainer={"max_steps": 2})

    assert run.summary["best_epoch"] is None
    assert len(run.predictions("val")) == 13


def test_epochs_without_validation_have_no_numbers(blobs: Path, tmp_path: Path):
    run = whole_fit(blobs, tmp_path / "run", 4, mode="head", trainer={"check_val_every_n_epoch": 2})

    assert run.history["val_loss"].notna().tolist() == [False, True, False, True]
    assert run.history["train_loss"].notna().all()
    assert run.summary["best_epoch"] in (2, 4)


def test_a_metric_that_is_not_defined_is_left_out_of_the_summary(blobs: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(
        "resnet_tl.training.numbers.exact_evaluation.metrics_of",
        lambda *found: metrics_of(*found) | {"auroc": float("nan")},
    )

    run = whole_fit(blobs, tmp_path / "run", 1, mode="head")

    text = (run.path / "summary.json").read_text()
    assert "NaN" not in text
    assert "auroc" not in json.loads(text)["metrics"]["val"]


def test_too_little_memory_suggests_a_smaller_batch(blobs: Path, tmp_path: Path):
    class RunsOut(L.Callback):
        def on_train_batch_start(self, *args: Any) -> None:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(UserError, match=r"batches of 8 images: try --data\.batch_size 4"):
        whole_fit(blobs, tmp_path / "run", 1, callbacks=[RunsOut()])


def test_any_other_failure_keeps_its_own_words(blobs: Path, tmp_path: Path):
    class Fails(L.Callback):
        def on_train_batch_start(self, *args: Any) -> None:
            raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        whole_fit(blobs, tmp_path / "run", 1, callbacks=[Fails()])
