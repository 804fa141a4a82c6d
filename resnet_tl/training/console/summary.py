"""What the end of a fit says: how good the model is and how sure that is, where things are, and what to type next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from resnet_tl.evaluation.accuracy import Accuracy, number_rows, warning_lines
from resnet_tl.evaluation.uncertainty.calibration import calibration_line
from resnet_tl.evaluation.words import SPLITS, duration, metric_name, spread_text
from resnet_tl.run import Run
from resnet_tl.terminal import Screen, current, shortest
from resnet_tl.training.console.time_spent import time_table


def print_summary(run: Run, next_commands: Sequence[str], verbose: bool = False, screen: Screen | None = None) -> None:
    """Prints the numbers of a complete run's best checkpoint, what they are worth, and its files.

    `next_commands` is a command and perhaps lines about it; `verbose`: every part of the time, not the largest alone.
    """
    screen, summary, path = screen or current(), run.summary, shortest(run.path)
    parent, folds = run.final_of, summary.get("folds", [])
    screen.print()
    if parent:
        of_folds = "the folds chose (the middle one)" if "spread" in parent else "validation chose"
        screen.print(
            f"Trained on train and validation images together, to epoch {len(run.history)}, which {of_folds} in "
            f"{shortest(Path(parent['run']))}."
        )
        screen.print("These are the numbers of that run; this one has none:")
        _print_numbers(screen, parent)
        if summary["metrics"]:
            screen.print("And this one's on the test images, which it has not seen:")
    else:
        screen.print(_best(summary, len(run.history)))
    accuracies = _print_numbers(screen, summary) if summary["metrics"] else {}
    for line in warning_lines(accuracies):
        screen.print(line)
    if "val" in accuracies:
        screen.print(accuracies["val"].baseline())
        screen.print(accuracies["val"].wish())
    calibration = summary.get("calibration", {})
    if calibration.get("temperature", 1) != 1 and not folds:  # each fold has its own
        screen.print(calibration_line(calibration))
    screen.print()
    places = Table(box=None, show_header=False, pad_edge=False)
    places.add_column(no_wrap=True)
    places.add_column(overflow="fold")
    places.add_row("run", f"{path}")
    places.add_row("models" if folds else "model", f"{path}/folds/1 … {len(folds)}" if folds else f"{path}/model")
    for split, accuracy in accuracies.items():
        is_drawn = run.figure(f"mistakes_{split}").is_file()
        where = f"{path}/figures/mistakes_{split}.png" if is_drawn else "none"
        if is_drawn or accuracy.correct == accuracy.images:
            places.add_row("mistakes" if len(accuracies) == 1 else f"mistakes, {SPLITS[split]}", where)
    if run.report_file.is_file():
        places.add_row("report", f"{path}/{run.report_file.name}")
    screen.print(places)
    seconds, advice = run.environment["seconds"], run.environment["advice"]
    if verbose:
        screen.print(time_table(seconds))
        screen.print(advice)
    else:
        screen.print(f"Took {duration(sum(seconds.values()))}. {advice}")
    first, *rest = next_commands
    screen.print(f"Next: {first}", is_command=True)
    for line in rest:
        screen.print(line)


def _best(summary: Mapping[str, Any], epochs: int) -> str:
    """Which weights were kept."""
    monitor = metric_name(summary["monitor"])
    if "folds" in summary:
        best = [str(fold["best_epoch"] or "the last") for fold in summary["folds"]]
        return f"Best epochs of the {len(best)} folds: {', '.join(best)} of {epochs}, by {monitor}"
    return (
        f"Best epoch: {summary['best_epoch']} of {epochs}, by {monitor}"
        if summary["best_epoch"]
        else "The last weights"
    )


def _print_numbers(screen: Screen, summary: Mapping[str, Any]) -> dict[str, Accuracy]:
    """Prints the table of some metrics, over folds with their spread; gives the accuracies in it."""
    accuracies = {split: Accuracy.from_facts(facts) for split, facts in summary["accuracy"].items()}
    header, rows = number_rows(summary["metrics"], accuracies)
    if spread := summary.get("spread"):
        header, rows = _with_spread(header, rows, spread["val"])
    numbers = Table(*header, box=None, pad_edge=False)
    for row in rows:
        numbers.add_row(*row)
    screen.print(numbers)
    return accuracies


def _with_spread(
    header: list[str], rows: list[list[str]], spread: Mapping[str, Mapping[str, float]]
) -> tuple[list[str], list[list[str]]]:
    """The table with what one fold's model reaches beside what all say out of fold; a test is of their mean."""
    titles = ["", "out of fold", "each fold, mean ± sd", *(f"{title}, all models" for title in header[2:])]
    names = {metric_name(name): name for name in spread}
    cells = []
    for row in rows:
        name = names.get(row[0].partition(" [")[0])
        cells.append([*row[:2], spread_text(name, spread[name]["mean"], spread[name]["sd"]) if name else "", *row[2:]])
    return titles, cells
