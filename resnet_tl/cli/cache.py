"""`resnet-tl cache list | clear`: what runs keep so that later ones need not compute it again."""

from __future__ import annotations

import time

from resnet_tl.cli.arguments import CommandParser

EXAMPLES = """examples:
  resnet-tl cache list
  resnet-tl cache clear activations
  resnet-tl cache clear"""

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def main(argv: list[str]) -> int:
    """Lists or clears."""
    from resnet_tl.cache import KINDS

    parser = CommandParser(
        prog="resnet-tl cache",
        description="What runs keep for later ones: audits (what is wrong with the files of a data set, and their\n"
        "sizes), pixels (decoded images) and activations (what frozen stages make of them). All of it\n"
        "can be cleared at any time: it is computed again where it is needed, with the same results.",
        epilog=EXAMPLES,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="list | clear")
    verbs.add_parser("list", help="what there is, with its size and last use", allow_abbrev=False)
    clear = verbs.add_parser("clear", help="remove all, or one kind", allow_abbrev=False)
    clear.add_argument(
        "kind", nargs="?", choices=KINDS, metavar="KIND", help=f"one of {', '.join(KINDS)}; default: all"
    )
    arguments = parser.parse_args(argv)
    if arguments.verb == "list":
        _list()
    else:
        _clear(arguments.kind)
    return 0


def _list() -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from resnet_tl.cache import cache_root, entries, limit

    held = entries()
    table = Table("kind", box=box.SIMPLE_HEAD)
    table.add_column("size", justify="right")
    table.add_column("last used")
    table.add_column("what", overflow="fold")
    for entry in reversed(held):
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        table.add_row(entry.kind, in_words(entry.size), used, entry.about)
    if held:
        Console(markup=False, emoji=False).print(table)
    total = sum(entry.size for entry in held)
    print(f"{in_words(total)} of at most {in_words(limit())} (RESNET_TL_CACHE_LIMIT, in GiB) in {cache_root()}.")


def _clear(kind: str | None) -> None:
    from resnet_tl.cache import cache_root, clear

    print(f"{in_words(clear(kind))} freed in {cache_root()}.")


def in_words(size: int) -> str:
    """A number of bytes with its unit: 614.2 MiB."""
    number, unit = float(size), 0
    while number >= 1024 and unit < len(_UNITS) - 1:
        number, unit = number / 1024, unit + 1
    return f"{number:.1f} {_UNITS[unit]}" if unit else f"{size} B"
