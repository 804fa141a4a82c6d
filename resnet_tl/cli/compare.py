"""`resnet-tl compare`: which of some runs is better, and whether the images can tell."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_tl.cli.arguments import CommandParser, positive
from resnet_tl.cli.tables import print_table
from resnet_tl.errors import UserError
from resnet_tl.files import check_target, file_digest
from resnet_tl.recipe import find_recipe, list_recipes, load_recipe
from resnet_tl.run import Run
from resnet_tl.terminal import Screen
from resnet_tl.user_code import import_words

if TYPE_CHECKING:
    from resnet_tl.evaluation.comparing.comparison import Comparison

USAGE = """resnet-tl compare RUN RUN [RUN ...] [options]
       resnet-tl compare --recipe RECIPE --recipe RECIPE [...] [--seeds N] [options] [options of fit]"""
COSTS = ("parameters", "multiply-adds", "epochs", "training", "images/s")
CHOSEN = {"--seed": "--seeds N for the seeds 0 … N-1", "--run": "--runs FOLDER for the folder of all runs"}
EXAMPLES = """\
Runs that differ in their seed alone, such as cats-seed0 and cats-seed1, count as one group. With --recipe, whatever is
not trained yet is trained first, as RUNS/RECIPE-seedK; every option of `resnet-tl fit` is passed on to each fit.
Two groups are told apart when Holm's adjusted p of McNemar's test is below 0.05 and the interval of the difference
excludes 0. Written are comparison.html with the images on which they disagree, comparison.md, comparison.png and
tables as CSV; with -o FILE.html the page and its table alone.

examples:
  resnet-tl compare runs/freeze_backbone-1 runs/last_stages-1
  resnet-tl compare runs/freeze_backbone-1 runs/last_stages-1 -o page.html
  resnet-tl compare runs/freeze_backbone-1 runs/last_stages-1 --split test --output comparison
  resnet-tl compare --recipe freeze_backbone --recipe last_stages --seeds 3
  resnet-tl compare --recipe freeze_backbone --recipe last_stages --data.root photos --trainer.max_epochs 5
"""


def main(argv: list[str]) -> int:
    """Trains what is missing, compares, prints and writes."""
    arguments, flags = _parse(argv)
    output = arguments.output
    is_page = output is not None and output.suffix.lower() == ".html" and not output.is_dir()
    if output is not None and not is_page and output.suffix[1:].isalpha() and not output.is_dir():
        raise UserError(f"--output is {output}; it must be a folder, or a page whose name ends in .html.")
    check_target(output if is_page else (output or arguments.runs / "comparison-1") / "comparison.md")
    if arguments.recipe:
        groups, code = _train(arguments, flags)
        if code:
            return code
    else:
        groups = _given(arguments.run)

    from resnet_tl.evaluation.comparing.comparison import compare
    from resnet_tl.evaluation.comparing.comparison_figure import comparison_figure
    from resnet_tl.evaluation.comparing.comparison_text import write_comparison
    from resnet_tl.report.comparison_page import write_comparison_page

    comparison = compare(groups, arguments.split)
    folder = output or Run.create(arguments.runs, "comparison").path
    if not is_page:
        write_comparison(comparison, folder)
        comparison_figure(comparison, folder / "comparison.png")
    write_comparison_page(comparison, output if is_page else folder / "comparison.html")
    _print(comparison, folder)
    return 0


def _parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options, and what is left over for `fit`: nothing unless recipes are given."""
    has_recipes = any(word.split("=")[0] == "--recipe" for word in argv)
    parser = CommandParser(
        prog="resnet-tl compare",
        usage=USAGE,
        description="Compare finished runs, or recipes, on the same images.",
        epilog=EXAMPLES,
    )
    add = parser.add_argument
    if not has_recipes:  # a RUN could not be told from the value of an option of `fit`
        add("run", nargs="*", type=Path, metavar="RUN", help="a run; two or more")
    add("--recipe", action="append", metavar="RECIPE", help="a recipe to train; two or more")
    add("--seeds", type=positive, metavar="N", help="train each recipe with the seeds 0 … N-1; default 1")
    add("--runs", type=Path, default=Path("runs"), metavar="RUNS", help="where runs are; default runs")
    add("--split", choices=("val", "test"), default="val", help="the images to compare on; default val")
    where = "where to write; default RUNS/comparison-1, or the next free"
    add("-o", "--output", type=Path, metavar="FOLDER|FILE.html", help=where)
    if not has_recipes:
        arguments = parser.parse_args(argv)
        if arguments.seeds:
            raise UserError("--seeds is for recipes that are to be trained; RUN is trained already: leave it out.")
        if len(arguments.run) < 2:
            raise UserError(f"A comparison needs two or more of RUN or of --recipe, but {len(arguments.run)} is given.")
        return arguments, []
    arguments, flags = parser.parse_known_args(argv)
    for option in [word.split("=")[0] for word in flags]:
        if option in CHOSEN:
            raise UserError(f"{option} is chosen by compare for each fit; give {CHOSEN[option]}.")
    if flags and not flags[0].startswith("-"):
        way_out = "give runs or --recipe, not both, and each recipe behind a --recipe of its own"
        raise UserError(f"'{flags[0]}' belongs to no option; {way_out}.")
    if len(arguments.recipe) < 2:
        raise UserError(f"A comparison needs two or more recipes, but only '{arguments.recipe[0]}' is given.")
    return arguments, flags


