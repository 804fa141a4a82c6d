"""The findings as a page with thumbnails: one HTML file that needs nothing else and runs nothing."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pandas as pd
from jinja2 import Environment
from PIL import Image

from resnet_tl.data.index import ImageIndex
from resnet_tl.data.pixels.decode import BadImage, decode
from resnet_tl.data.quality.finding_kinds import KINDS, Finding, Kind
from resnet_tl.data.quality.findings import counts
from resnet_tl.files import write_text

SHOWN = 60
"""Findings of a kind that are drawn; the CSV file has all of them."""
SIDE = 150
"""Longest side of a thumbnail, in pixels."""
TEMPLATE = Path(__file__).with_name("page.html")


@dataclass(frozen=True)
class _Section:
    """The findings of one kind: how many there are, and the first of them."""

    name: str
    kind: Kind
    number: int
    findings: list[Finding]


@dataclass(frozen=True)
class _Figure:
    """A picture in base64, "" where it cannot be decoded, and what is known of it."""

    jpeg: str
    facts: str


def write_audit_page(findings: pd.DataFrame, index: ImageIndex, path: str | Path) -> None:
    """Writes the page; every name in it is escaped, and a policy in it forbids scripts and anything from outside.

    Args:
        findings: the table that `find_all` made of `index`.
        index: the images.
        path: of the HTML file.
    """
    sections = []
    for name, number in counts(findings).items():
        first = findings[findings["finding"] == name].head(SHOWN)
        rows = [Finding(*row) for row in first.itertuples(index=False)]
        sections.append(_Section(name, KINDS[name], number, rows))
    number_of = {name: row for row, name in enumerate(index.ids())}
    template = Environment(autoescape=True, trim_blocks=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    page = template.render(
        index=index,
        sections=sections,
        excluded=findings.loc[findings["suggestion"] == "exclude", "path"].nunique(),
        figures=lambda name: _figure(index, number_of[name]),
    )
    write_text(path, page + "\n")


def _figure(index: ImageIndex, row: int) -> _Figure:
    label, split = int(index.labels[row]), str(index.table["split"].iloc[row])
    facts = ", ".join(part for part in (index.classes[label] if label >= 0 else "", split) if part)
    return _Figure(_jpeg(index.path(row)), facts)


def _jpeg(path: Path) -> str:
    """A small JPEG, encoded again: nothing of the file itself gets into the page."""
    try:
        image = Image.fromarray(decode(path, 3, SIDE))
    except BadImage:
        return ""
    image.thumbnail((2 * SIDE, 2 * SIDE))  # twice as fine as it is shown, for dense screens
    file = BytesIO()
    image.save(file, "JPEG", quality=80)
    return base64.b64encode(file.getvalue()).decode()
