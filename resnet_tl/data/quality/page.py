"""The findings as a page with thumbnails: one HTML file that needs nothing else and runs nothing."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path

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


def write_audit_page(
    findings: pd.DataFrame, index: ImageIndex, path: str | Path, value_range: ValueRange | None = None
) -> None:
    """Writes the page; every name in it is escaped, and a policy in it forbids scripts and anything from outside."""
    row_of = {name: row for row, name in enumerate(index.ids())}
    splits = index.table["split"].tolist()
    rows = [Finding(*row) for row in findings.itertuples(index=False)]

    def facts(name: str) -> str:
        label, split = int(index.labels[row_of[name]]), splits[row_of[name]]
        return ", ".join(part for part in (index.classes[label] if label >= 0 else "", split) if part)

    template = Environment(autoescape=True, trim_blocks=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    page = template.render(
        index=index,
        kinds=KINDS,
        findings={kind: [found for found in rows if found.finding == kind] for kind in counts(findings)},
        shown=SHOWN,
        excluded=findings.loc[findings["suggestion"] == "exclude", "path"].nunique(),
        facts=facts,
        jpeg=lambda name: _jpeg(index.path(row_of[name]), value_range),
    )
    write_text(path, page + "\n")


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
