"""`resnet-tl fit`: Lightning's own command line over our data module and classifier."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_tl import failures, stopping, timing
from resnet_tl.cli.arguments import CommandParser
from resnet_tl.cli.final_run import final_words
from resnet_tl.cli.fit_budget import plan_of, take_budget
from resnet_tl.cli.loading import loading
from resnet_tl.errors import UserError
from resnet_tl.recipe import find_recipe, load_recipe
from resnet_tl.run import Run, interrupted_run

if TYPE_CHECKING:
    from resnet_tl.cli.fit_parser import FitCLI

# What says where and how fast a run goes on, but not what comes out of it.
FREE_ON_RESUME = (
    "checkpoint_every",
    "data.pixel_cache",
    "data.root",
    "data.workers",
    "model.activation_cache",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.enable_progress_bar",
    "trainer.logger",
    "trainer.num_nodes",
    "trainer.strategy",
    "verbose",
    "help",
)


def main(argv: list[str]) -> None:
    """Trains by recipes and flags, and says where the results are; with --forecast, how long it would take."""
    if "-h" in argv or "--help" in argv:
        from resnet_tl.cli.fit_help import print_help

        print_help()
        return
    with stopping.handled(), failures.reported():
        recipes, flags, resumed = split_recipes(argv)
        if "--help_all" in argv:
            flags = ["--help"]
        if resumed and resumed.is_complete:
            print(f"{resumed.path} is complete: there is nothing to resume.")
            return
        budget, flags = take_budget(recipes, flags)
        with loading(is_log=True), stopping.untouched():
            from resnet_tl.cli.fit_parser import FitCLI

        try:
            cli = FitCLI(recipes, flags, resumed)
            if budget:
                cli = FitCLI(recipes, flags, resumed, plan=plan_of(cli, budget))
            run = run_folds(cli, flags) if cli.whole else cli.run()
        finally:  # once a plan or the first fold has described the images, they are described no more
            logging.getLogger("resnet_tl.data").setLevel(logging.NOTSET)
        if run is not None and cli.trainer.is_global_zero:
            from resnet_tl.cli.next_command import next_command
            from resnet_tl.terminal import shortest
            from resnet_tl.training.console.summary import print_summary

            print_summary(run, next_command(run, shortest(run.path)), cli.config.verbose)


def run_folds(cli: FitCLI, flags: list[str]) -> Run | None:
    """Trains the folds that are left, one after another, and writes what they say together; None as of `FitCLI.run`.

    All of them but the first follow the recipe that it has written.
    """
    from resnet_tl.cli.fit_parser import FitCLI

    whole = cli.whole
    assert whole is not None
    try:
        while whole.next:
            if cli.run() is None:
                return None
            if whole.next:
                assert whole.run is not None
                timing.phase("start-up")
                cli = FitCLI([whole.run.recipe_file], free_on_resume(flags), whole.run, whole)
        return whole.finish()
    except stopping.Stopped as stop:
        raise stopping.Stopped(stop.signal, cli.how_to_go_on(), stop.together) from None
    finally:
        whole.release()


def check_fit(argv: list[str]) -> None:
    """Raises UserError for what would keep these words of `fit` from the first step; images are decoded and kept."""
    recipes, flags, resumed = split_recipes(argv)
    _, flags = take_budget(recipes, flags)
    with loading():
        from resnet_tl.cli.fit_parser import FitCLI

    FitCLI(recipes, flags, resumed).check()


def split_recipes(argv: list[str]) -> tuple[list[Path], list[str], Run | None]:
    """Takes every `--recipe NAME` out of the line, so that flags win wherever they stand; and what stands for others.

    A job that is run again goes on with the run that it had begun, as with `--resume`. UserError where a recipe or run
    is not there, or an interrupted run is to go on otherwise than it began.
    """
    parser = CommandParser(prog="resnet-tl fit", add_help=False)
    parser.add_argument("--recipe", action="append", default=[])
    parser.add_argument("--resume")
    parser.add_argument("--run")
    parser.add_argument("--folds")
    parser.add_argument("--final")
    known, flags = parser.parse_known_args(argv)
    begins = [f"--{name}" for name in ("recipe", "run", "folds", "final") if getattr(known, name)]
    if known.resume is not None:
        run = Run.open(known.resume)
        check_unchanged([*begins, *flags])
        return [run.recipe_file], flags, run
    paths = [find_recipe(name) for name in known.recipe]
    if known.final is not None:
        run = Run.open(known.final)
        given = [*(flag for flag in begins if flag not in ("--run", "--final")), *flags]
        check_unchanged(given, "--final", f"{run.path} is repeated by its own recipe")
        paths, flags = [run.recipe_file], [*flags, *final_words(run)]
    elif known.folds is not None:
        flags.append(f"--data.folds={known.folds}")
    for path in paths:
        load_recipe(path)
    begun = interrupted_run(known.run, paths)
    if begun and begun.recipe_file.is_file():
        return [begun.recipe_file], free_on_resume(flags), begun
    return paths, [*flags, *(["--run", known.run] if known.run else [])], begun


def free_on_resume(flags: list[str]) -> list[str]:
    """The flags, each with its values, that say where and how fast a run goes on."""
    free, is_free = [], False
    for word in flags:
        if word.startswith("--"):
            is_free = word.removeprefix("--").startswith(FREE_ON_RESUME)
        free += [word] if is_free else []
    return free


def check_unchanged(flags: list[str], beside: str = "--resume", why: str = "a run goes on by its own recipe") -> None:
    """Raises UserError for a flag with which a run would not go on, or be repeated, as it began."""
    for flag in flags:
        name = flag.removeprefix("--").partition("=")[0]
        if flag.startswith("--") and not name.startswith(FREE_ON_RESUME):
            raise UserError(
                f"{flag.partition('=')[0]} cannot be given with {beside}: {why}; to train otherwise, start a new run."
            )
