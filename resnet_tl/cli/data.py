"""`resnet-tl data`: known data sets, fetching one, and a look at any folder of images, or a check of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from resnet_tl.cli.arguments import CommandParser
from resnet_tl.cli.data_check import add_check, check_images
from resnet_tl.errors import UserError
from resnet_tl.files import check_target

if TYPE_CHECKING:
    from rich.table import Table

    from resnet_tl.data.index import ImageIndex
    from resnet_tl.data.quality.audit import Audit

EPILOG = """examples:
  resnet-tl data list
  resnet-tl data fetch seedlings_sample
  resnet-tl data fetch hymenoptera --to data
  resnet-tl data show data/hymenoptera --output sheet.png
  resnet-tl data show photos.zip
  resnet-tl data check photos"""

CLASSES = 100
"""On the contact sheet: more make a picture that no program opens."""
PER_CLASS = 10
"""Images of each class on a contact sheet."""
THUMBNAIL = 256
"""Longest side in pixels that a contact sheet is given; keeps large photos out of memory."""
BAD_SHOWN = 20


def main(argv: list[str]) -> int | None:
    """Lists, fetches, shows or checks."""
    parser = CommandParser(
        prog="resnet-tl data",
        description="Known data sets, and a look at your own.",
        epilog=EPILOG,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="list | fetch | show | check")
    verbs.add_parser("list", help="the data sets that fetch knows", allow_abbrev=False)
    fetch = verbs.add_parser("fetch", help="get one; prints its folder", allow_abbrev=False)
    fetch.add_argument("name", metavar="NAME", help="a name from `resnet-tl data list`")
    fetch.add_argument("--to", type=Path, metavar="FOLDER", help="make FOLDER/NAME; by default it goes to the cache")
    show = verbs.add_parser("show", help="count, check and draw a contact sheet", allow_abbrev=False)
    show.add_argument("root", type=Path, metavar="ROOT", help="a folder of images, a .zip of one, or a CSV file")
    show.add_argument(
        "--output", type=Path, default=Path("contact_sheet.png"), metavar="FILE", help="default: %(default)s"
    )
    add_check(verbs)
    arguments = parser.parse_args(argv)
    if arguments.verb == "check":
        return check_images(arguments.root, arguments.output, arguments.exclude, arguments.features)
    if arguments.verb == "list":
        _list()
    elif arguments.verb == "fetch":
        _fetch(arguments.name, arguments.to)
    else:
        _show(arguments.root, arguments.output)
    return 0


def _list() -> None:
    from resnet_tl.data.reading.catalog import SOURCES, is_present, root_of

    table = _table("name", "images", "size", "licence", "here?")
    for name, source in SOURCES.items():
        size = f"{source.size_mb:.0f} MB" if source.size_mb else "drawn"
        table.add_row(name, source.images, size, source.licence, "yes" if is_present(name) else "no")
    _print(table)
    print(f"Fetched data sets go to {root_of('')}.")


def _fetch(name: str, to: Path | None) -> None:
    from resnet_tl.data.reading.catalog import fetch

    print(fetch(name, to))


def _show(root: Path, output: Path) -> None:
    from resnet_tl.data.quality.audit import audit_images
    from resnet_tl.data.reading.layouts import read_images
    from resnet_tl.evaluation.figures import contact_sheet

    check_target(output, ".png")
    index = read_images(root)
    if output.resolve() in {index.path(row).resolve() for row in range(len(index))}:
        raise UserError(f"{output} is one of the images; choose another --output.")
    audit = audit_images(index)
    print(f"{index.root}: {index.layout}; {len(index)} images, {len(index.classes)} classes")
    _print(_counts(index))
    if len(audit.bad) < len(index):
        _print(_sizes(audit))
    print(f"bad images: {len(audit.bad)}")
    for row, reason in list(audit.bad.items())[:BAD_SHOWN]:
        print(f"  {index.id(row)}: {reason}")
    if len(audit.bad) > BAD_SHOWN:
        print(f"  and {len(audit.bad) - BAD_SHOWN} more")
    contact_sheet(_examples(index, audit), output, title=root.resolve().name)
    of = f" of the first {CLASSES} classes" if len(index.classes) > CLASSES else ""
    print(f"contact sheet{of}: {output}")


def _counts(index: ImageIndex) -> Table:
    counts = index.counts()
    table = _table("class", *[split or "images" for split in counts.columns])
    for name, row in zip(counts.index, counts.to_numpy(), strict=True):
        table.add_row(str(name), *map(str, row))
    table.add_section()
    table.add_row("all", *map(str, counts.to_numpy().sum(axis=0)))
    return table


def _sizes(audit: Audit) -> Table:
    import numpy as np

    good = audit.sizes[audit.sizes[:, 0] > 0]
    table = _table("pixels", "min", "median", "max")
    for name, side in (("width", good[:, 0]), ("height", good[:, 1]), ("short side", good.min(axis=1))):
        table.add_row(name, str(side.min()), f"{np.median(side):g}", str(side.max()))
    return table


def _examples(index: ImageIndex, audit: Audit) -> dict[str, list]:
    """Sound images of each class, evenly spread over its rows."""
    import numpy as np
    from PIL import Image

    from resnet_tl.data.pixels.decode import decode

    examples = {}
    for label, name in enumerate(index.classes[:CLASSES]):
        rows = np.setdiff1d(np.flatnonzero(index.labels == label), list(audit.bad))
        chosen = rows[np.linspace(0, len(rows) - 1, min(PER_CLASS, len(rows))).round().astype(int)]
        images = [Image.fromarray(decode(index.path(int(row)))) for row in chosen]
        for image in images:
            image.thumbnail((THUMBNAIL, THUMBNAIL))
        examples[name] = [np.asarray(image) for image in images]
    return examples


def _table(first: str, *others: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(first, box=box.SIMPLE_HEAD)
    for name in others:
        is_number = name not in ("images", "licence", "here?") or first == "class"
        table.add_column(name, justify="right" if is_number else "left")
    return table


def _print(table: Table) -> None:
    from rich.console import Console

    Console(markup=False, emoji=False).print(table)
