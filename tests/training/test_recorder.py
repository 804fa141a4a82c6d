"""The run directory while a fit goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import pytest
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image

from resnet_tl.errors import UserError
from resnet_tl.run import Run
from resnet_tl.training.classifier import ImageClassifier
from resnet_tl.training.recorder import RunRecorder, best_epoch

Fit = Callable[..., ImageClassifier]


@pytest.fixture
def record(fit: Fit, tmp_path: Path) -> Callable[..., Run]:
    def run(epochs: int = 1, callbacks: tuple[L.Callback, ...] = (), **settings: Any) -> Run:
        text = "# {model.resolved}\nmodel: {{}}\n"
        (tmp_path / "mine.yaml").write_text("model: {}\n")
        recipes = [tmp_path / "mine.yaml"]
        recorder = RunRecorder("fit", str(tmp_path / "run"), lambda model: text.format(model=model), recipes)
        trainer = {"callbacks": [recorder, *callbacks], **settings.pop("trainer", {})}
        fit(epochs, trainer=trainer, **settings)
        assert recorder.run is not None
        return recorder.run

    return run


def test_metrics_have_one_line_for_each_epoch(record: Callable[..., Run]):
    run = record(3, schedule=[{"mode": "head", "epochs": 1}, {"mode": "last_stages"}])

    history = pd.read_csv(run.metrics_file)
    assert history["epoch"].tolist() == [1, 2, 3]
    assert history["step"].tolist() == [3, 6, 9]
    assert history["phase"].tolist() == ["head", "last_stages (1)", "last_stages (1)"]
    assert {"train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_macro_f1", "learning_rate"} <= set(history)
    assert history.notna().all(axis=None)
    assert (history["seconds"] > 0).all()


def test_the_training_loss_is_the_mean_over_the_epochs_images(record: Callable[..., Run]):
    class Losses(L.Callback):
        sums: list[float] = []  # noqa: RUF012

        def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int):
            self.sums.append(float(outputs["loss"]) * len(batch["row"]))

    run = record(callbacks=(Losses(),), data={"batch_size": 9})

    assert len(Losses.sums) == 3
    assert pd.read_csv(run.metrics_file)["train_loss"][0] == pytest.approx(sum(Losses.sums) / 24, rel=1e-5)


def test_metrics_are_on_disk_after_every_epoch(record: Callable[..., Run], tmp_path: Path):
    class Fails(L.Callback):
        def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
            if trainer.current_epoch == 2:
                raise RuntimeError("power failure")

    with pytest.raises(RuntimeError, match="power failure"):
        record(3, callbacks=(Fails(),))

    assert pd.read_csv(tmp_path / "run" / "metrics.csv")["epoch"].tolist() == [1, 2]


def test_recipe_environment_and_data_are_there_before_the_first_step(record: Callable[..., Run], tmp_path: Path):
    class Stops(L.Callback):
        def on_train_batch_start(self, *args: Any) -> None:
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        record(callbacks=(Stops(),))
    run = Run.open(tmp_path / "run")

    assert run.recipe == {"model": {}}
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["device"].startswith("cpu")
    assert {"torch", "lightning", "pillow"} <= set(environment["packages"])
    assert environment["recipes"] == {"mine": hashlib.sha256(b"model: {}\n").hexdigest()}
    assert run.data_facts["classes"] == ["blue", "green", "red"]
    assert run.data_facts["counts"]["val"] == {"blue": 5, "green": 4, "red": 4}
    index = pd.read_csv(run.path / "data" / "index.csv", keep_default_na=False)
    assert len(index) == 44
    assert set(index["label"]) == {"blue", "green", "red"}
    assert min(Image.open(run.figure("augmented")).size) > 100


def test_checkpoints_go_into_the_run_unless_they_have_a_place(record: Callable[..., Run], tmp_path: Path):
    homeless, placed = (
        ModelCheckpoint(filename="a"),
        ModelCheckpoint(dirpath=tmp_path / "elsewhere", monitor="val_loss"),
    )

    run = record(callbacks=(homeless, placed), trainer={"enable_checkpointing": True})

    assert sorted(file.name for file in run.checkpoints.iterdir()) == ["a.ckpt", "last.ckpt"]
    assert len(list((tmp_path / "elsewhere").iterdir())) == 1


def test_a_folder_with_something_in_it_is_refused(record: Callable[..., Run], tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("dear")

    with pytest.raises(UserError, match="run is not empty"):
        record()

    assert [file.name for file in (tmp_path / "run").iterdir()] == ["thesis.txt"]


def test_runs_are_numbered(fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    for _ in range(2):
        fit(trainer={"callbacks": [RunRecorder("mine", None, lambda model: "model: {}\n")], "limit_val_batches": 0})

    assert sorted(folder.name for folder in (tmp_path / "runs").iterdir()) == ["mine-1", "mine-2"]


@pytest.mark.parametrize(
    ("monitor", "values", "best"),
    [
        ("val_loss", [0.5, 0.3, 0.4], 2),
        ("val_accuracy", [0.5, 0.9, 0.9], 2),
        ("val_loss", [None, 0.4, None], 2),
        ("val_loss", [None, None, None], None),
        ("val_macro_f1", [0.1, 0.2, 0.3], None),
    ],
)
def test_the_best_epoch_is_the_first_of_the_best(monitor: str, values: list[float | None], best: int | None):
    column = "val_loss" if monitor == "val_macro_f1" else monitor
    history = pd.DataFrame({"epoch": [1, 2, 3], column: pd.Series(values, dtype=float)})

    assert best_epoch(history, monitor, "min" if monitor == "val_loss" else "max") == best
