"""`resnet-tl sweep`: trials are ordinary runs, a sweep goes on where it stopped, the best is not praised too much."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path

import optuna
import pandas as pd
import pytest
import yaml

from resnet_tl.cli.main import main
from resnet_tl.run import Run
from resnet_tl.training.classifier import ImageClassifier
from resnet_tl.training.sweep.trials import Trials
from tests.cli.test_resume import remains, signal_in

SPACE = ("--space", "optimizer.lr=1e-4..1e-1:log", "model.label_smoothing=0..0.2")
FLAGS = ("freeze_backbone", *SPACE, "--trials", 2, "--trainer.max_epochs", 2, "--data.batch_size", 8)


def remains_of_all(sweep: Path) -> dict[str, object]:
    """What of a sweep must not depend on an interruption: all but times."""
    trials = pd.read_csv(sweep / "trials.csv").drop(columns="seconds").to_csv()
    whole = {"trials": trials, "summary": (sweep / "summary.json").read_bytes()}
    return whole | {run.name: remains(run) for run in sorted((sweep / "trials").iterdir())}


@pytest.fixture(scope="module")
def sweep(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trials of two epochs on the blobs, of which no other test has kept features."""
    folder = tmp_path_factory.mktemp("sweep") / "sweep"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESNET_TL_CACHE", str(tmp_path_factory.mktemp("cache")))
        assert main([str(word) for word in ("sweep", *FLAGS, "--data.root", blobs, "--run", folder)]) == 0
    return folder


def test_each_trial_is_an_ordinary_run_with_its_own_settings(sweep: Path, blobs: Path, command):
    table = pd.read_csv(sweep / "trials.csv")
    assert table["trial"].tolist() == [1, 2]
    assert table["state"].tolist() == ["complete"] * 2
    assert table["optimizer.lr"].is_unique
    for row in table.to_dict("records"):
        run = Run.open(sweep / "trials" / str(row["trial"]))
        assert run.recipe["optimizer"]["init_args"]["lr"] == row["optimizer.lr"]
        assert run.recipe["model"]["label_smoothing"] == row["model.label_smoothing"]
        assert run.recipe["seed"] == 0
        assert run.summary["metrics"]["val"]["loss"] == row["val_loss"]

    assert command("predict", sweep / "trials" / "1", blobs / "test" / "red").code == 0
    outcome = command("compare", *sorted((sweep / "trials").iterdir()))
    assert outcome.code == 0
    assert "13 validation images of 3 classes" in outcome.out
    assert command("fit", "--recipe", sweep / "trials" / "2" / "recipe.yaml", "--run", "again").code == 0
    assert {**remains(Path("again")), "recipe": ""} == {**remains(sweep / "trials" / "2"), "recipe": ""}


def test_the_best_is_the_one_with_the_best_monitored_number_and_is_expected_to_be_worse(sweep: Path):
    table, summary = pd.read_csv(sweep / "trials.csv"), json.loads((sweep / "summary.json").read_text())

    best = table.loc[table["val_loss"].idxmin()]
    assert (summary["best_trial"], summary["value"]) == (best["trial"], best["val_loss"])
    assert summary["trials"] == {"complete": 2, "pruned": 0, "failed": 0}
    loss = summary["expected"]["loss"]
    assert loss["measured"] == pytest.approx(best["val_loss"])
    assert loss["value"] >= loss["measured"]
    assert loss["low"] < loss["value"] < loss["high"]


def test_the_second_trial_finds_the_features_of_the_first(sweep: Path):
    first, second = (Run(sweep / "trials" / number).environment["seconds"] for number in "12")

    assert first["activations"] > 0
    assert second.get("activations", 0) < first["activations"] / 2


