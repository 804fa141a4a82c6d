"""`resnet-tl fit`: Lightning's own command line over our data module and classifier."""

from __future__ import annotations

from pathlib import Path

from resnet_tl.cli.arguments import CommandParser
from resnet_tl.cli.garbage_collection import collecting_paused
from resnet_tl.recipe import find_recipe, load_recipe


def main(argv: list[str]) -> None:
    """Trains by recipes and flags, and says where the results are; with --forecast, how long it would take."""
    if "-h" in argv or "--help" in argv:
        from resnet_tl.cli.fit_help import print_help

        print_help()
        return
    recipes, flags = split_recipes(argv)
    if "--help_all" in argv:
        flags = ["--help"]
    with collecting_paused():
        from resnet_tl.cli.fit_parser import FitCLI

    cli = FitCLI(recipes, flags)
    run = cli.run()
    if run is not None and cli.trainer.is_global_zero:
        from resnet_tl.training.summary import print_summary

        print_summary(run)


def split_recipes(argv: list[str]) -> tuple[list[Path], list[str]]:
    """Takes every `--recipe NAME` out of the line, so that flags win wherever they stand."""
    parser = CommandParser(prog="resnet-tl fit", add_help=False)
    parser.add_argument("--recipe", action="append", default=[])
    known, rest = parser.parse_known_args(argv)
    paths = [find_recipe(name) for name in known.recipe]
    for path in paths:
        load_recipe(path)
    return paths, rest
