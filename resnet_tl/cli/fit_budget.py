"""`fit --recipe auto --budget 20m`: the plan, made by the first process before it starts the others."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_tl import failures, timing
from resnet_tl.errors import UserError
from resnet_tl.recipe import recipes_folder
from resnet_tl.terminal import current

if TYPE_CHECKING:
    from resnet_tl.cli.fit_parser import FitCLI
    from resnet_tl.training.budget.plan import Plan

DEFAULT = "10m"
_PLAN = "RESNET_TL_PLAN"
"""Where processes that a fit starts find its plan."""

# What may be given beside a budget: which images, which network, where and how it runs. The plan decides the rest.
OPEN = {
    "data": "root source batch_size resize_rule channels value_range val_fraction test_fraction on_bad_image on_leak "
    "exclude relabel layout path_column label_column group_column image_folder pixel_cache workers split_seed symmetry",
    "model": "network network_args weights class_weights metrics monitor",
    "trainer": "accelerator devices strategy precision logger callbacks enable_progress_bar profiler",
}

_ONE_FIT = "which plans one fit: let it train that, then give the recipe.yaml of its run with --folds 5"
ELSEWHERE = {
    "data.folds": _ONE_FIT,
    "data.fold": _ONE_FIT,
    "find_lr": "whose plan takes the rates of its recipes: leave it out, or choose another recipe",
    "forecast": "which says itself how long the fit should take before it begins: leave it out",
}
"""What no plan decides, and does not go with one."""


def is_planned(recipes: Sequence[Path]) -> bool:
    """Whether it is the recipe whose settings a plan makes."""
    return recipes_folder() / "auto.yaml" in recipes


def take_budget(recipes: Sequence[Path], flags: list[str]) -> tuple[str | None, list[str]]:
    """What `--budget` says, or its default, and the other flags; UserError for a budget of another recipe."""
    budget, others, waiting = None, [], list(flags)
    while waiting:
        word = waiting.pop(0)
        name, has_value, value = word.partition("=")
        if name != "--budget":
            others.append(word)
        elif has_value or (waiting and not waiting[0].startswith("--")):
            budget = value if has_value else waiting.pop(0)
        else:
            raise UserError("--budget has no value; it must be a time such as 90s, 20m or 1.5h.")
    if is_planned(recipes):
        return budget or DEFAULT, others
    if budget is not None:
        raise UserError(
            "--budget plans the whole fit, for which the recipe auto leaves everything open: give --recipe auto, or "
            "leave out --budget (--forecast says how long a fit by another recipe would take)."
        )
    return None, others


def plan_of(cli: FitCLI, budget: str) -> Plan:
    """The plan for what recipes and flags leave open, shown; UserError for what a plan does not go with."""
    from resnet_tl.training.budget.measuring import plan_fit
    from resnet_tl.training.budget.plan import Plan
    from resnet_tl.training.budget.shortening import seconds_of

    if failures.LAUNCHER in os.environ:
        return Plan.from_dict(json.loads(os.environ[_PLAN]))
    if not (seconds := seconds_of("--budget", budget)):
        raise UserError(f"--budget is {budget}, in which nothing can be trained; give some time, such as 10m.")
    if failures.world > 1:
        raise UserError(
            "--budget plans in the process that starts the others: give --trainer.devices in place of torchrun or "
            "srun, or run the recipe.yaml of a run that was planned."
        )
    _check_open(cli)
    started = time.time() - sum(timing.seconds().values())
    plan = plan_fit(cli.model, cli.datamodule, cli.trainer, seconds, lambda: time.time() - started)
    plan.facts["started"] = started
    screen = current()
    screen.print(f"Plan for {budget}, of which {plan.facts['spent']:.0f} s are start-up and measurements:")
    for line in plan.lines:
        screen.print(f"  {line}")
    too_long = ": more than there is, but the least that gives a model" if plan.seconds > seconds else ""
    screen.print(f"It should take about {plan.seconds:.0f} of {seconds:.0f} s{too_long}.")
    if cli.trainer.world_size > 1:
        os.environ[_PLAN] = json.dumps(plan.to_dict())
    logging.getLogger("resnet_tl.data").setLevel(logging.ERROR)  # which has said what there is to say
    return plan


def _check_open(cli: FitCLI) -> None:
    names = {f"{section}.{name}" for section, words in OPEN.items() for name in words.split()}
    for item in cli.given:
        key = ".".join(item.key.split(".")[:2])
        if why := ELSEWHERE.get(key):
            raise UserError(f"{item.place} does not go with --recipe auto, {why}.")
        if key not in names and key not in ("seed", "run", "recipe", "verbose", "checkpoint_every"):
            raise UserError(
                f"{item.place} is for the plan of --recipe auto to decide: leave it out, or choose another recipe."
            )
