"""`resnet-tl data check ROOT`: what is wrong with a data set, as a table, a page and a CSV file to act on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_tl.cli.reading_options import add_list_options, add_reading_options, in_own_words
from resnet_tl.cli.tables import print_table
from resnet_tl.errors import UserError
from resnet_tl.files import check_report

if TYPE_CHECKING:
    import pandas as pd

    from resnet_tl.data.index import ImageIndex
    from resnet_tl.data.quality.audit import Audit
    from resnet_tl.data.quality.findings import Finding
    from resnet_tl.data.reading.options import Reading

HELP = """Reads ROOT as `fit --data.root ROOT` would, decodes every image once and reports what it finds:

  files     that cannot be used as images
  pictures  more than once: in one split, in two splits (a leak), with two labels; equal or nearly so
  classes   names hard to tell apart, few images, groups in two splits

It writes FOLDER/findings.html, a page with thumbnails, and FOLDER/findings.csv, with the columns path, finding, detail,
partner and suggestion. Edit the CSV file or take it as it is: `fit --data.exclude FOLDER/findings.csv` leaves out the
images whose suggestion is exclude. These are files that cannot be used, second copies within train, those copies that
keep val and test as they are when they go, and all copies of one picture with two labels.

The exit code is 0 when a fit would start, 1 when something was found that stops it, 2 when ROOT cannot be read."""
EXAMPLES = """examples:
  resnet-tl data check photos
  resnet-tl data check photos.zip --output checked
  resnet-tl data check photos --exclude checked/findings.csv --output checked_again"""


def add_check(verbs: argparse._SubParsersAction) -> None:
    """Adds the verb and its options to `resnet-tl data`."""
    check = verbs.add_parser(
        "check",
        help="what is wrong: bad files, duplicates, leaks, classes",
        description=HELP,
        epilog=EXAMPLES,
        allow_abbrev=False,
    )
    check.add_argument("root", type=Path, metavar="ROOT", help="a folder of images, a .zip of one, or a table of them")
    add_reading_options(check)
    check.add_argument("--output", type=Path, default=Path(), metavar="FOLDER", help="default: the current one")
    add_list_options(check)


def check_images(root: Path, output: Path, exclude: str | None, relabel: str | None, reading: Reading) -> int:
    """Checks, writes and prints; 1 when something was found that stops a fit."""
    page, table = output / "findings.html", output / "findings.csv"
    check_report(table, page)

    from resnet_tl.data.content_hashes import hashes_and_headers
    from resnet_tl.data.quality.audit import audit_images
    from resnet_tl.data.quality.duplicates import find_duplicates
    from resnet_tl.data.quality.findings import find_all, stops, write_findings
    from resnet_tl.data.quality.page import write_audit_page
    from resnet_tl.data.reading.exclude import without_excluded
    from resnet_tl.data.reading.layouts import read_images
    from resnet_tl.data.reading.relabel import relabelled
    from resnet_tl.data.value_range import find_value_range, in_words

    with in_own_words(root=""):
        index = read_images(root, reading=reading)
        if relabel:
            index = relabelled(index, relabel)
        if exclude:
            index = without_excluded(index, exclude)
    contents, _, kinds = hashes_and_headers(index)
    audit = audit_images(index, contents, value_range=find_value_range(index, contents, kinds))
    duplicates = find_duplicates(index, contents, audit)
    findings = find_all(index, audit, contents, duplicates, _no_split(index, audit))
    _print(index, findings)
    if said := in_words(kinds, audit.value_range):
        print(said)
    write_findings(findings, table)
    write_audit_page(findings, index, page, audit.value_range)  # the later one: a table younger than it was edited
    print(f"{page}\n{table}")
    return 1 if stops(findings) else 0


def _no_split(index: ImageIndex, audit: Audit) -> list[Finding]:
    """What keeps a fit from splitting off images to validate with."""
    from resnet_tl.data.quality.findings import Finding
    from resnet_tl.data.splits import assign_splits

    try:
        assign_splits(index.without(list(audit.bad)), groups_may_span=True)
    except UserError as error:
        return [Finding("", "cannot_split", str(error).removeprefix(f"{index.root}: "))]
    return []


def _print(index: ImageIndex, findings: pd.DataFrame) -> None:
    from rich.text import Text

    from resnet_tl.data.quality.findings import KINDS, counts

    print(f"{index.root}: {index.layout}; {len(index)} images, {len(index.classes)} classes")
    if not len(findings):
        print("nothing was found")
        return
    colours = {"stop": "red", "warning": "yellow", "note": "dim"}
    rows = []
    for name, count in counts(findings).items():
        kind, first = KINDS[name], findings[findings["finding"] == name].iloc[0]
        example = " and ".join(part for part in (first["path"], first["partner"]) if part) or first["detail"]
        rows.append([Text(kind.severity, colours[kind.severity]), kind.title, str(count), example, kind.advice])
    print_table(["", "finding", "number", "for example", "what to do"], rows, numbers=["number"])
