"""`fit --recipe auto --budget`: a plan that is shown and carried out, and what does not go with it."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from resnet_tl.cli.fit_budget import take_budget
from resnet_tl.errors import UserError
from resnet_tl.recipe import find_recipe, load_recipe


def test_a_fit_within_a_budget_shows_its_plan_and_can_be_repeated(command, blobs: Path, tmp_path: Path):
    done = command("fit", "--recipe", "auto", "--budget", "20s", "--data.root", blobs, "--trainer.devices", 1)

    assert done.code == 0, done.err
    assert "Plan for 20s, of which " in done.out
    assert "It should take about " in done.out
    run = tmp_path / "runs" / "auto-1"
    recipe = run / "recipe.yaml"
    settings = load_recipe(recipe)
    assert settings["model"]["mode"] in ("all", "last_stages", "head")
    assert f"# data.image_size was left to the program, which chose {settings['data']['image_size']}: " in (
        recipe.read_text()
    )
    assert "budget" not in recipe.read_text().partition("\n")[2]
    again = command("fit", "--recipe", recipe, "--run", "again")
    assert again.code == 0, again.err
    assert "Plan for" not in again.out
    weights = "model/weights.safetensors"
    assert (tmp_path / "again" / weights).read_bytes() == (run / weights).read_bytes()


def test_without_a_budget_auto_has_one():
    auto = [find_recipe("auto")]

    assert take_budget(auto, ["--seed", "1"]) == ("10m", ["--seed", "1"])
    assert take_budget(auto, ["--budget", "90s", "--seed", "1"]) == ("90s", ["--seed", "1"])
    assert take_budget(auto, ["--seed", "1", "--budget=1.5h"]) == ("1.5h", ["--seed", "1"])
    assert take_budget([find_recipe("last_stages")], ["--seed", "1"]) == (None, ["--seed", "1"])
    with pytest.raises(UserError, match="--budget has no value"):
        take_budget(auto, ["--budget", "--seed", "1"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("auto", "--budget", "20"), "--budget is '20'; it must be a time such as 30s, 10m or 1.5h."),
        (("auto", "--budget", "0m"), "--budget is 0m, in which nothing can be trained"),
        (("auto", "--budget", "soon"), "--budget is 'soon'; it must be a time such as"),
        (("last_stages", "--budget", "20m"), "--budget plans the whole fit, for which the recipe auto"),
        (("auto", "--model.mode", "head"), "--model.mode is for the plan of --recipe auto to decide"),
        (("auto", "--optimizer.lr", "0.1"), "--optimizer.lr is for the plan of --recipe auto to decide"),
        (("auto", "--trainer.max_epochs", "3"), "--trainer.max_epochs is for the plan of --recipe auto to decide"),
        (("auto", "--forecast"), "--forecast does not go with --recipe auto, which says itself how long"),
        (("auto", "--folds", "3"), "--data.folds does not go with --recipe auto, which plans one fit"),
        (("auto", "--data.batchsize", "3"), "Did you mean"),
    ],
)
def test_what_does_not_go_with_a_budget_is_one_sentence(command, blobs: Path, words: tuple[str, ...], sentence: str):
    done = command("fit", "--data.root", blobs, "--recipe", *words)

    assert done.code == 2
    assert sentence in done.err
    assert done.err.count("\n") == 1
    assert not Path("runs").exists() or not any(Path("runs").iterdir())


def test_a_run_is_not_planned_again(command, tiny_run: Path):
    done = command("fit", "--resume", tiny_run, "--budget", "20m")

    assert done.code == 2
    assert "--budget cannot be given with --resume" in done.err


@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a process for each core is the most")
def test_two_processes_carry_out_one_plan(blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import subprocess
    import sys

    monkeypatch.chdir(tmp_path)
    words = ["--recipe", "auto", "--budget", "4m", "--data.root", str(blobs), "--data.batch_size", "3"]
    command = [sys.executable, "-m", "resnet_tl", "fit", *words, "--trainer.accelerator", "cpu"]
    command += ["--trainer.devices", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("Plan for 4m") == 1
    settings = load_recipe(tmp_path / "runs" / "auto-1" / "recipe.yaml")
    history = pd.read_csv(tmp_path / "runs" / "auto-1" / "metrics.csv")
    if settings["model"]["mode"] == "head":
        assert settings["trainer"]["devices"] == 1
        pytest.skip("the machine is so loaded that there is time for a head alone, in one process")
    assert len(history) == settings["trainer"]["max_epochs"]
