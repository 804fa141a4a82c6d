"""A page with thumbnails, such as of the findings: one HTML file that needs nothing else and runs nothing."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from jinja2 import Environment
from PIL import Image

from resnet_tl.data.index import ImageIndex
from resnet_tl.data.pixels.decode import BadImage, decode
from resnet_tl.data.pixels.deep import ValueRange
from resnet_tl.data.quality.findings import KINDS, Finding, counts
from resnet_tl.files import write_text

SHOWN = 60
"""Findings of a kind that are drawn; the CSV file has all of them."""
SIDE = 150
"""Longest side of a thumbnail, in pixels."""
TEMPLATE = Path(__file__).with_name("page.html")


class Picture(NamedTuple):
    """An image of a card, by its path in the index, with what stands below it."""

    path: str
    facts: str
    flag: str = ""


class Card(NamedTuple):
    """One picture, or two side by side, and a line on them."""

    pictures: list[Picture]
    detail: str


class Section(NamedTuple):
    """A heading with cards, or with plain lines; `total` may be more than are shown."""

    title: str
    advice: str
    total: int
    severity: str = ""
    cards: Sequence[Card] = ()
    lines: Sequence[str] = ()


def write_page(
    path: str | Path,
    index: ImageIndex,
    title: str,
    lines: Sequence[str],
    what: str,
    sections: Sequence[Section],
    value_range: ValueRange | None = None,
) -> None:
    """Writes a page; every name in it is escaped, and a policy in it forbids scripts and anything from outside.

    `what` the sections are stands above the table of them.
    """
    row_of = {name: row for row, name in enumerate(index.ids())}
    template = Environment(autoescape=True, trim_blocks=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    page = template.render(
        title=title,
        lines=lines,
        what=what,
        sections=sections,
        jpeg=lambda name: _jpeg(index.path(row_of[name]), value_range),
    )
    write_text(path, page + "\n")


def write_audit_page(
    findings: pd.DataFrame, index: ImageIndex, path: str | Path, value_range: ValueRange | None = None
) -> None:
    """Writes the page of the findings."""
    row_of = {name: row for row, name in enumerate(index.ids())}
    splits = index.table["split"].tolist()
    rows = [Finding(*row) for row in findings.itertuples(index=False)]

    def facts(name: str) -> str:
        label, split = int(index.labels[row_of[name]]), splits[row_of[name]]
        return ", ".join(part for part in (index.classes[label] if label >= 0 else "", split) if part)

    def card(found: Finding) -> Card:
        first = Picture(found.path, facts(found.path), "exclude" if found.suggestion == "exclude" else "")
        partner = [Picture(found.partner, facts(found.partner))] if found.partner else []
        return Card([first, *partner], found.detail)

    def section(name: str) -> Section:
        kind, of_kind = KINDS[name], [found for found in rows if found.finding == name]
        shown = of_kind[:SHOWN]
        content = {"cards": [*map(card, shown)]} if of_kind[0].path else {"lines": [found.detail for found in shown]}
        return Section(kind.title, kind.advice, len(of_kind), kind.severity, **content)

    excluded = findings.loc[findings["suggestion"] == "exclude", "path"].nunique()
    are = "image is" if excluded == 1 else "images are"
    found = f"{excluded} {are} suggested for exclusion." if rows else "Nothing was found."
    images = f"{index.root}: {index.layout}; {len(index)} images in {len(index.classes)} classes."
    title = f"What the check of {index.root.name} found"
    sections = [section(name) for name in counts(findings)]
    write_page(path, index, title, [images, found], "finding", sections, value_range)


def _jpeg(path: Path, value_range: ValueRange | None) -> str:
    """A small JPEG in base64, encoded again: nothing of the file itself gets into the page; "" for a bad image."""
    try:
        image = Image.fromarray(decode(path, 3, SIDE, value_range))
    except BadImage:
        return ""
    image.thumbnail((2 * SIDE, 2 * SIDE))  # twice as fine as it is shown, for dense screens
    file = BytesIO()
    image.save(file, "JPEG", quality=80)
    return base64.b64encode(file.getvalue()).decode()