def _given(paths: list[Path]) -> dict[str, list[Run]]:
    from resnet_tl.evaluation.comparing.comparison import group_runs

    folders = [path.resolve() for path in paths]
    for path, folder in zip(paths, folders, strict=True):
        if folders.count(folder) > 1:
            raise UserError(f"{path} is given twice; a run cannot be compared with itself.")
    groups = group_runs([Run.open(path) for path in paths])
    if len(groups) == 1:
        raise UserError(
            f"{' and '.join(map(str, paths))} differ in nothing but the seed; give a run of another recipe as well."
        )
    return groups


@dataclass(frozen=True)
class _Fit:
    """One fit that a comparison needs."""

    recipe: Path
    seed: int
    runs: Path
    flags: list[str]

    @property
    def folder(self) -> Path:
        return self.runs / f"{self.recipe.stem}-seed{self.seed}"

    @property
    def words(self) -> list[str]:
        fixed = ["--recipe", str(self.recipe), "--seed", str(self.seed), "--run", str(self.folder)]
        # All seeds are judged on the same images, where there is no val folder.
        return ["fit", *fixed, "--data.split_seed", "0", *self.flags, *import_words()]

    def left(self) -> list[str]:
        """The command that does what is left, none when all is done; UserError when its folder holds other work."""
        if not self.folder.exists() or (self.folder.is_dir() and not any(self.folder.iterdir())):
            return self.words
        fix = "remove it, or train elsewhere with --runs FOLDER"
        if not all((self.folder / name).is_file() for name in ("recipe.yaml", "environment.json")):
            raise UserError(f"{self.folder} holds no run; {fix}.")
        environment = Run(self.folder).environment
        words = environment.get("command", [])[1:]
        if words != self.words:
            raise UserError(f"{self.folder} was trained by another command (`{' '.join(words)}`); {fix}.")
        if list(environment.get("recipes", {}).values()) != [file_digest(self.recipe)]:
            raise UserError(f"{self.folder} was trained by another version of the recipe {self.recipe}; {fix}.")
        return [] if Run(self.folder).is_complete else ["fit", "--resume", str(self.folder), *import_words()]


def _train(arguments: argparse.Namespace, flags: list[str]) -> tuple[dict[str, list[Run]], int]:
    """The runs of each recipe, trained where they are not yet; and the exit code of a fit that failed, else 0.

    All recipes with seed 0 come first: whether they can be compared at all shows after two fits.
    """
    from resnet_tl.evaluation.comparing.comparison import check_same_images

    recipes = [find_recipe(name) for name in arguments.recipe]
    for recipe in recipes:
        load_recipe(recipe)
    fits = [_Fit(recipe, seed, arguments.runs, flags) for seed in range(arguments.seeds or 1) for recipe in recipes]
    names = [recipe.stem for recipe in recipes]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"Two recipes are called {twice}, and so would their runs be; copy one to another name.")
    left = [fit.left() for fit in fits]  # all of them before the first is trained
    commands: dict[Path, list[str]] = {}
    for fit, words in zip(fits, left, strict=True):
        if words and "--resume" not in words:  # which has begun with all that it needs
            commands.setdefault(fit.recipe, words)
    _check(commands)
    groups: dict[str, list[Run]] = {name: [] for name in names}
    first: Run | None = None
    for number, (fit, words) in enumerate(zip(fits, left, strict=True), start=1):
        what = "is trained already" if not words else "goes on now" if "--resume" in words else "is trained now"
        print(f"\n{fit.folder} {what} ({number} of {len(fits)})", flush=True)
        if words and (code := _run(words)):
            print(
                f"resnet-tl: the fit of {fit.folder} ended with exit code {code}, so nothing is compared; "
                "what was trained before it is kept.",
                file=sys.stderr,
            )
            return {}, code
        run = Run.open(fit.folder)
        groups[fit.recipe.stem].append(run)
        first = first or run
        check_same_images(first, run, arguments.split)
    return groups, 0


def _check(commands: Mapping[Path, list[str]]) -> None:
    """Raises UserError unless a command of each recipe has its images, its weights and settings that go together."""
    from resnet_tl.cli.fit import check_fit

    for recipe, words in commands.items():
        print(f"{recipe.stem}: images, weights and settings are checked", flush=True)
        try:
            check_fit(words[1 : len(words) - len(import_words())])  # this process has imported them
        except UserError as error:
            said = f"{recipe.stem} cannot be trained, so nothing was: {error}"
            if any("--model." in word for word in (said, *words)):
                said += " Here an option counts for every recipe: what one alone needs belongs into its file"
                shipped = any(recipe.stem == one.name for one in list_recipes())
                said += f", a copy by `resnet-tl recipes copy {recipe.stem}`." if shipped else "."
            raise UserError(said) from error


def _run(words: list[str]) -> int:
    """Runs `resnet-tl` in a process of its own; its exit code, 128 + N when signal N ended it."""
    with subprocess.Popen([sys.executable, "-m", "resnet_tl", *words]) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:  # which the fit has been sent too: let it end in its own way
            process.wait()
            raise
    return code if code >= 0 else 128 - code


def _print(comparison: Comparison, folder: Path) -> None:
    from resnet_tl.evaluation.comparing.comparison_text import cells, method, notes, sentences

    header, rows = cells(comparison)
    costs = next((place for place, name in enumerate(header) if name in COSTS), len(header))
    for columns in (header[:costs], [header[0], *header[costs:]]):  # one table would be too wide for most terminals
        chosen = [[row[header.index(name)] for name in columns] for row in rows]
        print_table(columns, chosen, numbers=columns[1:], rule=False)
        print()
    has_p = any(not pair.is_decided for pair in comparison.pairs)
    screen = Screen()
    for line in [*sentences(comparison), "", method(comparison, has_p), *notes(comparison), f"Written to {folder}"]:
        screen.print(line)
