"""The findings as a page with thumbnails: one HTML file that needs nothing else and runs nothing."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pandas as pd
from PIL import Image

from resnet_tl.data.index import ImageIndex
from resnet_tl.data.pixels.decode import BadImage, decode
from resnet_tl.data.quality.finding_kinds import KINDS
from resnet_tl.data.quality.findings import counts
from resnet_tl.files import write_text

SHOWN = 60
"""Findings of a kind that are drawn; the CSV file has all of them."""
SIDE = 150
"""Longest side of a thumbnail, in pixels."""
_SEVERITIES = {"stop": "stops a fit", "warning": "warning", "note": "note"}
_STYLE = """
:root { color-scheme: light dark; --ink: #20262e; --quiet: #68717c; --line: #d9dde2; --ground: #fff; --card: #f6f7f9;
  --stop: #b3261e; --warning: #9a6200; --note: #4a5a6b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --quiet: #9aa4af; --line: #3a424b; --ground: #15191d;
  --card: #1e242a; --stop: #ff8a80; --warning: #ffc257; --note: #a9b8c7; } }
body { margin: 0 auto; max-width: 1180px; padding: 28px 24px 60px; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 24px; margin: 0 0 2px; overflow-wrap: anywhere; } h2 { font-size: 18px; margin: 42px 0 0; }
p { margin: 2px 0 0; color: var(--quiet); max-width: 75ch; }
table { border-collapse: collapse; margin-top: 20px; }
td, th { text-align: left; padding: 5px 22px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; color: var(--quiet); font-size: 13px; } td.number { text-align: right; }
a { color: inherit; }
.stop, .warning, .note { font-size: 13px; font-weight: 600; white-space: nowrap; }
.stop { color: var(--stop); } .warning { color: var(--warning); } .note { color: var(--note); }
.cards { display: flex; flex-wrap: wrap; gap: 14px; margin-top: 14px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px; width: 160px; }
.card.pair { width: 334px; }
.images { display: flex; gap: 14px; justify-content: center; align-items: flex-start; }
figure { margin: 0; flex: 1; min-width: 0; text-align: center; }
img, .none { display: block; margin: 0 auto; max-width: 100%; height: 150px; object-fit: contain; }
.none { line-height: 150px; color: var(--quiet); font-size: 13px; }
figcaption, .detail { font-size: 12px; line-height: 1.35; overflow-wrap: anywhere; }
figcaption { margin-top: 6px; } .detail { color: var(--quiet); margin-top: 6px; text-align: center; }
figcaption small { display: block; color: var(--quiet); font-size: 12px; }
.go { color: var(--stop); font-weight: 600; }
ul { margin: 10px 0 0; padding-left: 20px; } li { overflow-wrap: anywhere; }
"""


def write_audit_page(findings: pd.DataFrame, index: ImageIndex, path: str | Path) -> None:
    """Writes the page; every name in it is escaped, and a policy in it forbids scripts and anything from outside.

    Args:
        findings: the table that `find_all` made of `index`.
        index: the images.
        path: of the HTML file.
    """
    title = html.escape(f"What the check of {index.root.name} found")
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; """
        """style-src 'unsafe-inline'">""",
        f"<title>{title}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{title}</h1>",
        f"<p>{html.escape(str(index.root))}: {html.escape(index.layout)}; {len(index)} images in "
        f"{len(index.classes)} classes.</p>",
        *_overview(findings),
        *(line for kind in counts(findings) for line in _section(kind, findings, index)),
        "</body></html>",
    ]
    write_text(path, "\n".join(parts) + "\n")


def _overview(findings: pd.DataFrame) -> Iterator[str]:
    number = counts(findings)
    if not number:
        yield "<p>Nothing was found.</p>"
        return
    excluded = findings.loc[findings["suggestion"] == "exclude", "path"].nunique()
    yield f"<p>{excluded} image{' is' if excluded == 1 else 's are'} suggested for exclusion.</p>"
    yield "<table><tr><th>finding</th><th>number</th><th></th><th>what to do</th></tr>"
    for kind, count in number.items():
        known = KINDS[kind]
        yield (
            f'<tr><td><a href="#{kind}">{html.escape(known.title)}</a></td><td class="number">{count}</td>'
            f"<td>{_badge(kind)}</td><td>{html.escape(known.advice)}</td></tr>"
        )
    yield "</table>"


def _section(kind: str, findings: pd.DataFrame, index: ImageIndex) -> Iterator[str]:
    of_kind = findings[findings["finding"] == kind]
    title = html.escape(KINDS[kind].title.capitalize())
    yield f'<h2 id="{kind}">{title} ({len(of_kind)}) {_badge(kind)}</h2><p>{html.escape(KINDS[kind].advice)}</p>'
    drawn = of_kind.head(SHOWN)
    if (of_kind["path"] == "").all():
        yield "<ul>" + "".join(f"<li>{html.escape(detail)}</li>" for detail in drawn["detail"]) + "</ul>"
    else:
        number = {path: row for row, path in enumerate(index.ids())}
        yield '<div class="cards">'
        for finding in drawn.itertuples():
            yield _card(finding, index, number)
        yield "</div>"
    if len(of_kind) > SHOWN:
        yield f"<p>The CSV file has the other {len(of_kind) - SHOWN}.</p>"


def _badge(kind: str) -> str:
    severity = KINDS[kind].severity
    return f'<span class="{severity}">{_SEVERITIES[severity]}</span>'


def _card(finding, index: ImageIndex, number: dict[str, int]) -> str:
    images = [_figure(finding.path, finding.suggestion == "exclude", index, number)]
    if finding.partner:
        images.append(_figure(finding.partner, False, index, number))
    pair = " pair" if finding.partner else ""
    detail = html.escape(finding.detail)
    return (
        f'<div class="card{pair}"><div class="images">{"".join(images)}</div><div class="detail">{detail}</div></div>'
    )


def _figure(path: str, goes: bool, index: ImageIndex, number: dict[str, int]) -> str:
    row = number[path]
    label, split = int(index.labels[row]), str(index.table["split"].iloc[row])
    facts = ", ".join(part for part in (index.classes[label] if label >= 0 else "", split) if part)
    go = ' <span class="go">exclude</span>' if goes else ""
    return (
        f"<figure>{_picture(index.path(row))}<figcaption>{html.escape(path)}{go}<small>{html.escape(facts)}</small>"
        "</figcaption></figure>"
    )


def _picture(path: Path) -> str:
    """A small JPEG inside the page, drawn anew: nothing of the file itself gets into it."""
    try:
        image = Image.fromarray(decode(path, 3, SIDE))
    except BadImage:
        return '<span class="none">cannot be shown</span>'
    image.thumbnail((2 * SIDE, 2 * SIDE))  # twice as fine as it is shown, for dense screens
    file = BytesIO()
    image.save(file, "JPEG", quality=80)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}">'
