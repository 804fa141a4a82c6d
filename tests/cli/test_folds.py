"""`fit --folds`: a run of runs, in which each image is judged by the model that has not seen it."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pandas as pd
import pytest
import yaml

from resnet_tl.cli.main import main
from resnet_tl.evaluation.metrics import compute_metrics
from resnet_tl.run import Run
from resnet_tl.training.classifier import ImageClassifier
from tests.cli.test_resume import remains, signal_in

FLAGS = ("--recipe", "freeze_backbone", "--folds", 2, "--trainer.max_epochs", 2, "--data.batch_size", 8)
WHOLE = ("summary.json", "predictions/val.csv", "predictions/test.csv", "recipe.yaml", "data/index.csv")


def remains_of_all(run: Path) -> dict[str, object]:
    """What of a run of folds must not depend on an interruption."""
    whole = {name: (run / name).read_bytes() for name in WHOLE if name != "recipe.yaml"}
    recipe = (run / "recipe.yaml").read_text().splitlines()[1:]
    return whole | {"recipe": recipe} | {str(k): remains(run / "folds" / str(k)) for k in (1, 2)}


@pytest.fixture(scope="module")
def folds(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folds of two epochs on the blobs, whose val split takes part."""
    run = tmp_path_factory.mktemp("folds") / "runs" / "blobs-1"
    assert main([str(word) for word in ("fit", *FLAGS, "--data.root", blobs, "--run", run)]) == 0
    return run


def test_every_image_but_those_of_the_test_is_judged_once_by_the_fold_that_did_not_see_it(folds: Path):
    run = Run.open(folds)
    table = run.predictions("val")

    assert len(table) == table["id"].nunique() == 37
    for number, fold in enumerate(run.folds, 1):
        own = fold.predictions("val")
        assert sorted(own["id"]) == table.loc[table["fold"] == number, "id"].tolist()
        index = pd.read_csv(fold.path / "data" / "index.csv")
        assert set(index.loc[index["split"] == "val", "path"]) == set(own["id"])
        assert (index["split"] == "test").sum() == 7
    index = pd.read_csv(folds / "data" / "index.csv")
    assert index["split"].value_counts().to_dict() == {"val": 37, "test": 7}


def test_its_numbers_are_those_of_the_table_and_of_the_mean_of_the_models(folds: Path):
    run = Run.open(folds)
    summary = run.summary

    assert summary["metrics"]["val"] == pytest.approx(compute_metrics(run.predictions("val")))
    assert summary["metrics"]["test"] == pytest.approx(compute_metrics(run.predictions("test")))
    values = [fold.summary["metrics"]["val"]["loss"] for fold in run.folds]
    assert summary["spread"]["val"]["loss"]["mean"] == pytest.approx(sum(values) / 2)
    low, high = summary["intervals"]["val"]["loss"]
    assert low <= summary["metrics"]["val"]["loss"] <= high
    assert run.history["epoch"].tolist() == [1, 2]
    assert run.metrics.loc["val", "images"] == 37
    assert "2 folds, validation accuracy" in repr(run)
    assert run._repr_html_()
    spent = run.environment["seconds"]
    assert all(fold.environment["seconds"]["start-up"] > 0 for fold in run.folds)
    assert spent["files"] > sum(fold.environment["seconds"]["files"] for fold in run.folds)  # and those of the whole


def test_the_recipe_of_a_fold_alone_repeats_it(folds: Path, command):
    recipe = yaml.safe_load((folds / "folds" / "2" / "recipe.yaml").read_text())
    assert (recipe["data"]["folds"], recipe["data"]["fold"]) == (2, 2)

    assert command("fit", "--recipe", folds / "folds" / "2" / "recipe.yaml", "--run", "again").code == 0

    again, first = remains(Path("again")), remains(folds / "folds" / "2")
    assert {**again, "recipe": ""} == {**first, "recipe": ""}


def test_the_recipe_of_the_run_says_how_many_and_why(folds: Path):
    text = (folds / "recipe.yaml").read_text()
    recipe = yaml.safe_load(text)
    assert (recipe["data"]["folds"], recipe["data"]["fold"]) == (2, None)
    assert "# data.augmentation was left to the program" in text


