"""`resnet-tl pull OWNER/NAME [-o FOLDER]`."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

from resnet_tl.cli.arguments import CommandParser
from resnet_tl.errors import printable

EXAMPLES = """\
The folder is a model bundle, compared with the digests in its model.json: it is written whole or not at all, and
nothing in it is run. Files stay in the hub's cache as well; with HF_HUB_OFFLINE=1 they are taken from there.

examples:
  resnet-tl pull anna/seedlings
  resnet-tl pull anna/seedlings -o models/seedlings --revision v2
"""


def main(argv: list[str]) -> None:
    """Pulls, and says what it is and how it is used."""
    parser = CommandParser(
        prog="resnet-tl pull",
        description="Fetch a model bundle from a repository of the Hugging Face hub.",
        epilog=EXAMPLES,
    )
    parser.add_argument("repository", metavar="OWNER/NAME", help="the repository")
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="the folder to write; default: NAME, here")
    parser.add_argument("--revision", metavar="REVISION", help="a branch, a tag or a commit; default: main")
    arguments = parser.parse_args(argv)

    from resnet_tl.notebook import network_name
    from resnet_tl.sharing.hub import pull

    bundle = pull(arguments.repository, arguments.output, arguments.revision)
    what = f"{network_name(bundle.network)}, {len(bundle.classes):,} classes"
    print(printable(f"{arguments.repository} is in {bundle.path}: {what}, each file as model.json has it"))
    print(printable(f"to use it: resnet-tl predict {quote(str(bundle.path))} IMAGES"))
