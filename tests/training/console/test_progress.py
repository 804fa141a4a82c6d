"""What a person sees of a fit."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from resnet_tl.training.classifier import ImageClassifier
from resnet_tl.training.console.progress import FitProgress

Fit = Callable[..., ImageClassifier]


def shown(fit: Fit, epochs: int | None = 2, *, terminal: bool = False, trainer=None, **settings) -> str:
    console = Console(file=io.StringIO(), width=100, force_terminal=terminal, force_interactive=terminal)
    fit(
        epochs,
        trainer={"callbacks": [FitProgress(console)], "enable_progress_bar": True, **(trainer or {})},
        **settings,
    )
    return console.file.getvalue()


def test_without_a_terminal_each_epoch_is_one_line(fit: Fit):
    lines = shown(fit, 3, mode="head").splitlines()

    epochs = [line for line in lines if line.startswith("epoch")]
    assert [line.split("  train")[0] for line in epochs] == ["epoch   1/3", "epoch   2/3", "epoch   3/3"]
    for word in ("train loss", "val loss", "val accuracy", "macro F1", "images/s"):
        assert all(word in line for line in epochs)
    assert "\x1b" not in "".join(lines)


def test_the_table_at_the_start_tells_what_trains(fit: Fit):
    text = shown(fit, schedule=[{"mode": "last_stages", "epochs": 1}, {"mode": "head"}], weights="default")

    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.split()}
    assert rows["stem"] == ["464", "frozen", "eval"]
    assert rows["stage2"][1:] == ["frozen", "eval"]
    assert rows["stage3"][1:] == ["yes", "train", "0.0003"]
    assert rows["head"] == ["195", "yes", "-", "0.003"]
    assert "weights: built-in resnet20_cifar10" in text


def test_a_stage_that_trains_in_a_later_phase_is_marked(fit: Fit):
    rows = shown(fit, schedule=[{"mode": "head", "epochs": 1}, {"mode": "all"}]).splitlines()

    assert [row.split()[-1] for row in rows if row.startswith("stage1")] == ["later"]


def test_a_terminal_gets_a_live_bar(fit: Fit):
    text = shown(fit, terminal=True, mode="head")

    assert "\x1b[" in text
    assert "epoch" in text


def test_an_epoch_without_validation_shows_no_old_numbers(fit: Fit):
    lines = shown(fit, 3, mode="head", trainer={"check_val_every_n_epoch": 2}).splitlines()

    assert ["val loss" in line for line in lines if line.startswith("epoch")] == [False, True, False]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_fit_that_counts_steps_shows_no_number_of_epochs(fit: Fit, terminal: bool):
    text = shown(fit, -1, terminal=terminal, mode="head", trainer={"max_steps": 5})

    assert "epoch   2  train loss" in text
    assert "/-1" not in text


def test_the_bar_is_put_away_when_the_fit_fails(fit: Fit):
    class Fails(FitProgress):
        def on_validation_start(self, trainer, pl_module) -> None:
            raise RuntimeError("out of luck")

    progress = Fails(Console(file=io.StringIO(), force_terminal=True))
    with pytest.raises(RuntimeError, match="out of luck"):
        fit(trainer={"callbacks": [progress], "enable_progress_bar": True, "num_sanity_val_steps": 0}, mode="head")

    assert progress.bar is None
