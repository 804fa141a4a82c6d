"""`resnet-tl fit`: Lightning's own command line over our data module and classifier."""

from __future__ import annotations

from pathlib import Path

from resnet_tl import failures, stopping
from resnet_tl.cli.arguments import CommandParser
from resnet_tl.cli.fit_budget import plan_of, take_budget
from resnet_tl.cli.loading import loading
from resnet_tl.errors import UserError
from resnet_tl.recipe import find_recipe, load_recipe
from resnet_tl.run import Run, interrupted_run

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

        cli = FitCLI(recipes, flags, resumed)
        if budget:
            cli = FitCLI(recipes, flags, resumed, plan_of(cli, budget))
        run = cli.run()
        if run is not None and cli.trainer.is_global_zero:
            from resnet_tl.cli.next_command import next_command
            from resnet_tl.training.console.summary import print_summary, shortest

            print_summary(run, next_command(run, shortest(run.path)), cli.config.verbose)


def check_fit(argv: list[str]) -> None:
    """Raises UserError for what would keep these words of `fit` from the first step; images are decoded and kept."""
    recipes, flags, resumed = split_recipes(argv)
    _, flags = take_budget(recipes, flags)
    with loading():
        from resnet_tl.cli.fit_parser import FitCLI

    FitCLI(recipes, flags, resumed).check()


def split_recipes(argv: list[str]) -> tuple[list[Path], list[str], Run | None]:
    """Takes every `--recipe NAME` out of the line, so that flags win wherever they stand; and `--resume RUN`.

    A job that is run again goes on with the run that it had begun, as with `--resume`. UserError where a recipe or run
    is not there, or an interrupted run is to go on otherwise than it began.
    """
    parser = CommandParser(prog="resnet-tl fit", add_help=False)
    parser.add_argument("--recipe", action="append", default=[])
    parser.add_argument("--resume")
    parser.add_argument("--run")
    known, flags = parser.parse_known_args(argv)
    if known.resume is not None:
        run = Run.open(known.resume)
        begins = [f"--{name}" for name in ("recipe", "run") if getattr(known, name)]
        check_unchanged([*begins, *flags])
        return [run.recipe_file], flags, run
    paths = [find_recipe(name) for name in known.recipe]
    for path in paths:
        load_recipe(path)
    begun = interrupted_run(known.run, paths)
    if begun and begun.recipe_file.is_file():
        return [begun.recipe_file], _free_on_resume(flags), begun
    return paths, [*flags, *(["--run", known.run] if known.run else [])], begun


def _free_on_resume(flags: list[str]) -> list[str]:
    """The flags, each with its values, that say where and how fast a run goes on."""
    free, is_free = [], False
    for word in flags:
        if word.startswith("--"):
            is_free = word.removeprefix("--").startswith(FREE_ON_RESUME)
        free += [word] if is_free else []
    return free


def check_unchanged(flags: list[str]) -> None:
    """Raises UserError for a flag with which an interrupted run would not end as it would have."""
    for flag in flags:
        name = flag.removeprefix("--").partition("=")[0]
        if flag.startswith("--") and not name.startswith(FREE_ON_RESUME):
            raise UserError(
                f"{flag.partition('=')[0]} cannot be given with --resume: a run goes on by its own recipe; to train "
                "otherwise, start a new run."
            )
