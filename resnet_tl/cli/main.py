"""`resnet-tl`: finds the command and runs it; answers `--help` without importing torch."""

from __future__ import annotations

import os
import sys
import traceback
from importlib import import_module

from resnet_tl import __version__, timing
from resnet_tl.cli.arguments import CommandParser
from resnet_tl.cli.keep_freed_memory import keep_freed_memory
from resnet_tl.errors import UserError, listed, nearest
from resnet_tl.stopping import Stopped
from resnet_tl.terminal import Screen, shown
from resnet_tl.user_code import allow
from resnet_tl.wording import for_command_line

COMMANDS = {
    "fit": "train a network on images, by a recipe",
    "validate": "the numbers of a run on its validation images",
    "test": "the numbers of a run on its test images, or on another labelled folder",
    "predict": "classify images with a run or a model bundle",
    "export": "write a model as a file for other programs, such as ONNX, and verify it",
    "embed": "write the features of images to a file",
    "serve": "answer by HTTP what images show, with a page to try it",
    "submit": "write a Kaggle submission that fits its sample file",
    "compare": "which of some runs is better, and whether the images can tell",
    "sweep": "try settings of a recipe, and what the best of them is worth",
    "info": "what a run, a bundle or an exported file is, and whether it is whole",
    "card": "write a model card in the format of the Hugging Face hub",
    "push": "put a model on the Hugging Face hub",
    "pull": "fetch a model from the Hugging Face hub",
    "report": "a page that shows a finished run: how good, how sure, its mistakes",
    "probe": "what networks are worth on some images, and what more images would bring",
    "data": "list and fetch known data sets, look at images and their labels",
    "networks": "list the networks, show and draw one",
    "recipes": "list, show and copy the shipped recipes",
    "cache": "list and clear what earlier runs have kept",
}
COMPUTING = ("fit", "validate", "test", "predict", "export", "serve", "embed", "submit", "sweep", "probe", "data")
EXAMPLES = """\
examples:
  resnet-tl fit --recipe freeze_backbone.yaml
  resnet-tl fit --recipe freeze_backbone.yaml --data.root photos
  resnet-tl predict runs/freeze_backbone-1 new_photos
  resnet-tl COMMAND --help
"""


@for_command_line()
def main(argv: list[str] | None = None) -> int:
    """Runs one command; 0 when done, 1 when it failed, 2 when the user's input is wrong, 130 or 143 after a signal."""
    timing.begin("start-up")
    argv = sys.argv[1:] if argv is None else argv
    anywhere = CommandParser(prog="resnet-tl", add_help=False)
    anywhere.add_argument("--debug", action="store_true", help="show the stack trace of an error; works anywhere")
    anywhere.add_argument(
        "--import",
        action="append",
        default=[],
        dest="modules",
        metavar="MODULE",
        help="import a module of yours first, so that recipes and bundles may name what is in it; may be given again, "
        "works anywhere",
    )
    parser = CommandParser(
        prog="resnet-tl",
        description="Fine-tune ResNets on folders of images: one recipe, one command, one run directory.",
        usage="resnet-tl [--help] [--version] [--debug] [--import MODULE] COMMAND ...",
        epilog="commands:\n" + "".join(f"  {name:<9} {text}\n" for name, text in COMMANDS.items()) + "\n" + EXAMPLES,
        parents=[anywhere],
    )
    parser.add_argument("--version", action="version", version=f"resnet-tl {__version__}")
    given, argv = anywhere.parse_known_args(argv)
    if not argv:
        parser.print_help()
        return 0
    command = argv[0]
    if command.startswith("-"):
        parser.parse_args(argv)
        return 0
    # Read when torch is imported: threads that spin for long while they wait take the cores from those that decode
    # images; ones that sleep at once are slow to go on. The second is GNU's OpenMP's, torch's on Linux.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "passive"
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    if command in COMPUTING:
        keep_freed_memory()
    try:
        for module in given.modules:
            allow(module)
        if command not in COMMANDS:
            known = listed(COMMANDS, len(COMMANDS))
            raise UserError(f"'{command}' is not a command; they are {known}.{nearest(command, COMMANDS)}")
        with shown(Screen(beside=command not in ("fit", "sweep"))):
            return import_module(f"resnet_tl.cli.{command}").main(argv[1:]) or 0
    except UserError as error:
        if given.debug:
            traceback.print_exc()
        print(f"resnet-tl: {error}", file=sys.stderr)
        return 2
    except Stopped as stop:
        print(f"resnet-tl: {stop}", file=sys.stderr)
        return stop.exit_code
    except KeyboardInterrupt:
        print("resnet-tl: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough.
        sys.stderr.close()
        return 0
