"""`resnet-tl push RUN|BUNDLE OWNER/NAME`."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

from resnet_tl.cli.arguments import CommandParser
from resnet_tl.cli.card import add_card_options, card_of
from resnet_tl.errors import UserError, printable

EXAMPLES = """\
Pushed are the files of the bundle and a model card, in one commit; of the run besides nothing. A README.md in the
bundle's folder is taken as the card. The token is that of `hf auth login`, or HF_TOKEN.

examples:
  resnet-tl push runs/freeze_backbone-1 anna/seedlings --private
  resnet-tl push model.zip anna/seedlings --data_license CC-BY-4.0
"""


def main(argv: list[str]) -> None:
    """Pushes, and says where it lies."""
    parser = CommandParser(
        prog="resnet-tl push",
        description="Put a model bundle with a model card into a repository of the Hugging Face hub.",
        epilog=EXAMPLES,
    )
    parser.add_argument("model", metavar="RUN", type=Path, help="a run, a model bundle, or a zip of one")
    parser.add_argument("repository", metavar="OWNER/NAME", help="the repository; made where there is none")
    parser.add_argument("--private", action="store_true", help="make it one that nobody else sees")
    parser.add_argument("--revision", metavar="BRANCH", help="the branch to push to; default: main")
    add_card_options(parser)
    arguments = parser.parse_args(argv)

    from resnet_tl.bundle import Bundle
    from resnet_tl.sharing.hub import CARD, check_repository, push

    check_repository(arguments.repository)
    has_card = CARD in Bundle.open(arguments.model).sizes()
    if has_card and (arguments.license or arguments.data_license):
        raise UserError(
            f"{arguments.model} has a README.md of its own, which is pushed as it is; say the licences in it, or "
            "remove it."
        )
    card = "" if has_card else card_of(arguments.model, arguments, arguments.repository)
    url = push(arguments.model, arguments.repository, card, arguments.private, arguments.revision)
    revision = f" --revision {quote(arguments.revision)}" if arguments.revision else ""
    print(printable(f"{arguments.model} is at {url}; to fetch it: resnet-tl pull {arguments.repository}{revision}"))
