"""`resnet-tl cache list | clear`: what runs keep so that later ones need not compute it again."""

from __future__ import annotations

import time

from resnet_tl.cli.arguments import CommandParser
from resnet_tl.cli.tables import print_table

EXAMPLES = """examples:
  resnet-tl cache list
  resnet-tl cache clear activations
  resnet-tl cache clear"""

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def main(argv: list[str]) -> int:
    """Lists or clears."""
    from resnet_tl.cache import KINDS, cache_root, clear

    parser = CommandParser(
        prog="resnet-tl cache",
        description="What runs keep for later ones: audits (what is wrong with the files of a data set, and their\n"
        "sizes), pixels (decoded images), activations (what frozen stages make of them) and symmetries\n"
        "(what data.symmetry auto has measured). All of it can be cleared at any time: it is computed\n"
        "again where it is needed, with the same results.",
        epilog=EXAMPLES,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="list | clear")
    verbs.add_parser("list", help="what there is, with its size and last use", allow_abbrev=False)
    remove = verbs.add_parser("clear", help="remove all, or one kind", allow_abbrev=False)
    remove.add_argument(
        "kind", nargs="?", choices=KINDS, metavar="KIND", help=f"one of {', '.join(KINDS)}; default: all"
    )
    arguments = parser.parse_args(argv)
    if arguments.verb == "list":
        _list()
    else:
        print(f"{in_words(clear(arguments.kind))} freed in {cache_root()}.")
    return 0


def _list() -> None:
    from resnet_tl.cache import cache_root, entries, limit

    held = entries()
    rows = [
        [entry.kind, in_words(entry.size), time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used)), entry.about]
        for entry in reversed(held)
    ]
    if rows:
        print_table(["kind", "size", "last used", "what"], rows, numbers=["size"])
    total = sum(entry.size for entry in held)
    print(f"{in_words(total)} of at most {in_words(limit())} (RESNET_TL_CACHE_LIMIT, in GiB) in {cache_root()}.")


def in_words(size: int) -> str:
    """A number of bytes with its unit: 614.2 MiB."""
    number, unit = float(size), 0
    while number >= 1024 and unit < len(_UNITS) - 1:
        number, unit = number / 1024, unit + 1
    return f"{number:.1f} {_UNITS[unit]}" if unit else f"{size} B"