@pytest.mark.parametrize(
    ("method", "after"),
    [
        pytest.param("training_step", 7, marks=pytest.mark.slow),
        ("training_step", 2),
        pytest.param("on_train_end", 0, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_goes_on_with_the_fold_that_was_not_complete(
    folds: Path, blobs: Path, command, monkeypatch, method: str, after: int
):
    signal_in(monkeypatch, method, after, signal.SIGTERM, ImageClassifier)
    outcome = command("fit", *FLAGS, "--data.root", blobs)
    assert outcome.code == 143
    assert outcome.err.endswith("go on with: resnet-tl fit --resume runs/freeze_backbone-1\n")

    outcome = command("fit", "--resume", "runs/freeze_backbone-1")
    assert outcome.code == 0
    assert ("Fold 1 of 2" in outcome.out) == (after < 6)
    assert remains_of_all(Path("runs/freeze_backbone-1")) == remains_of_all(folds)
    assert "nothing to resume" in command("fit", "--resume", "runs/freeze_backbone-1").out


def test_a_run_that_lacks_its_summary_alone_writes_it_again(folds: Path, command):
    shutil.copytree(folds, "copy")
    Path("copy/summary.json").unlink()
    for words in (("validate", "copy"), ("predict", "copy", folds / "data")):
        assert command(*words).err.endswith("are trained; go on with: resnet-tl fit --resume copy\n")

    assert command("fit", "--resume", "copy").code == 0
    assert Path("copy/summary.json").read_bytes() == (folds / "summary.json").read_bytes()


def test_validation_again_gives_the_same_table_by_the_bundles(folds: Path, command):
    outcome = command("validate", folds, "-o", "val.csv")

    assert outcome.code == 0
    assert outcome.out.split("\n")[0].strip() == "out of fold"
    again, kept = pd.read_csv("val.csv"), pd.read_csv(folds / "predictions" / "val.csv")
    pd.testing.assert_frame_equal(again, kept)


def test_the_models_are_averaged_on_images_that_none_has_seen_alone(folds: Path, blobs: Path, command, caplog):
    outcome = command("validate", folds, "--average", "geometric")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "--average has no meaning for images that one fold each has not seen" in outcome.err

    kept = pd.read_csv(folds / "predictions" / "test.csv")
    assert command("test", folds, "-o", "test.csv").code == 0
    pd.testing.assert_frame_equal(pd.read_csv("test.csv"), kept)
    assert command("test", folds, "--average", "geometric", "-o", "other.csv").code == 0
    assert not pd.read_csv("other.csv").equals(kept)

    assert command("validate", folds, "--root", blobs / "train").code == 0
    assert "was trained on 24 of these 24 images" in caplog.text


def test_runs_of_folds_are_compared_on_all_images(folds: Path, command):
    shutil.copytree(folds, "copy")
    text = (folds / "recipe.yaml").read_text()
    Path("copy/recipe.yaml").write_text(text.replace("max_epochs: 2", "max_epochs: 3"))
    outcome = command("compare", folds, "copy")

    assert outcome.code == 0
    assert "37 validation images of 3 classes" in outcome.out
    outcome = command("compare", folds, folds / "folds" / "1")
    assert outcome.code == 2
    assert "was judged by folds, on all of its images: train both with --folds" in outcome.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--folds", 1), "data.folds is 1; it must be 2 or more"),
        (("--folds", "x"), "it must be a whole number"),
        (("--folds", 14), "data.folds is 14, but the class 'green' has 12 images: give 12 or fewer"),
        (("--data.fold", 2), "data.fold is 2, but data.folds is None"),
        (("--folds", 3, "--data.fold", 4), "data.fold is 4, but data.folds is 3"),
        (("--data.final", "true", "--folds", 3, "--data.fold", 1), "leave out data.fold"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(blobs: Path, command, words: tuple, sentence: str):
    code, _, err = command("fit", "--recipe", "freeze_backbone", "--data.root", blobs, *words)

    assert (code, err.count("\n")) == (2, 1)
    assert sentence in err
    assert not Path("runs").exists() or not any(Path("runs").iterdir())


def test_an_interrupted_run_of_folds_keeps_its_processes(folds: Path, command):
    shutil.copytree(folds, "copy")
    for name in ("copy/summary.json", "copy/folds/2/summary.json"):
        Path(name).unlink()
    facts = json.loads(Path("copy/environment.json").read_text())
    Path("copy/environment.json").write_text(json.dumps({**facts, "processes": 2}))

    outcome = command("fit", "--resume", "copy")
    assert outcome.code == 2
    assert "was begun with --trainer.devices 2" in outcome.err
