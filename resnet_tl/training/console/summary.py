"""What the end of a fit says: how good the model is and how sure that is, where things are, and what to type next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from resnet_tl.evaluation.accuracy import Accuracy, number_rows, warning_lines
from resnet_tl.evaluation.words import SPLITS, duration, metric_name
from resnet_tl.run import Run
from resnet_tl.terminal import Screen, current
from resnet_tl.training.console.time_spent import time_table


def print_summary(run: Run, next_commands: Sequence[str], verbose: bool = False, screen: Screen | None = None) -> None:
    """Prints the numbers of a complete run's best checkpoint, what they are worth, and its files.

    `next_commands` is a command and perhaps lines about it; `verbose`: every part of the time, not the largest alone.
    """
    screen, summary, path = screen or current(), run.summary, shortest(run.path)
    accuracies = {split: Accuracy.from_facts(facts) for split, facts in summary["accuracy"].items()}
    epoch, epochs = summary["best_epoch"], len(run.history)
    best = f"Best epoch: {epoch} of {epochs}, by {metric_name(summary['monitor'])}"
    screen.print()
    screen.print(best if epoch else "The last weights")
    header, rows = number_rows(summary["metrics"], accuracies)
    numbers = Table(*header, box=None, pad_edge=False)
    for row in rows:
        numbers.add_row(*row)
    screen.print(numbers)
    for line in warning_lines(accuracies):
        screen.print(line)
    if "val" in accuracies:
        screen.print(accuracies["val"].baseline())
        screen.print(accuracies["val"].wish())
    screen.print()
    places = Table(box=None, show_header=False, pad_edge=False)
    places.add_column(no_wrap=True)
    places.add_column(overflow="fold")
    places.add_row("run", f"{path}")
    places.add_row("model", f"{path}/model")
    for split, accuracy in accuracies.items():
        is_drawn = run.figure(f"mistakes_{split}").is_file()
        where = f"{path}/figures/mistakes_{split}.png" if is_drawn else "none"
        if is_drawn or accuracy.correct == accuracy.images:
            places.add_row("mistakes" if len(accuracies) == 1 else f"mistakes, {SPLITS[split]}", where)
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


def shortest(path: Path) -> str:
    """The path relative to the working folder when that is below it, else absolute."""
    absolute, here = path.resolve(), Path.cwd().resolve()
    return absolute.relative_to(here).as_posix() if absolute.is_relative_to(here) else str(path)
