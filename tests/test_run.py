from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from resnet_tl.errors import UserError
from resnet_tl.evaluation.predictions import prediction_table, write_predictions
from resnet_tl.run import Run, bundles_of, check_root


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run that has only begun: its recipe is written."""
    run = Run.create(tmp_path / "runs", "own")
    run.recipe_file.write_text("model:\n  mode: head\nseed: 1\n")
    return run


def test_runs_are_numbered_and_none_is_ever_reused(tmp_path: Path) -> None:
    made = [Run.create(tmp_path / "runs", name).path for name in ("own", "own", "other", "own")]
    assert [path.name for path in made] == ["own-1", "own-2", "other-1", "own-3"]
    assert all(path.is_dir() for path in made)


def test_runs_that_begin_at_the_same_time_get_folders_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: Run.create(tmp_path, "own").path, range(24)))
    assert len(set(made)) == 24


def test_a_run_may_have_a_folder_of_a_given_name(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("new/deep", "empty"):
        assert Run.create_at(tmp_path / name).path.is_dir()


def test_a_folder_in_use_or_a_file_is_never_overwritten(tmp_path: Path) -> None:
    film = tmp_path / "photos" / "films" / ".movie.mkv.part"
    film.parent.mkdir(parents=True)
    film.touch()
    (tmp_path / "photos" / "1.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="photos is not empty; a run needs a folder of its own: choose another --run"):
        Run.create_at(tmp_path / "photos")
    with pytest.raises(UserError, match="films is not empty"):
        Run.create_at(film.parent)
    assert film.is_file()
    with pytest.raises(UserError, match=r"1.jpg is a file; a run needs a folder of its own: choose another --run"):
        Run.create_at(tmp_path / "photos" / "1.jpg")


def test_a_run_is_opened_and_its_files_have_names(run: Run) -> None:
    opened = Run.open(str(run.path))
    assert opened.recipe == {"model": {"mode": "head"}, "seed": 1}
    names = [opened.metrics_file, opened.checkpoints, opened.predictions_file("val"), opened.figure("curves")]
    assert [path.relative_to(run.path).as_posix() for path in names] == [
        "metrics.csv",
        "checkpoints",
        "predictions/val.csv",
        "figures/curves.png",
    ]


def test_what_is_no_run_is_said_with_the_nearest(run: Run) -> None:
    root = run.path.parent
    (root / "own-7").mkdir()
    with pytest.raises(UserError) as caught:
        Run.open(root / "own-7")
    assert str(caught.value) == f"{root / 'own-7'} is not a run: it has no recipe.yaml. Did you mean 'own-1'?"
    with pytest.raises(UserError, match="is not a run: "):
        Run.open(root / "missing" / "run")


def test_what_a_stopped_run_has_not_written_is_said_in_one_sentence(run: Run) -> None:
    for name, sentence in (
        ("summary", "has no summary.json: its training did not end (resnet-tl fit --resume {path} goes on with it)."),
        ("history", "has no metrics.csv: its first epoch did not end."),
        ("data_facts", "has no data/facts.json: its training did not begin."),
        ("bundle", "has no model yet, for its training did not end; go on with: resnet-tl fit --resume {path}"),
    ):
        with pytest.raises(UserError) as caught:
            getattr(run, name)
        assert str(caught.value) == f"{run.path} {sentence.format(path=run.path)}"
    with pytest.raises(UserError, match="has no predictions for the split 'val'"):
        run.predictions()


def test_what_a_run_has_written_is_read_back(run: Run) -> None:
    (run.path / "data").mkdir()
    (run.path / "data" / "facts.json").write_text('{"root": "/é"}', encoding="utf-8")
    (run.path / "summary.json").write_text(json.dumps({"best_epoch": 2}))
    run.metrics_file.write_text("epoch,val_accuracy\n1,0.5\n2,0.75\n")
    table = prediction_table(["a"], ["/a"], np.array([0]), np.array([[1.0, 0.0]]), ("ant", "bee"))
    write_predictions(table, run.predictions_file("val"))
    assert run.data_facts == {"root": "/é"}
    assert run.summary == {"best_epoch": 2}
    assert run.history["val_accuracy"].tolist() == [0.5, 0.75]
    assert run.predictions().equals(table)


def test_a_root_that_cannot_be_written_to_is_said_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "runs"):
        with pytest.raises(UserError, match=r"Runs cannot be written to .*file.*; choose another --run"):
            check_root(root)
    check_root(tmp_path / "new")
    assert (tmp_path / "new").is_dir()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_root_without_permission_is_said_before_training(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    with pytest.raises(UserError, match="permission denied; choose another --run"):
        check_root(tmp_path / "locked")


def test_the_models_of_a_path_are_its_own_or_those_of_its_folds(run: Run) -> None:
    assert bundles_of(run.path) == [run.path]  # which says that its training did not end
    (run.path / "model").mkdir()
    (run.path / "model" / "model.json").write_text("{}")
    assert bundles_of(run.path) == bundles_of(str(run.path / "model")) == [run.path / "model"]

    for number in ("10", "9"):
        (run.path / "folds" / number / "model").mkdir(parents=True)
        (run.path / "folds" / number / "model" / "model.json").write_text("{}")
    with pytest.raises(UserError, match="not all of its folds are trained; go on with: resnet-tl fit --resume"):
        bundles_of(run.path)
    (run.path / "summary.json").write_text("{}")
    assert bundles_of(run.path) == [run.path / "folds" / number / "model" for number in ("9", "10")]
