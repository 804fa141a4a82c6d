"""What the end of a fit says: the best epoch, its numbers, where things are, and what to type next."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from resnet_tl.run import Run
from resnet_tl.training.console.time_spent import time_table

NAMES = {
    "loss": "loss (NLL, nats)",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "auroc": "AUROC",
    "top5_accuracy": "top-5 accuracy",
}


def print_summary(run: Run, console: Console | None = None) -> None:
    """Prints the numbers of the best checkpoint and the files of the run."""
    console = console or Console(width=None if sys.stdout.isatty() else 200, markup=False, emoji=False)
    summary, path = run.summary, shortest(run.path)
    splits = list(summary["metrics"])
    epoch = summary["best_epoch"]
    title = f"Best epoch: {epoch} (by {summary['monitor']}, {summary['monitor_mode']})" if epoch else "The last weights"
    console.print(title, highlight=False)
    numbers = Table("", *splits, box=None, pad_edge=False)
    for key, name in NAMES.items():
        values = [summary["metrics"][split].get(key) for split in splits]
        if any(value is not None for value in values):
            numbers.add_row(name, *("" if value is None else f"{value:.4f}" for value in values))
    console.print(numbers)
    places = Table(box=None, show_header=False, pad_edge=False)
    for name, file in (
        ("model", "model"),
        ("predictions", "predictions"),
        ("figures", "figures"),
        ("recipe", "recipe.yaml"),
    ):
        places.add_row(name, f"{path}/{file}")
    console.print(places)
    console.print(time_table(run.environment["seconds"]))
    console.print(run.environment["advice"], highlight=False, soft_wrap=True)
    console.print(f"Next: resnet-tl predict {path} IMAGES", highlight=False, soft_wrap=True)


def shortest(path: Path) -> str:
    """The path relative to the working folder when that is below it, else absolute."""
    absolute, here = path.resolve(), Path.cwd().resolve()
    return absolute.relative_to(here).as_posix() if absolute.is_relative_to(here) else str(path)
