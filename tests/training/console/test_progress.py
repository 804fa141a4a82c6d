"""What a person sees of a fit."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest
from rich.console import Console

from resnet_tl.training.classifier import ImageClassifier
from resnet_tl.training.console.progress import FitProgress, epoch_columns

Fit = Callable[..., ImageClassifier]
TITLES = ["epoch", "training loss", "validation loss", "validation accuracy", "images/s", "best"]


def epoch_lines(lines: list[str]) -> list[str]:
    """The titles and a line for each epoch; a slow machine may say more between them."""
    return [line for line in lines if line.startswith("epoch") or re.match(r" +\d+(/\d+)? ", line)]


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

    header, *epochs = epoch_lines(lines)
    assert re.split(r"  +", header) == TITLES
    assert [line.split()[0] for line in epochs] == ["1/3", "2/3", "3/3"]
    assert all(re.fullmatch(r" +\d/3( +\d\.\d{3}){2} +\d+\.\d % +[\d,]+( +\*)?", line) for line in epochs)
    assert max(map(len, [header, *epochs])) < 80
    assert "\x1b" not in "".join(lines)


def test_a_mark_shows_each_epoch_that_is_the_best_so_far(fit: Fit, monkeypatch):
    losses = iter([0.9, 1.0, 0.9, 0.7])

    def measured(model: ImageClassifier, split: str) -> None:
        finish(model, split)
        model.numbers[split]["loss"] = next(losses)

    finish = ImageClassifier._finish_evaluation
    monkeypatch.setattr(ImageClassifier, "_finish_evaluation", measured)

    lines = shown(fit, 4, mode="head", trainer={"num_sanity_val_steps": 0}).splitlines()

    assert [line.endswith("*") for line in epoch_lines(lines)[1:]] == [True, False, False, True]


def test_what_is_monitored_has_a_column_and_narrow_terminals_do_without_others():
    columns = epoch_columns("val_balanced_accuracy", 100, 80)
    titles = [title for title, _ in columns.values()]
    assert titles == ["epoch", "validation accuracy", "validation balanced accuracy", "best"]
    assert list(epoch_columns("val_loss", 3, 40)) == ["epoch", "val_loss", "best"]
    assert list(epoch_columns("val_a_metric_with_a_name_that_is_longer_than_most", 3, 40))[0::2] == ["epoch", "best"]


def test_the_table_at_the_start_tells_what_trains(fit: Fit):
    text = shown(fit, schedule=[{"mode": "last_stages", "epochs": 1}, {"mode": "head"}], weights="default")

    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.split()}
    assert rows["stem"] == ["(first", "layers)", "464", "frozen"]
    assert rows["stage2"][1:] == ["frozen"]
    assert rows["stage3"][1:] == ["yes", "0.003"]
    assert rows["head"] == ["195", "yes", "0.003"]
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

    assert [line.count("%") for line in epoch_lines(lines)[1:]] == [0, 1, 0]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_fit_that_counts_steps_shows_no_number_of_epochs(fit: Fit, terminal: bool):
    text = shown(fit, -1, terminal=terminal, mode="head", trainer={"max_steps": 5})

    assert re.search(r" {4}2 +\d\.\d{3} ", text)
    assert "/-1" not in text


def test_the_bar_is_put_away_when_the_fit_fails(fit: Fit):
    class Fails(FitProgress):
        def on_validation_start(self, trainer, pl_module) -> None:
            raise RuntimeError("out of luck")

    progress = Fails(Console(file=io.StringIO(), force_terminal=True))
    with pytest.raises(RuntimeError, match="out of luck"):
        fit(trainer={"callbacks": [progress], "enable_progress_bar": True, "num_sanity_val_steps": 0}, mode="head")

    assert progress.task is None
    assert "\x1b[?25h" in progress.screen.console.file.getvalue().rpartition("\x1b[?25l")[2]  # the cursor shows again


def test_a_resumed_fit_knows_the_best_epoch_of_before():
    before, after = FitProgress(), FitProgress()
    assert before._is_best(0.5, "min")

    after.load_state_dict(before.state_dict())

    assert not after._is_best(0.5, "min")
    assert not after._is_best(float("nan"), "min")
    assert after._is_best(0.4, "min")