def test_the_end_shows_the_best_first_and_says_what_it_is_worth(sweep: Path, command):
    outcome = command("sweep", "--resume", sweep)

    assert outcome.code == 0
    assert "Trial 1 of" not in outcome.out  # nothing is trained again
    lines = outcome.out.splitlines()
    best = json.loads((sweep / "summary.json").read_text())["best_trial"]
    header = next(place for place, line in enumerate(lines) if line.startswith("trial  optimizer.lr"))
    assert lines[header + 1].split()[0] == str(best)
    assert f"Best: trial {best}, validation loss " in outcome.out
    assert (
        "Chosen among 2 trials on these same images, it looks better than it is. Expected on new ones: loss"
        in outcome.out
    )
    assert "On the 7 test images, which have chosen nothing: accuracy" in outcome.out
    assert f"resnet-tl fit --recipe {sweep}/trials/{best}/recipe.yaml" in outcome.out
    assert sum(f"resnet-tl predict {sweep}/trials/{best} " in line for line in lines) == 1


@pytest.mark.parametrize(
    ("method", "after"),
    [("training_step", 8), pytest.param("on_train_end", 1, marks=pytest.mark.slow)],
)
def test_an_interrupted_sweep_ends_as_one_that_was_not(
    sweep: Path, blobs: Path, command, monkeypatch, method: str, after: int
):
    signal_in(monkeypatch, method, after, signal.SIGTERM, ImageClassifier)
    outcome = command("sweep", *FLAGS, "--data.root", blobs)
    assert outcome.code == 143
    assert outcome.err.endswith("go on with: resnet-tl sweep --resume runs/freeze_backbone-sweep-1\n")
    assert not Path("runs/freeze_backbone-sweep-1/summary.json").exists()

    outcome = command("sweep", *FLAGS, "--data.root", blobs)  # the same command goes on
    assert outcome.code == 0
    assert "Trial 1 of 2" not in outcome.out
    assert "Trial 2 of 2" in outcome.out
    assert remains_of_all(Path("runs/freeze_backbone-sweep-1")) == remains_of_all(sweep)


