"""`resnet-tl export RUN --to onnx -o FILE`: a model for programs that do without resnet-tl."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from resnet_tl.cli.arguments import CommandParser
from resnet_tl.cli.loading import loading
from resnet_tl.cli.reading_options import in_own_words
from resnet_tl.errors import UserError, printable
from resnet_tl.export.facts import INPUTS
from resnet_tl.export.targets import TARGETS
from resnet_tl.files import check_target
from resnet_tl.stopping import handled

if TYPE_CHECKING:
    from resnet_tl.export.exporting import Exported

ZIP = "zip"
EXAMPLES = """\
The file is run in its own runtime on the validation images of the run, or on --images, before it is kept: it must say
what `resnet-tl predict` says. What was found is written beside it, and a program that uses it.

examples:
  resnet-tl export runs/freeze_backbone-1 --to onnx -o flowers.onnx
  resnet-tl export runs/freeze_backbone-1 --to onnx -o flowers.onnx --input tensor --features
  resnet-tl export runs/freeze_backbone-1/model --to onnx -o flowers.onnx --images photos
  resnet-tl export runs/freeze_backbone-1 --to onnx -o flowers.onnx --int8
  resnet-tl export runs/freeze_backbone-1 --to openvino -o flowers.xml
  resnet-tl export runs/freeze_backbone-1 --to torch_export -o flowers.pt2
  resnet-tl export runs/freeze_backbone-1 --to zip -o flowers.zip      the bundle in one file, for resnet-tl itself
"""


def main(argv: list[str]) -> int:
    """Exports, verifies, and prints what was found; 1 where the file does not say what the model says."""
    parser = CommandParser(
        prog="resnet-tl export",
        description="Write a model as a file that needs no resnet-tl: pixels in, calibrated probabilities out.",
        epilog=EXAMPLES,
    )
    run = "a run such as runs/freeze_backbone-1, a model bundle, or a checkpoint"
    parser.add_argument("run", metavar="RUN|BUNDLE", type=Path, help=run)
    kind = "the kind of file; zip: the model bundle in one file, which every command takes; default: onnx"
    parser.add_argument("--to", choices=[*TARGETS, ZIP], default="onnx", help=kind)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the file to write")
    kinds = "raw: decoded images of any size; tensor: resized ones; default: raw, but tensor with --to openvino"
    parser.add_argument("--input", choices=list(INPUTS), help=kinds)
    parser.add_argument("--features", action="store_true", help="give the features of an image too")
    parser.add_argument("--int8", action="store_true", help="compute in 8-bit integers; only with --to onnx")
    images = "verify on these files, folders or tables, labelled or not; default: the validation images of the run"
    parser.add_argument("--images", nargs="+", default=[], metavar="PATH", help=images)
    arguments = parser.parse_args(argv)
    if arguments.to == ZIP:
        _write_zip(arguments)
        return 0
    check_target(arguments.output, TARGETS[arguments.to].suffix)

    with loading():
        from resnet_tl.export.exporting import export
        from resnet_tl.export.verification import NotVerified

    with handled(), in_own_words(root="--images "):  # so that SIGTERM leaves nothing half made either
        try:
            done = export(
                arguments.run,
                arguments.output,
                arguments.to,
                arguments.input,
                with_features=arguments.features,
                int8=arguments.int8,
                images=arguments.images,
            )
        except NotVerified as error:
            print(f"resnet-tl: {error}", file=sys.stderr)
            return 1
    _print(done)
    return 0


def _write_zip(arguments: argparse.Namespace) -> None:
    """The bundle as it is; nothing is computed, so that there is nothing to verify on images."""
    from resnet_tl.sharing.zipping import zip_bundle

    if unused := [name for name in ("input", "features", "int8", "images") if getattr(arguments, name)]:
        raise UserError(f"--{unused[0]} has no meaning for --to zip, which holds the model as it is; leave it out.")
    check_target(arguments.output, ".zip")
    bundle = zip_bundle(arguments.run, arguments.output)
    size = arguments.output.stat().st_size / 1e6
    print(printable(f"{arguments.output}: {size:,.1f} MB; {', '.join(bundle.sizes())}"))
    print(printable(f"to use it: resnet-tl predict {quote(str(arguments.output))} IMAGES"))


def _print(done: Exported) -> None:
    seen = done.facts.preprocessing
    sides = "H, W" if done.facts.input == "raw" else f"{seen.size}, {seen.size}"
    lines = [
        f"{done.file}: {done.bytes / 1e6:,.1f} MB; uint8 (N, {sides}, {seen.channels}) to {' and '.join(done.outputs)}",
        *done.verification.lines(),
        *done.notes,
        *(f"beside it: {path.name}" for path in done.beside),
    ]
    for line in lines:
        print(printable(line))
