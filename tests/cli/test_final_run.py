"""`fit --final`: a run is repeated on train and validation images, and claims no number."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from resnet_tl.cli.final_run import final_words
from resnet_tl.errors import UserError
from resnet_tl.run import Run


@pytest.fixture
def parent(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the tiny run that says that its first epoch of two was the best, and gave a temperature."""
    shutil.copytree(tiny_run, tmp_path / "parent")
    summary = json.loads((tmp_path / "parent" / "summary.json").read_text())
    summary |= {"best_epoch": 1, "calibration": {"temperature": 2.0, "loss_before": 0.5, "loss": 0.4}}
    (tmp_path / "parent" / "summary.json").write_text(json.dumps(summary))
    return tmp_path / "parent"


def test_it_trains_on_all_images_to_the_best_epoch_and_has_the_numbers_of_its_parent_alone(parent: Path, command):
    outcome = command("fit", "--final", parent, "--run", "final")

    assert outcome.code == 0
    assert (
        "Trained on train and validation images together, to epoch 1, which validation chose in parent" in outcome.out
    )
    run = Run.open("final")
    assert len(run.history) == 1
    assert [file.name for file in run.checkpoints.iterdir()] == ["last.ckpt"]
    assert run.data_facts["counts"].keys() == {"train", "test"}
    assert sum(run.data_facts["counts"]["train"].values()) == 37
    assert run.summary["metrics"].keys() == {"test"}  # images that it has not seen
    assert not [name for name in run.history if name.startswith("val_")]
    assert "trained on train and validation images" in repr(run)
    assert run.final_of["run"] == str(parent)
    assert run.final_of["metrics"] == Run.open(parent).summary["metrics"]
    assert run.bundle.temperature == 2
    assert (run.bundle.validation["repeats"], run.bundle.validation["images"]) == (True, 13)
    assert "divide the logits by 2.00" in outcome.out
    recipe = yaml.safe_load((run.path / "recipe.yaml").read_text())
    assert (recipe["data"]["final"], recipe["model"]["stop_after"], recipe["trainer"]["max_epochs"]) == (True, 1, 2)

    assert command("fit", "--recipe", "final/recipe.yaml", "--run", "again").code == 0
    again, first = (load_file(f"{name}/model/weights.safetensors") for name in ("again", "final"))
    assert all(torch.equal(again[key], first[key]) for key in first)
    assert Run.open("again").final_of == {}

    outcome = command("validate", "final")
    assert outcome.code == 2
    assert f"validate the run that it repeats (resnet-tl validate {parent})" in outcome.err
    assert command("validate", "final", "--root", run.data_facts["root"]).code == 2
    outcome = command("compare", "final", parent)
    assert outcome.code == 2
    assert f"trained on those images too; take the run that it repeats, {parent}" in outcome.err
    assert command("test", "final").code == 0
    outcome = command("fit", "--final", "final")
    assert outcome.err == "resnet-tl: final is trained on all images already: give the run that it repeats.\n"


def test_a_run_of_folds_is_repeated_to_the_middle_of_its_best_epochs(tmp_path: Path):
    recipe = {"data": {"folds": 3, "fold": None}, "trainer": {"max_epochs": 9}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (tmp_path / "summary.json").write_text(json.dumps({"best_epoch": 5}))

    assert final_words(Run(tmp_path)) == [
        *("--final", str(tmp_path), "--data.final=true", "--data.fold=null", "--model.stop_after=5")
    ]


def test_what_waits_for_a_validation_is_left_out(tmp_path: Path):
    stops = {"class_path": "EarlyStopping", "init_args": {"monitor": "val_loss"}}
    watches = {"class_path": "LearningRateMonitor", "init_args": {}}
    recipe = {"data": {}, "trainer": {"callbacks": [stops, watches]}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (tmp_path / "summary.json").write_text(json.dumps({"best_epoch": None}))

    words = final_words(Run(tmp_path))

    assert words[-1] == f"--trainer.callbacks={json.dumps([watches])}"
    assert not any("stop_after" in word for word in words)


def test_it_ends_there_whatever_its_parent_had_as_least(tmp_path: Path):
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"data": {}, "trainer": {"min_epochs": 8, "min_steps": None}}))
    (tmp_path / "summary.json").write_text(json.dumps({"best_epoch": 5}))

    assert final_words(Run(tmp_path))[-2:] == ["--model.stop_after=5", "--trainer.min_epochs=null"]


@pytest.mark.slow
def test_one_that_lacks_its_model_alone_writes_it_again(blobs: Path, command):
    """Without a test split nothing is evaluated, and nothing but that would load the weights."""
    for split in ("train", "val"):
        shutil.copytree(blobs / split, f"images/{split}")
    flags = ("--data.root", "images", "--data.image_size", 16, "--trainer.max_epochs", 1, "--model.ema", 0.9)
    assert command("fit", "--recipe", "train_everything", *flags, "--run", "parent").code == 0
    assert command("fit", "--final", "parent", "--run", "final").code == 0
    written = Path("final/model/weights.safetensors").read_bytes()
    shutil.rmtree("final/model")
    Path("final/summary.json").unlink()

    assert command("fit", "--resume", "final").code == 0
    assert Path("final/model/weights.safetensors").read_bytes() == written


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"data": {}, "trainer": {"max_steps": 50}}, "was counted in steps"),
        (
            {"data": {}, "trainer": {}, "lr_scheduler": {"class_path": "ReduceLROnPlateau"}},
            "was led by its validation",
        ),
    ],
)
def test_what_cannot_be_repeated_is_refused(tmp_path: Path, settings: dict, sentence: str):
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "summary.json").write_text("{}")

    with pytest.raises(UserError, match=sentence):
        final_words(Run(tmp_path))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--recipe", "last_stages"), "--recipe cannot be given with --final"),
        (("--folds", 5), "--folds cannot be given with --final"),
        (("--trainer.max_epochs", 5), "--trainer.max_epochs cannot be given with --final"),
    ],
)
def test_it_follows_the_recipe_of_its_parent(parent: Path, command, words: tuple, sentence: str):
    code, _, err = command("fit", "--final", parent, *words)

    assert (code, err.count("\n")) == (2, 1)
    assert sentence in err


def test_a_run_that_is_not_complete_cannot_be_repeated(parent: Path, command):
    (parent / "summary.json").unlink()

    assert command("fit", "--final", parent).err == (
        f"resnet-tl: {parent} has not chosen how long to train, for its training did not end; go on with: "
        f"resnet-tl fit --resume {parent}\n"
    )


@pytest.mark.slow
def test_a_solved_head_is_solved_with_the_penalty_that_was_chosen(blobs: Path, command):
    flags = ("--recipe", "freeze_backbone", "--data.root", blobs, "--run", "parent")
    assert command("fit", *flags).code == 0
    assert command("fit", "--final", "parent", "--run", "final").code == 0

    run, best = Run.open("final"), Run.open("parent").summary["best_epoch"]
    assert run.history["epoch"].tolist() == list(range(1, best + 1))
    assert "val_loss" not in pd.read_csv("final/metrics.csv")
    assert run.final_of["best_epoch"] == best
