"""`resnet-tl data`: known data sets, fetching one, a look at any folder of images, or a check of it or its labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from resnet_tl.cli.arguments import CommandParser
from resnet_tl.cli.data_check import add_check, check_images
from resnet_tl.cli.data_suspects import add_suspects, find_suspects
from resnet_tl.cli.reading_options import add_reading_options, in_own_words, reading_of
from resnet_tl.cli.tables import print_table
from resnet_tl.errors import UserError, printable
from resnet_tl.files import check_target

if TYPE_CHECKING:
    import pandas as pd

    from resnet_tl.data.index import ImageIndex
    from resnet_tl.data.quality.audit import Audit
    from resnet_tl.data.reading.options import Reading

EPILOG = """examples:
  resnet-tl data list
  resnet-tl data fetch seedlings_sample
  resnet-tl data fetch hymenoptera --to data
  resnet-tl data show data/hymenoptera --output sheet.png
  resnet-tl data show photos.zip
  resnet-tl data check photos
  resnet-tl data suspects photos"""

CLASSES = 100
"""On the contact sheet: more make a picture that no program opens."""
PER_CLASS = 10
"""Images of each class on a contact sheet."""
THUMBNAIL = 256
"""Longest side in pixels that a contact sheet is given; keeps large photos out of memory."""
BAD_SHOWN = 20


def main(argv: list[str]) -> int:
    """Lists, fetches, shows, checks or judges."""
    parser = CommandParser(
        prog="resnet-tl data",
        description="Known data sets, and a look at your own.",
        epilog=EPILOG,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="list | fetch | show | check | suspects")
    verbs.add_parser("list", help="the data sets that fetch knows", allow_abbrev=False)
    get = verbs.add_parser("fetch", help="get one; prints its folder", allow_abbrev=False)
    get.add_argument("name", metavar="NAME", help="a name from `resnet-tl data list`")
    get.add_argument("--to", type=Path, metavar="FOLDER", help="make FOLDER/NAME; by default it goes to the cache")
    show = verbs.add_parser("show", help="count, check and draw a contact sheet", allow_abbrev=False)
    show.add_argument("root", type=Path, metavar="ROOT", help="a folder of images, a .zip of one, or a table of them")
    add_reading_options(show)
    show.add_argument(
        "--output", type=Path, default=Path("contact_sheet.png"), metavar="FILE", help="default: %(default)s"
    )
    add_check(verbs)
    add_suspects(verbs)
    arguments = parser.parse_args(argv)
    if arguments.verb == "suspects":
        return find_suspects(arguments)
    if arguments.verb == "check":
        reading = reading_of(arguments, on_bad_image="skip")  # what is not there is found and counted
        return check_images(arguments.root, arguments.output, arguments.exclude, arguments.relabel, reading)
    if arguments.verb == "list":
        _list()
    elif arguments.verb == "fetch":
        from resnet_tl.data.reading.catalog import fetch

        print(fetch(arguments.name, arguments.to))
    else:
        _show(arguments.root, arguments.output, reading_of(arguments, on_bad_image="skip"))
    return 0


def _list() -> None:
    from resnet_tl.data.reading.catalog import SOURCES, is_present, root_of

    rows = []
    for name, source in SOURCES.items():
        size = f"{source.size_mb:.0f} MB" if source.size_mb else "built in"
        rows.append([name, source.images, size, source.licence, "yes" if is_present(name) else "no"])
    print_table(["name", "images", "size", "licence", "here?"], rows, numbers=["size"])
    print(f"Fetched data sets go to {root_of('')}.")


def _show(root: Path, output: Path, reading: Reading) -> None:
    import pandas as pd

    from resnet_tl.data.content_hashes import hashes_and_headers
    from resnet_tl.data.index import NOT_THERE
    from resnet_tl.data.quality.audit import audit_images
    from resnet_tl.data.reading.layouts import read_images
    from resnet_tl.data.value_range import find_value_range, in_words
    from resnet_tl.evaluation.figures import contact_sheet

    check_target(output, ".png")
    with in_own_words(root=""):
        index = read_images(root, reading=reading)
    if output.resolve() in {index.path(row).resolve() for row in range(len(index))}:
        raise UserError(f"{output} is one of the images; choose another --output.")
    hashes, _, kinds = hashes_and_headers(index)
    audit = audit_images(index, hashes, value_range=find_value_range(index, hashes, kinds))
    print(f"{index.root}: {index.layout}; {len(index)} images, {len(index.classes)} classes")
    for kind, detail in index.doubts:
        if kind in ("structure", "lost_class"):  # others stand in the line above
            print(f"note: {detail}")
    counts = index.counts()
    _print_frame("class", pd.concat([counts, counts.sum().to_frame("all").T]))
    if len(good := audit.sizes[audit.sizes[:, 0] > 0]):
        sides = {"width": good[:, 0], "height": good[:, 1], "short side": good.min(axis=1)}
        _print_frame("pixels", pd.DataFrame(sides).agg(["min", "median", "max"]).T)
    if said := in_words(kinds, audit.value_range):
        print(said)
    bad = [f"{index.id(row)}: {reason}" for row, reason in audit.bad.items()]
    bad += [f"{name}: {NOT_THERE}" for name in index.missing]
    print(f"bad images: {len(bad)}")
    for line in bad[:BAD_SHOWN]:
        print(printable(f"  {line}"))
    if len(bad) > BAD_SHOWN:
        print(f"  and {len(bad) - BAD_SHOWN} more")
    contact_sheet(_examples(index, audit), output, title=root.resolve().name)
    of = f" of the first {CLASSES} classes" if len(index.classes) > CLASSES else ""
    print(f"contact sheet{of}: {output}")


def _print_frame(first: str, frame: pd.DataFrame) -> None:
    rows = [[str(name), *(f"{number:.9g}" for number in numbers)] for name, *numbers in frame.itertuples()]
    print_table([first, *frame.columns], rows, numbers=frame.columns)


def _examples(index: ImageIndex, audit: Audit) -> dict[str, list]:
    """Sound images of each class, evenly spread over its rows."""
    import numpy as np
    from PIL import Image

    from resnet_tl.data.pixels.decode import decode

    examples = {}
    for label, name in enumerate(index.classes[:CLASSES]):
        rows = np.setdiff1d(np.flatnonzero(index.labels == label), list(audit.bad))
        chosen = rows[np.linspace(0, len(rows) - 1, min(PER_CLASS, len(rows))).round().astype(int)]
        images = [Image.fromarray(decode(index.path(int(row)), 3, THUMBNAIL, audit.value_range)) for row in chosen]
        for image in images:
            image.thumbnail((THUMBNAIL, THUMBNAIL))
        examples[name] = [np.asarray(image) for image in images]
    return examples