@pytest.mark.slow
def test_whatever_a_kill_leaves_is_done_again_or_not_at_all(sweep: Path, blobs: Path, command, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:  # between the end of the first fit and its entry in the file
        patch.setattr(Trials, "finish", killed)
        with pytest.raises(Killed):
            command("sweep", *FLAGS, "--data.root", blobs, "--run", "killed")
    begun = Path("killed/trials/2")
    begun.mkdir()
    (begun / "environment.json").write_text("{}")  # of the second nothing else was written

    outcome = command("sweep", "--resume", "killed")
    assert outcome.code == 0
    assert remains_of_all(Path("killed")) == remains_of_all(sweep)


@pytest.mark.slow
def test_a_sweep_is_made_longer_by_its_number_of_trials(sweep: Path, command, monkeypatch):
    shutil.copytree(sweep, "copy")
    with monkeypatch.context() as patch:
        signal_in(patch, "training_step", 1, signal.SIGTERM, ImageClassifier)
        assert command("sweep", "--resume", "copy", "--trials", 3).code == 143
    assert not Path("copy/summary.json").exists()  # it was of two

    outcome = command("sweep", "--resume", "copy")
    assert outcome.code == 0
    assert "Trial 3 of 3" in outcome.out
    assert pd.read_csv("copy/trials.csv")["trial"].tolist() == [1, 2, 3]
    assert pd.read_csv("copy/trials.csv").head(2).to_csv() == pd.read_csv(sweep / "trials.csv").to_csv()


@pytest.mark.slow
def test_a_trial_that_is_worse_than_half_of_the_others_is_pruned_and_is_a_whole_run(blobs: Path, command, monkeypatch):
    pruner = optuna.pruners.MedianPruner(n_startup_trials=1)  # of a test that need not wait for five trials
    monkeypatch.setattr(optuna.pruners, "MedianPruner", lambda: pruner)
    words = ("freeze_backbone", "--space", "optimizer.lr=0.05,1e-7", "--trainer.max_epochs", 3, "--data.root", blobs)
    outcome = command("sweep", *words, "--seed", 2, "--run", "sweep")

    assert outcome.code == 0
    assert "The space holds 2 different settings, so there are 2 trials." in outcome.out
    assert "pruned: after 1 of 3 epochs it was worse than half of the complete trials before it" in outcome.out
    table = pd.read_csv("sweep/trials.csv")
    assert table["optimizer.lr"].tolist() == [0.05, 1e-7]
    assert table["state"].tolist() == ["complete", "pruned"]
    assert table["epochs"].tolist() == [3, 1]
    assert command("predict", "sweep/trials/2", blobs / "test" / "red").code == 0
    recipe = yaml.safe_load(Path("sweep/trials/2/recipe.yaml").read_text())
    assert (recipe["model"]["stop_after"], recipe["trainer"]["max_epochs"]) == (1, 3)
    assert command("fit", "--recipe", "sweep/trials/2/recipe.yaml", "--run", "again").code == 0
    assert {**remains(Path("again")), "recipe": ""} == {**remains(Path("sweep/trials/2")), "recipe": ""}


def test_a_trial_that_fails_is_told_of_and_the_others_go_on(blobs: Path, command):
    words = ("freeze_backbone", "--space", "optimizer.lr=0.01,1e20", "--trainer.max_epochs", 2, "--data.root", blobs)
    outcome = command("sweep", *words, "--data.batch_size", 8, "--run", "sweep")

    assert outcome.code == 0
    assert outcome.out.count("failed: The training has diverged in epoch") == 2  # where it fails, and at the end
    table = pd.read_csv("sweep/trials.csv").set_index("optimizer.lr")
    assert table["state"].to_dict() == {0.01: "complete", 1e20: "failed"}
    assert "has diverged" in table.loc[1e20, "error"]
    assert "It is the only one that came to its end" in outcome.out


def test_where_all_trials_fail_the_first_ones_sentence_is_the_error(blobs: Path, command):
    words = ("freeze_backbone", "--space", "optimizer.lr=1e21,1e20", "--trainer.max_epochs", 2, "--data.root", blobs)
    outcome = command("sweep", *words, "--data.batch_size", 8, "--run", "sweep")

    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "None of the 2 trials came to its end. The first: The training has diverged in epoch" in outcome.err
    assert not Path("sweep/summary.json").exists()
    assert pd.read_csv("sweep/trials.csv")["state"].tolist() == ["failed"] * 2


RECIPE = ("freeze_backbone",)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "A sweep needs a recipe, and it comes first"),
        (("--space", "model.mode=head,all"), "A sweep needs a recipe"),
        (("freeze_bakbone", "--space", "model.mode=head,all"), "There is no recipe 'freeze_bakbone'"),
        (RECIPE, "A sweep needs --space KEY=VALUES"),
        ((*RECIPE, "--space", "optimizer.rl=0.1,0.2"), "AdamW has no setting 'rl'"),
        ((*RECIPE, "--space", "model.mod=head,all"), "There is no setting '--model.mod'. Did you mean '--model.mode'?"),
        ((*RECIPE, "--space", "model.mode=head,most"), "--model.mode is 'most'; it must be one of"),
        ((*RECIPE, "--space", "trainer.max_epochs=1..x"), "is no range"),
        ((*RECIPE, "--space", "data.batch_size=1.5..2.5"), "--data.batch_size is '1.5'; it must be a whole number"),
        ((*RECIPE, "--space", "data.root=a,b"), "it decides which images the trials are judged on"),
        ((*RECIPE, "--space", "data.relabel=a.csv,b.csv"), "it decides which images the trials are judged on"),
        ((*RECIPE, "--space", "seed=0..9"), "a better seed is luck"),
        ((*RECIPE, "--space", "model.monitor=val_loss,val_auroc"), "the trials are compared by it"),
        ((*RECIPE, "--space", "model.mode=head,all", "--model.mode", "all"), "and --space varies it as well"),
        ((*RECIPE, "--space", "model.mode=head,all", "--folds", 3), "--folds cannot be given to a sweep"),
        ((*RECIPE, "--space", "model.mode=head,all", "--data.folds=3"), "--data.folds cannot be given to a sweep"),
        ((*RECIPE, "--space", "model.mode=head,all", "--forecast"), "--forecast cannot be given to a sweep"),
        ((*RECIPE, "--space", "model.mode=head,all", "--data.rot", "x"), "There is no setting '--data.rot'"),
        ((*RECIPE, "--space", "model.mode=head,all", "--data.root", "nowhere"), "nowhere"),
        ((*RECIPE, "--space", "model.mode=head,all", "--trials", 0), "'0' is no whole number of 1 or more"),
        (("--resume", "nowhere"), "nowhere is not a sweep: there is no such folder"),
        (("--resume", "nowhere", "--space", "model.mode=head,all"), "--space cannot be given with --resume"),
        (("--resume", "nowhere", "--data.root", "x"), "--data.root cannot be given with --resume"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(command, blobs: Path, words: tuple, sentence: str):
    if "--data.root" not in words and "--resume" not in words and words[:1] == RECIPE:
        words = (*words, "--data.root", blobs)
    outcome = command("sweep", *words)

    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert sentence in outcome.err
    assert not Path("runs").exists() or not any(Path("runs").iterdir())


def test_images_without_validation_are_refused(command, blobs: Path):
    words = ("freeze_backbone", "--space", "model.mode=head,all", "--data.root", blobs / "train")
    outcome = command("sweep", *words, "--data.val_fraction", 0)

    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "val_fraction" in outcome.err


def test_a_folder_of_another_sweep_is_left_alone(sweep: Path, blobs: Path, command):
    before = remains_of_all(sweep)
    words = ("freeze_backbone", "--space", "model.mode=head,all", "--data.root", blobs, "--run", sweep)
    outcome = command("sweep", *words)

    assert outcome.code == 2
    assert "holds a sweep that was begun otherwise; choose another --run" in outcome.err
    assert remains_of_all(sweep) == before


def test_a_recipe_that_has_changed_is_refused(blobs: Path, command):
    assert command("recipes", "copy", "freeze_backbone", "mine.yaml").code == 0
    words = ("mine.yaml", "--space", "model.class_weights=equal,balanced", "--data.root", blobs, "--trials", 1)
    assert command("sweep", *words).code == 0
    Path("mine.yaml").write_text(Path("mine.yaml").read_text() + "seed: 0\n")

    outcome = command("sweep", "--resume", "runs/mine-sweep-1", "--trials", 2)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "mine.yaml is not what it was when runs/mine-sweep-1 was begun with it" in outcome.err


def test_images_that_are_not_there_any_more_fail_no_trial(sweep: Path, blobs: Path, command):
    shutil.copytree(sweep, "copy")
    notes = Path("copy/sweep.json")
    notes.write_text(notes.read_text().replace(json.dumps(str(blobs)), '"photos"'))  # as from another folder

    outcome = command("sweep", "--resume", "copy", "--trials", 3)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "photos" in outcome.err
    assert pd.read_csv("copy/trials.csv")["state"].tolist() == ["complete"] * 2
    assert not Path("copy/trials/3").exists()


def test_a_sweep_whose_notes_are_damaged_is_refused(sweep: Path, command):
    shutil.copytree(sweep, "copy")
    Path("copy/sweep.json").write_text("{}")

    outcome = command("sweep", "--resume", "copy")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "sweep.json is damaged" in outcome.err


def test_without_optuna_one_sentence_says_what_to_install(blobs: Path, command, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    outcome = command("sweep", *FLAGS, "--data.root", blobs)

    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert 'pip install "resnet-tl[sweep]"' in outcome.err
    assert not Path("runs").exists()
