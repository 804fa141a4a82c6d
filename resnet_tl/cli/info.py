"""`resnet-tl info RUN|BUNDLE|ZIP|MODEL.onnx`."""

from __future__ import annotations

import json
from pathlib import Path

from resnet_tl.cli.arguments import CommandParser
from resnet_tl.errors import UserError, printable

EXAMPLES = """\
Every file of a bundle is read and compared with the digest that it was written with, an ONNX file with that in the
FILE.verification.json beside it; the exit code is 2 where one is damaged or missing.

examples:
  resnet-tl info runs/freeze_backbone-1
  resnet-tl info model.zip --json
"""


def main(argv: list[str]) -> int:
    """Prints what a model says of itself; 2 where a file of it is damaged."""
    parser = CommandParser(
        prog="resnet-tl info",
        description="What a model is: network, classes, where it came from, how good it is, and whether it is whole.",
        epilog=EXAMPLES,
    )
    given = "a run, a model bundle, a zip of one, or an ONNX file of `resnet-tl export`"
    parser.add_argument("model", metavar="MODEL", type=Path, help=given)
    parser.add_argument("--json", action="store_true", help="as one JSON object, for programs")
    arguments = parser.parse_args(argv)

    from resnet_tl.sharing.info import lines_of, model_facts

    try:
        facts = model_facts(arguments.model)
        lines = lines_of(facts)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:  # a file with other things in it
        said = f"{type(error).__name__}: {error}"
        raise UserError(
            f"{arguments.model} is damaged: it says something else of itself than we do ({said})."
        ) from None
    if arguments.json:
        print(json.dumps(facts, indent=2))
    else:
        for name, text in lines:
            print(printable(f"{name:<12} {text}"))
    return 2 if facts["damaged"] else 0
