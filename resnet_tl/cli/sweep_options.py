"""What may be typed for a sweep: its options, those of fit that go with it, and the space that it varies."""

from __future__ import annotations

import argparse
import glob
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_tl.cli.arguments import CommandParser, positive
from resnet_tl.errors import UserError
from resnet_tl.files import file_digest, write_text
from resnet_tl.recipe import find_recipe, load_recipe

if TYPE_CHECKING:
    from resnet_tl.training.sweep.space import Dimension

USAGE = """resnet-tl sweep RECIPE --space KEY=VALUES [KEY=VALUES ...] [options] [options of fit]
       resnet-tl sweep --resume SWEEP [--trials N]"""
EXAMPLES = """\
KEY is an option of `resnet-tl fit`; its values are choices, A,B,C, or a range, LOW..HIGH, or LOW..HIGH:log where each
factor counts the same. A YAML file may hold them, `optimizer.lr: 1e-4..1e-1:log` on each line.
All trials have the same images, splits and seed, and each is an ordinary run, SWEEP/trials/1, 2, ... An interrupted
sweep goes on by the same command. Written are trials.csv and summary.json.

examples:
  resnet-tl sweep last_stages --space optimizer.lr=1e-4..1e-2:log model.label_smoothing=0..0.2 --data.root photos
  resnet-tl sweep freeze_backbone --space data.image_size=96,128,160 --trials 3 --data.root photos
"""
TRIALS = 20

# Options of fit that do not go with a sweep, and why.
NOT_IN_A_SWEEP = {
    "each trial is one fit, judged on images that it has not seen": "data.folds data.fold data.final folds final",
    "it is of one fit": "forecast budget verbose",
    "the recipe comes first, resnet-tl sweep RECIPE": "recipe",
    "`resnet-tl fit --help_all` shows every option": "help_all print_config",
}
# What may be given beside a space, but not be in it.
NOT_IN_A_SPACE = {
    "it decides which images the trials are judged on, and those must be the same": "data.root data.source "
    "data.split_seed data.val_fraction data.test_fraction data.exclude data.relabel data.layout data.path_column "
    "data.label_column data.group_column data.image_folder data.on_bad_image data.on_leak data.predict_root "
    "trainer.limit_val_batches trainer.limit_test_batches",
    "the trials are compared by it": "model.monitor model.metrics",
    "a better seed is luck, and all trials have the same one, --seed": "seed",
    "it says where and how fast a fit goes, and is to change no result": "run checkpoint_every data.workers "
    "data.pixel_cache model.activation_cache trainer.devices trainer.num_nodes trainer.accelerator trainer.logger",
}


