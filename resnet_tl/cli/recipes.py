"""`resnet-tl recipes list | show | copy`."""

from __future__ import annotations

import shutil
from pathlib import Path

from resnet_tl.cli.arguments import CommandParser
from resnet_tl.errors import UserError
from resnet_tl.recipe import find_recipe, list_recipes

EXAMPLES = """\
examples:
  resnet-tl recipes list
  resnet-tl recipes show freeze_backbone
  resnet-tl recipes copy freeze_backbone my_recipe.yaml
"""


def main(argv: list[str]) -> None:
    """Lists, shows or copies."""
    parser = CommandParser(
        prog="resnet-tl recipes",
        description="The shipped recipes.",
        epilog=EXAMPLES,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="list | show | copy")
    actions.add_parser("list", help="name and purpose of each")
    show = actions.add_parser("show", help="print one")
    show.add_argument("name")
    copy = actions.add_parser("copy", help="copy one, to change it")
    copy.add_argument("name")
    copy.add_argument("destination", nargs="?", type=Path, default=Path(), help="file or folder; default: here")
    arguments = parser.parse_args(argv)
    if arguments.action == "list":
        recipes = list_recipes()
        width = max(len(recipe.name) for recipe in recipes)
        for recipe in recipes:
            print(f"{recipe.name:<{width}}  {recipe.summary}")
    elif arguments.action == "show":
        print(find_recipe(arguments.name).read_text(encoding="utf-8"), end="")
    else:
        source = find_recipe(arguments.name)
        target = arguments.destination / source.name if arguments.destination.is_dir() else arguments.destination
        if target.exists():
            raise UserError(f"{target} exists already; give another name.")
        if not target.parent.is_dir():
            raise UserError(f"The folder {target.parent} does not exist.")
        shutil.copyfile(source, target)
        print(f"{target}: run it with `resnet-tl fit --recipe {target}`")
