"""`fit --find_lr`: what it does not go with, and what it shows and writes."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_tl.errors import UserError
from resnet_tl.evaluation.rate_test import BELOW, draw_rates, rate_table, suggest, write_rates
from resnet_tl.files import check_target
from resnet_tl.terminal import current

if TYPE_CHECKING:
    from resnet_tl.training.rate_finder import RateFinder

FIGURE, TABLE = Path("lr_finder.png"), Path("lr_finder.csv")


def check_find(settings: Any, solver: str) -> None:
    """Raises UserError for settings of a fit that leave no rate to find, before any work."""
    if solver == "lbfgs":
        raise UserError(
            "--find_lr finds nothing here: this fit solves its head, which takes no learning rate. Leave it out, or "
            "train the head in steps by --model.head_solver optimizer."
        )
    if settings.forecast:
        raise UserError("--find_lr and --forecast are two trials: give one of them.")
    for target in (FIGURE, TABLE):
        check_target(target)


def show_rates(finder: RateFinder) -> None:
    """Writes the figure and the table into the current folder, and says what they suggest and how to take it."""
    rates, losses = finder.rates[: len(finder.losses)], finder.losses
    table, rate, console = rate_table(rates, losses), suggest(rates, losses), current()
    write_rates(table, TABLE)
    draw_rates(table, rate, FIGURE)
    tried = f"{len(set(rates))} steps with rates from {rates[0]:g} to {rates[-1]:.2g}"
    if rate is None:
        console.print(f"No learning rate can be suggested: in {tried} the loss did not fall noticeably.")
    else:
        smallest = rate * BELOW
        console.print(
            f"Suggested learning rate: {rate:g}. In {tried} the smoothed loss was smallest at about {smallest:.1g}; a "
            "tenth of that is suggested, a rule of thumb: try it beside the one you have."
        )
        console.print(
            f"  {shlex.join(['resnet-tl', *_others(sys.argv[1:]), f'--optimizer.lr={rate:g}'])}", is_command=True
        )
    console.print(f"{FIGURE}\n{TABLE}")


def _others(words: list[str]) -> list[str]:
    """The words of the command without this trial and without another rate."""
    kept: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        if before != "--optimizer.lr" and word.partition("=")[0] not in ("--find_lr", "--optimizer.lr"):
            kept.append(word)
    return kept
