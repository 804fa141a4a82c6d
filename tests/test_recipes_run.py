"""Every shipped recipe runs, through the real command, on a few tiny pictures, and says what it does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from resnet_tl.cli.main import main
from resnet_tl.recipe import Recipe, list_recipes, load_recipe, recipes_folder

RECIPES = list_recipes()
every_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)


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


@every_recipe
def test_it_runs(recipe: Recipe, blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    model = load_recipe(recipe.path).get("model", {})
    network = model.get("network", "auto")
    epochs = 1 + sum(phase.get("epochs", 0) for phase in model.get("schedule", []))  # so that every phase has its turn
    flags = ["--data.root", str(blobs), "--trainer.max_epochs", str(epochs), "--data.image_size", "32"]
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