@dataclass(frozen=True)
class Begun:
    """What a sweep was begun with, as `sweep.json` keeps it."""

    recipe: str  # its whole path
    recipe_digest: str
    flags: list[str]
    space: list[str]
    seed: int

    @classmethod
    def read(cls, folder: Path) -> tuple[Begun, dict[str, Any]]:
        """That of a sweep's folder, and what else is known of it; UserError where it is none."""
        file = folder / "sweep.json"
        if not file.is_file():
            reason = "it has no sweep.json" if folder.is_dir() else "there is no such folder"
            raise UserError(f"{folder} is not a sweep: {reason}.")
        try:
            facts = json.loads(file.read_text(encoding="utf-8"))
            begun = cls(**facts.pop("begun"))
            facts["monitor"], facts["monitor_mode"], facts["trials"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{file} is damaged ({error}); start a new sweep with another --run.") from None
        return begun, facts

    def write(self, folder: Path, **facts: Any) -> None:
        """Keeps it, with what else is known: `monitor`, `monitor_mode`, and how many `trials` are wanted."""
        write_text(folder / "sweep.json", json.dumps({"begun": asdict(self), **facts}, indent=2) + "\n")


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options, with the recipe's name, and what is left over for `fit`."""
    parser = CommandParser(
        prog="resnet-tl sweep",
        usage=USAGE,
        description="Try settings of a recipe: many fits, each an ordinary run, and an honest word about the best.",
        epilog=EXAMPLES,
    )
    add = parser.add_argument
    add("--space", nargs="+", action="extend", metavar="KEY=VALUES", help="what to vary, or a YAML file with the same")
    add("--trials", type=positive, metavar="N", help=f"how many fits; default {TRIALS}")
    add("--seed", type=int, default=0, metavar="N", help="of every fit, and of the choice of settings; default 0")
    add("--run", type=Path, metavar="SWEEP", help="the sweep's folder; default runs/RECIPE-sweep-1, or the next free")
    add("--resume", type=Path, metavar="SWEEP", help="go on with an interrupted sweep; --trials makes it longer")
    # A recipe could not be told from the value of an option of fit, if it stood elsewhere.
    recipe, rest = (argv[0], argv[1:]) if argv and not argv[0].startswith("-") else (None, argv)
    arguments, flags = parser.parse_known_args(rest)
    arguments.recipe = recipe
    if arguments.resume:
        given = [recipe or "", *(f"--{name}" for name in ("space", "run") if getattr(arguments, name)), *flags]
        if other := next(filter(None, given), None):
            raise UserError(f"{other} cannot be given with --resume: a sweep goes on as it began; leave it out.")
        return arguments, []
    if recipe is None:
        raise UserError("A sweep needs a recipe, and it comes first: resnet-tl sweep RECIPE --space KEY=VALUES.")
    if not arguments.space:
        raise UserError("A sweep needs --space KEY=VALUES, such as --space optimizer.lr=1e-4..1e-1:log.")
    if flags and not flags[0].startswith("-"):
        raise UserError(f"'{flags[0]}' belongs to no option; one recipe is given, and it comes first.")
    for word in flags:
        name = word.removeprefix("--").partition("=")[0]
        if word.startswith("--") and (why := _why(name, NOT_IN_A_SWEEP)):
            raise UserError(f"--{name} cannot be given to a sweep: {why}; leave it out.")
    return arguments, flags


def begun_by(arguments: argparse.Namespace, flags: list[str]) -> tuple[Path | None, Begun]:
    """The folder of the sweep that goes on, None for a new one, and what it is, or is to be, begun with."""
    if arguments.resume:
        return arguments.resume, Begun.read(arguments.resume)[0]
    from resnet_tl.training.sweep.space import parse_space

    recipe = find_recipe(arguments.recipe).resolve()
    load_recipe(recipe)
    space = [str(dimension) for dimension in parse_space(arguments.space)]
    begun = Begun(str(recipe), file_digest(recipe), flags, space, arguments.seed)
    if arguments.run is None:
        known = [file.parent for file in Path("runs").glob(f"{glob.escape(recipe.stem)}-sweep-*/sweep.json")]
        same = [one for one in known if not (one / "summary.json").is_file() and Begun.read(one)[0] == begun]
        return next(iter(sorted(same)), None), begun
    if not (arguments.run / "sweep.json").is_file():
        return None, begun
    if Begun.read(arguments.run)[0] != begun:
        raise UserError(f"{arguments.run} holds a sweep that was begun otherwise; choose another --run.")
    return arguments.run, begun


def checked_space(begun: Begun) -> list[Dimension]:
    """The dimensions of the space, each of whose values fit takes; UserError for what it would not take."""
    from resnet_tl.cli.fit_parser import SECTIONS
    from resnet_tl.cli.parse_errors import check, given_settings
    from resnet_tl.training.sweep.space import parse_space

    recipes = {begun.recipe: load_recipe(Path(begun.recipe))}
    own = {item.key for item in given_settings({}, begun.flags)}

    def try_value(key: str, value: str) -> None:
        check(given_settings(recipes, [*begun.flags, f"--{key}={value}"]), SECTIONS)

    space = parse_space(begun.space)
    for place, dimension in enumerate(space):
        key = dimension.key
        if why := _why(key, NOT_IN_A_SWEEP | NOT_IN_A_SPACE):
            raise UserError(f"--space cannot vary {key}: {why}.")
        if key in own:
            raise UserError(f"--{key} is given, and --space varies it as well; leave one of them out.")
        for value in dimension.samples:
            try_value(key, value)
        if dimension.is_whole:  # as its ends are written: a setting that takes other numbers takes those between
            with suppress(UserError):
                try_value(key, repr(dimension.low + 0.5))
                space[place] = dimension.of_any_numbers()
    return space


def check_unchanged(folder: Path, begun: Begun) -> None:
    """Raises UserError where a sweep would go on by another recipe than it began with."""
    if not Path(begun.recipe).is_file() or file_digest(Path(begun.recipe)) != begun.recipe_digest:
        raise UserError(
            f"{begun.recipe} is not what it was when {folder} was begun with it; put that back, or start a new sweep "
            "with another --run."
        )


def _why(key: str, reasons: Mapping[str, str]) -> str | None:
    """Why an option cannot be given; None where it can."""
    return next((why for why, keys in reasons.items() if key in keys.split()), None)
