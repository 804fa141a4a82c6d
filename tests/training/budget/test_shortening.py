"""A planned fit that is too slow is shortened once, and its recipe then repeats it, without a clock, to the bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import pytest

from resnet_tl import stopping
from resnet_tl.cli.main import main
from resnet_tl.recipe import load_recipe
from resnet_tl.run import Run
from resnet_tl.training.budget.plan import Plan

PATHS = os.pathsep.join(str(folder) for folder in (Path(__file__).parent, Path(__file__).parents[3]))
KEPT = ("summary.json", "freezing.json", "predictions/val.csv", "model/weights.safetensors", "model/bundle.json")


class Slow(L.Callback):
    """Makes the machine slow, and may send a real signal within an epoch, once: a file says that it was sent."""

    def __init__(self, seconds: float = 0.0, number: int = 0, epoch: int = -1) -> None:
        self.seconds = seconds
        self.number = number
        self.epoch = epoch
        self.sent = Path("sent").resolve()

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        time.sleep(self.seconds)
        if trainer.current_epoch == self.epoch and not self.sent.exists():
            self.sent.touch()
            signal.raise_signal(self.number)


def plan(mode: str, epochs: int, seconds: float, budget: float) -> Plan:
    settings = {"model.mode": (mode, "chosen"), "trainer.max_epochs": (epochs, "chosen")}
    return Plan(settings, [seconds] * epochs, {"budget": budget, "spent": 0.0, "end": 0.0, "started": time.time()})


def fit(made: Plan, folder: Path, *flags: object) -> Run:
    from resnet_tl.cli.fit_parser import FitCLI
    from resnet_tl.recipe import find_recipe

    words = ["--run", folder, "--data.image_size", 16, "--data.batch_size", 6, "--trainer.devices", 1, *flags]
    run = FitCLI([find_recipe("train_everything")], [str(word) for word in words], plan=made).run()
    assert run is not None
    return run


def remains(run: Run) -> dict[str, object]:
    metrics = pd.read_csv(run.metrics_file).drop(columns="seconds").to_csv()
    return {name: (run.path / name).read_bytes() for name in KEPT if (run.path / name).exists()} | {"metrics": metrics}


def slow(seconds: float, number: int = 0, epoch: int = -1) -> list[object]:
    name = "--trainer.callbacks"
    given = {"seconds": seconds, "number": number, "epoch": epoch}
    return [name, "test_shortening.Slow", *(word for key, value in given.items() for word in (f"{name}.{key}", value))]


@pytest.fixture(autouse=True)
def _own_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(Path(__file__).parent)


@pytest.mark.parametrize(
    ("mode", "further"), [("all", ("--model.ema", 0.9)), pytest.param("last_stages", (), marks=pytest.mark.slow)]
)
def test_a_slow_fit_is_shortened_and_its_recipe_repeats_it(mode: str, further: tuple, blobs: Path, tmp_path: Path):
    run = fit(plan(mode, 8, 0.05, 2.5), tmp_path / "run", *slow(0.1), "--data.root", blobs, *further)

    history = pd.read_csv(run.metrics_file)
    schedule = load_recipe(run.recipe_file)["model"]["schedule"]
    assert 3 <= len(history) < 8
    assert [phase["epochs"] for phase in schedule] == [2, len(history) - 2]
    assert [phase.get("rate_epochs") for phase in schedule] == [8, len(history)]
    assert load_recipe(run.recipe_file)["trainer"]["max_epochs"] == len(history)
    assert "# model.schedule was left to the program" in run.recipe_file.read_text()
    assert history["learning_rate"].iloc[-1] < 0.1 * history["learning_rate"].max()  # it comes to its end

    assert main(["fit", "--recipe", str(run.recipe_file), "--run", str(tmp_path / "again")]) == 0
    assert remains(Run(tmp_path / "again")) == remains(run)


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [1, 2])
def test_a_stopped_fit_goes_on_as_its_recipe_says(epoch: int, blobs: Path, tmp_path: Path):
    """Before it is shortened, which it still is; and after."""
    made = plan("all", 8, 0.05, 2.5)
    with pytest.raises(stopping.Stopped), stopping.handled():
        fit(made, tmp_path / "run", *slow(0.1, signal.SIGTERM, epoch), "--data.root", blobs)
    run = Run(tmp_path / "run")
    begun = load_recipe(run.recipe_file)

    assert main(["fit", "--resume", str(run.path)]) == 0

    settings = load_recipe(run.recipe_file)
    assert settings["model"]["schedule"] is not None
    assert epoch == 1 or settings == begun
    assert main(["fit", "--recipe", str(run.recipe_file), "--run", str(tmp_path / "again")]) == 0
    assert remains(Run(tmp_path / "again")) == remains(run)


@pytest.mark.slow
def test_a_killed_fit_goes_on_as_its_recipe_says(blobs: Path, tmp_path: Path):
    """Its newest checkpoint may be from before it was shortened."""
    words = [str(word) for word in (*slow(0.1, signal.SIGKILL, 2), "--data.root", blobs)]
    code = f"from test_shortening import fit, plan; fit(plan('all', 8, 0.05, 2.5), 'run', *{words!r})"
    killed = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": PATHS}, check=False)
    assert killed.returncode == -signal.SIGKILL
    run = Run(tmp_path / "run")
    begun = run.recipe_file.read_text()
    assert "rate_start" in begun

    assert main(["fit", "--resume", str(run.path)]) == 0

    assert run.recipe_file.read_text() == begun
    assert main(["fit", "--recipe", str(run.recipe_file), "--run", str(tmp_path / "again")]) == 0
    assert remains(Run(tmp_path / "again")) == remains(run)


def test_a_fit_in_time_is_left_alone(blobs: Path, tmp_path: Path):
    run = fit(plan("all", 4, 5.0, 60.0), tmp_path / "run", "--data.root", blobs)

    assert len(pd.read_csv(run.metrics_file)) == 4
    assert load_recipe(run.recipe_file)["model"]["schedule"] is None
