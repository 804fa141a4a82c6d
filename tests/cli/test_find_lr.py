"""`fit --find_lr` takes real steps, suggests a rate, writes a figure and a table, and makes no run."""

from pathlib import Path

import pandas as pd
import pytest

from resnet_tl.cli.find_lr import _others
from resnet_tl.training.rate_finder import SMALLEST

FLAGS = ("--model.network", "resnet20", "--model.weights", "none", "--data.image_size", "16", "--data.symmetry", "none")


def test_it_writes_and_says_what_it_found_and_makes_no_run(command, blobs: Path, tmp_path: Path):
    words = ("--recipe", "train_everything", "--data.root", blobs, *FLAGS, "--optimizer.lr", "0.5")
    code, out, err = command("fit", *words, "--find_lr")

    assert (code, err) == (0, "")
    rate = out.partition("Suggested learning rate: ")[2].partition(". In ")[0]
    assert 1e-6 < float(rate) < 1
    assert f"--optimizer.lr={rate}" in out
    assert "--optimizer.lr 0.5" not in out
    assert "--find_lr" not in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lr_finder.csv", "lr_finder.png"]
    table = pd.read_csv("lr_finder.csv")
    assert table["learning_rate"][0] == pytest.approx(SMALLEST)
    assert table["learning_rate"].is_monotonic_increasing


def test_the_command_that_it_shows_keeps_all_but_the_trial_and_the_rate():
    rest = ["fit", "--optimizer", "Adagrad", "--optimizer.lr_decay", "0.1"]

    assert _others([*rest, "--optimizer.lr", "0.5", "--find_lr"]) == rest
    assert _others([*rest, "--optimizer.lr=0.5", "--find_lr"]) == rest


def test_a_head_that_is_solved_has_no_rate(command, blobs: Path):
    code, _, err = command("fit", "--recipe", "freeze_backbone", "--data.root", blobs, "--find_lr")

    assert code == 2
    assert "this fit solves its head, which takes no learning rate" in err


@pytest.mark.slow
def test_the_head_alone_and_a_schedule_have_one(command, blobs: Path):
    for words in (
        ("freeze_backbone", "--model.head_solver", "optimizer"),
        ("lp_ft", *FLAGS, "--trainer.accumulate_grad_batches", "2"),
    ):
        code, out, err = command("fit", "--recipe", *words, "--data.root", blobs, "--find_lr")
        assert (code, err) == (0, "")
        assert "learning rate" in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("train_everything", "--forecast"), "--find_lr and --forecast are two trials: give one of them."),
        (("train_everything", "--trainer.fast_dev_run", "true"), "fast_dev_run is a trial by itself"),
        (("auto",), "--find_lr does not go with --recipe auto, whose plan"),
    ],
)
def test_what_does_not_go_with_it_is_refused(command, blobs: Path, tmp_path: Path, words: tuple, sentence: str):
    code, _, err = command("fit", "--recipe", *words, "--data.root", blobs, *FLAGS[:4], "--find_lr")

    assert code == 2
    assert sentence in err
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_found_before_the_work(command, blobs: Path, tmp_path: Path):
    (tmp_path / "lr_finder.csv").mkdir()
    code, _, err = command("fit", "--recipe", "train_everything", "--data.root", blobs, *FLAGS, "--find_lr")

    assert code == 2
    assert "lr_finder.csv is a folder" in err
