"""`resnet-tl card RUN|BUNDLE [-o README.md]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from resnet_tl.cli.arguments import CommandParser
from resnet_tl.errors import UserError, nearest, printable
from resnet_tl.files import check_target, write_text

EXAMPLES = """\
Without -o the card is printed. Of a run it says more than of a bundle alone: how simpler models do, and the recipe.
A README.md in the folder of a bundle is what `resnet-tl push` takes: write it there to add words of your own.

examples:
  resnet-tl card runs/freeze_backbone-1 -o README.md
  resnet-tl card runs/freeze_backbone-1 --data_license CC-BY-4.0 -o runs/freeze_backbone-1/model/README.md
"""


def main(argv: list[str]) -> None:
    """Writes the card, or prints it."""
    parser = CommandParser(
        prog="resnet-tl card",
        description="Write a model card in the format of the Hugging Face hub, from what a run or a bundle holds.",
        epilog=EXAMPLES,
    )
    parser.add_argument("model", metavar="RUN", type=Path, help="a run, a model bundle, or a zip of one")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="such as README.md; default: print it")
    add_card_options(parser)
    arguments = parser.parse_args(argv)
    if arguments.output:
        check_target(arguments.output, ".md")
    text = card_of(arguments.model, arguments)
    if arguments.output:
        write_text(arguments.output, text)
        print(printable(f"{arguments.output}: the card of {arguments.model}"))
    else:
        print(text, end="")


def add_card_options(parser: argparse.ArgumentParser) -> None:
    """Adds what only the maker of a model can say."""
    own = "of the model, such as apache-2.0; one that the hub does not know is `other` there; default: not stated"
    parser.add_argument("--license", metavar="LICENSE", help=own)
    parser.add_argument("--data_license", metavar="LICENSE", help="of the training images; default: not stated")


def card_of(model: Path, arguments: argparse.Namespace, repository: str = "OWNER/NAME") -> str:
    """The card's text; UserError where a file of the model holds other things than it should."""
    from resnet_tl.sharing.card import Card, Stated
    from resnet_tl.sharing.licences import KNOWN

    given = arguments.license
    if given and given.lower() not in KNOWN:
        said = f"The hub has no licence '{given}'; its filters will show `other`.{nearest(given, KNOWN)}"
        print(printable(said), file=sys.stderr)
    try:
        return Card(model, Stated(given, arguments.data_license, repository)).text
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise UserError(
            f"The card of {model} cannot be made of its files, one of which may be damaged: "
            f"{type(error).__name__}: {error}."
        ) from error
