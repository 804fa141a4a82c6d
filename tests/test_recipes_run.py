"""Every shipped recipe runs, through the real command, on a few tiny pictures, and says what it does."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from resnet_tl.cli.main import main
from resnet_tl.recipe import Recipe, list_recipes, load_recipe, recipes_folder

RECIPES = list_recipes()
every_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
FAST = ("freeze_backbone", "last_stages", "lp_ft", "mnist_two_branch")  # one of each kind


def test_every_recipe_is_found_and_has_a_name_of_its_own():
    names = [recipe.name for recipe in RECIPES]

    assert {"freeze_backbone", "last_stages", "train_everything", "lp_ft"} <= set(names)
    assert len(names) == len(set(names)) == len(list(recipes_folder().rglob("*.yaml")))


@every_recipe
def test_its_header_has_a_summary_and_its_command(recipe: Recipe):
    header = [line for line in recipe.text.splitlines() if line.startswith("#")]

    assert recipe.text.startswith("# ")
    assert 20 < len(recipe.summary) < 100
    assert any(f"resnet-tl fit --recipe {recipe.name}.yaml" in line for line in header)
    assert any(line.startswith(("# Measured", "# Not run to the end here")) for line in header)
    assert "HEADER" not in recipe.text


@every_recipe
def test_it_is_parsed_as_it_stands(recipe: Recipe, blobs: Path):
    from resnet_tl.cli.fit_parser import FitCLI

    config = FitCLI([recipe.path], ["--data.root", str(blobs)]).config

    for key, value in load_recipe(recipe.path).get("model", {}).items():
        assert key == "schedule" or config.model[key] == value


@pytest.mark.parametrize(
    "recipe",
    [pytest.param(each, marks=() if each.name in FAST else pytest.mark.slow, id=each.name) for each in RECIPES],
)
def test_it_runs(recipe: Recipe, blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    model = load_recipe(recipe.path).get("model", {})
    network = model.get("network", "auto")
    epochs = 1 + sum(phase.get("epochs", 0) for phase in model.get("schedule", []))  # so that every phase has its turn
    flags = ["--data.root", str(blobs), "--trainer.max_epochs", str(epochs), "--data.image_size", "32"]
    if recipe.name == "auto":  # which plans both
        flags = ["--data.root", str(blobs), "--budget", "1s"]
    if network != "auto":  # whose weights would have to be fetched
        flags += ["--model.weights", "none"]

    assert main(["fit", "--recipe", recipe.name, *flags]) == 0

    run = tmp_path / "runs" / f"{recipe.name}-1"
    summary = json.loads((run / "summary.json").read_text())
    assert set(summary["metrics"]) == {"val", "test"}
    assert (run / "model" / "weights.safetensors").is_file()
    resolved = load_recipe(run / "recipe.yaml")
    given = load_recipe(recipe.path)
    for section in ("model", "data"):
        for key, value in given.get(section, {}).items():
            if key not in ("source", "schedule") and f"--{section}.{key}" not in flags and value != "auto":
                assert resolved[section][key] == value


SCHEDULES = {
    "cifar10_paper": ("torch.optim.SGD", 0.1, 0.0001, "PiecewiseConstantLR", 128),
    "cifar10_article": ("torch.optim.Adam", 0.001, 0.0002, "PiecewiseConstantLR", 32),
    "cifar10_plateau": ("torch.optim.Adam", 0.001, 0.0002, "ReduceLROnPlateau", 32),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_of_the_articles_trains_any_cifar_network(schedule: str, blobs: Path):
    from resnet_tl.cli.fit import split_recipes
    from resnet_tl.cli.fit_parser import FitCLI

    words = ["--recipe", schedule, "--data.root", str(blobs)]
    config = FitCLI(*split_recipes([*words, "--model.network", "resnet56v2"])).config

    optimizer, lr, weight_decay, scheduler, batch_size = SCHEDULES[schedule]
    assert config.model.network == "resnet56v2"
    assert config.model.label_smoothing == 0
    assert config.optimizer.class_path == optimizer
    assert (config.optimizer.init_args.lr, config.optimizer.init_args.weight_decay) == (lr, weight_decay)
    assert config.lr_scheduler.class_path.endswith(scheduler)
    assert "pct_start" not in config.lr_scheduler.init_args
    assert config.data.batch_size == batch_size
    assert config.trainer.precision == "32-true"


def test_the_papers_schedule_ends_after_its_steps(blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--data.root", str(blobs), "--data.batch_size", "8", "--data.image_size", "16"]
    flags += ["--lr_scheduler.milestones", "[2, 4]", "--trainer.max_steps", "5"]

    assert main(["fit", "--recipe", "cifar10_paper", *flags]) == 0

    history = pd.read_csv(tmp_path / "runs" / "cifar10_paper-1" / "metrics.csv")
    assert history["step"].tolist() == [3, 5]
    assert history["learning_rate"].tolist() == pytest.approx([0.01, 0.001])
