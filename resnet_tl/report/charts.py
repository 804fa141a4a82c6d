"""The charts of a page as SVG: curves, intervals, bars, a reliability diagram, a map of points, a heat map.

Every text in them is escaped. Colours are those of the page, light or dark; what a colour says is also said by a shape
or by a word. Widths and heights are in the units of the drawing, which on a phone are about pixels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup, escape

from resnet_tl.errors import printable
from resnet_tl.evaluation.figures import shorten
from resnet_tl.evaluation.intervals import Estimate, wilson
from resnet_tl.files import write_text

WIDTH = 360
STYLE = Path(__file__).with_name("templates") / "charts.css"
LIGHT = {"ground": "#ffffff", "ink": "#20262e", "quiet": "#5c6570", "line": "#d9dde2", "accent": "#1f6fb2"}
LIGHT |= {"other": "#6b7785", "wrong": "#b3261e"}
HUES = ("#1f6fb2", "#c2571a", "#2e8540", "#8e44ad", "#b8860b", "#c2185b", "#00838f", "#6d4c41")
"""Of the classes on a map; with the shapes they make 48 different marks."""
SHAPES = (
    "M-3.2 0a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0-6.4 0",  # circle
    "M-3-3h6v6h-6z",  # square
    "M0-4L4 3H-4z",  # triangle
    "M0-4.2L4.2 0L0 4.2L-4.2 0z",  # diamond
    "M0 4L4-3H-4z",  # triangle on its tip
    "M-1.2-4h2.4v2.8h2.8v2.4h-2.8v2.8h-2.4v-2.8h-2.8v-2.4h2.8z",  # cross
)


MOST_CELLS = 2000
"""Of a heat map, that say their classes and lead to their images."""


@dataclass(frozen=True)
class Line:
    """One curve of a chart: its name, its points, and whether it is the one that matters."""

    name: str
    points: tuple[tuple[float, float], ...]
    is_main: bool = True


def line_chart(
    title: str,
    lines: Sequence[Line],
    value: Callable[[float], str],
    *,
    x_title: str = "epoch",
    marked: tuple[float, str] | None = None,
    phases: Sequence[tuple[float, str]] = (),
) -> Markup:
    """Curves over whole numbers; `marked` is an upright line with its name, `phases` are the first x of each."""
    height, left, right, top, bottom = 230, 44, WIDTH - 76, 26, 196
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    low, high, ticks = _ticks(min(ys), max(ys))
    first, last = min(xs) - 0.4, max(xs) + 0.4

    def x_of(x: float) -> float:
        return left + (x - first) / (last - first) * (right - left)

    def y_of(y: float) -> float:
        return bottom - (y - low) / (high - low) * (bottom - top)

    parts = [_text(left, 12, title, "heading")]
    for tick in ticks:
        parts += [_rule(left, y_of(tick), right, y_of(tick), "grid"), _end(left - 6, y_of(tick) + 4, value(tick))]
    step = max(1, math.ceil((max(xs) - min(xs)) / 6))
    parts += [_text(x_of(x), bottom + 15, f"{x:g}", "tick middle") for x in np.arange(min(xs), max(xs) + 0.5, step)]
    parts.append(_text((left + right) / 2, height - 4, x_title, "tick middle"))
    for x, name in phases:
        if x > min(xs):
            parts.append(_rule(x_of(x - 0.5), top, x_of(x - 0.5), bottom, "phase"))
        parts.append(_text(x_of(x - 0.5) + 3, top + 9, shorten(name, 16), "small"))
    if marked:
        parts.append(_rule(x_of(marked[0]), top, x_of(marked[0]), bottom, "marked"))
        place = x_of(marked[0])
        anchor = "small accent" if place < (left + right) / 2 else "small accent end"
        parts.append(_text(place + (4 if anchor == "small accent" else -4), bottom - 5, marked[1], anchor))
    ends = _apart([y_of(line.points[-1][1]) for line in lines], 12)
    for line, end in zip(lines, ends, strict=True):
        kind = "main" if line.is_main else "other"
        path = "M" + "L".join(f"{x_of(x):.1f} {y_of(y):.1f}" for x, y in line.points)
        parts.append(f'<path class="curve {kind}" d="{path}"/>')
        if len(line.points) <= 30:
            parts += [_mark(x_of(x), y_of(y), SHAPES[0 if line.is_main else 1], kind) for x, y in line.points]
        parts.append(_text(right + 6, end + 4, line.name, f"small {kind}"))
    return _svg(height, f"{title} by {x_title}: {', '.join(line.name for line in lines)}", parts)


def interval_chart(title: str, rows: Sequence[tuple[str, Estimate]]) -> Markup:
    """Shares with their 95 % intervals, the first one the one that matters; from below the lowest to 100 %."""
    low, _, ticks = _ticks(max(0.0, min(min(estimate) for _, estimate in rows) - 0.02), 1)
    return _ranges(title, rows, low, 1, ticks, " %", lambda place: place == 0)


def difference_chart(rows: Sequence[tuple[str, Estimate]]) -> Markup:
    """Differences of shares with their 95 % intervals, in points; the ones that matter are those without 0."""
    ends = [end for _, estimate in rows for end in estimate]
    low, high, ticks = _ticks(min(0.0, *ends), max(0.0, *ends))
    return _ranges(
        "Difference", rows, low, high, ticks, "", lambda place: not rows[place][1].low <= 0 <= rows[place][1].high
    )


def _ranges(
    title: str,
    rows: Sequence[tuple[str, Estimate]],
    low: float,
    high: float,
    ticks: Sequence[float],
    unit: str,
    is_main: Callable[[int], bool],
) -> Markup:
    height, left, right = 34 + 30 * len(rows), 152, WIDTH - 20

    def x_of(share: float) -> float:
        return left + (share - low) / (high - low) * (right - left)

    parts = []
    for tick in ticks:
        parts.append(_rule(x_of(tick), 4, x_of(tick), height - 26, "grid" if tick or unit else "phase"))
        parts.append(_text(x_of(tick), height - 10, f"{round(100 * tick, 6):g}{unit}", "tick middle"))
    for place, (name, (share, start, end)) in enumerate(rows):
        y, kind = 20 + 30 * place, "main" if is_main(place) else "other"
        parts.append(_text(left - 10, y + 4, shorten(name, 19), f"small {kind} end"))
        parts.append(_rule(x_of(start), y, x_of(end), y, f"range {kind}"))
        parts.append(_mark(x_of(share), y, SHAPES[0 if is_main(place) else 1], kind))
    said = "; ".join(f"{name} {100 * share:.1f}{unit} [{100 * a:.1f}, {100 * b:.1f}]" for name, (share, a, b) in rows)
    return _svg(height, f"{title}: {said}", parts)


def bar_chart(title: str, rows: Sequence[tuple[str, float, str]]) -> Markup:
    """Amounts as bars, each with its name and the amount as a text."""
    height, left, right = 22 * len(rows) + 4, 172, WIDTH - 76
    most = max((amount for _, amount, _ in rows), default=0) or 1
    parts = []
    for place, (name, amount, text) in enumerate(rows):
        y, width = 4 + 22 * place, amount / most * (right - left)
        parts.append(_end(left - 8, y + 12, shorten(name, 28)))
        parts.append(f'<rect class="bar" x="{left}" y="{y + 2}" width="{width:.1f}" height="13"/>')
        parts.append(_text(left + width + 6, y + 12, text, "small"))
    return _svg(height, f"{title}: {'; '.join(f'{name} {text}' for name, _, text in rows)}", parts)


def reliability_diagram(bins: Sequence[tuple[str, np.ndarray]]) -> Markup:
    """How often the model is right over how sure it is, for each of some `calibration.reliability` (B, 3).

    The first is the one that matters; on the diagonal it is as often right as it says.
    """
    left, right, top = 44, WIDTH - 12, 28 + 16 * len(bins)
    bottom = top + right - left
    height = bottom + 46
    ranges = [wilson(round(share * images), int(images)) for images, _, share in bins[0][1]]
    lowest = min(*(float(found[:, 1:].min()) for _, found in bins), *(start for start, _ in ranges))
    low, _, ticks = _ticks(max(0.0, lowest), 1)

    def at(sure: float, share: float) -> tuple[float, float]:
        scale = 1 / (1 - low)
        return left + (sure - low) * scale * (right - left), bottom - (share - low) * scale * (bottom - top)

    parts = []
    for tick in ticks:
        (x, y), text = at(tick, tick), f"{100 * tick:g}"
        parts += [_rule(left, y, right, y, "grid"), _end(left - 6, y + 4, text)]
        parts.append(_text(x, bottom + 16, text, "tick end" if tick == 1 else "tick middle"))
    parts.append(_rule(*at(low, low), *at(1, 1), "even"))
    for place, (name, found) in reversed(list(enumerate(bins))):
        kind, shape = ("main", SHAPES[0]) if place == 0 else ("other", SHAPES[1])
        for number, (_, sure, share) in enumerate(found):
            x, y = at(sure, share)
            if place == 0:
                bottom_end, top_end = (at(sure, end)[1] for end in ranges[number])
                parts.append(_rule(x, bottom_end, x, top_end, f"range {kind}"))
            parts.append(_mark(x, y, shape, kind))
        parts.append(_mark(left, 8 + 16 * place, shape, kind))
        parts.append(_text(left + 10, 12 + 16 * place, name, f"small {kind}"))
    parts.append(_text((left + right) / 2, bottom + 34, "how sure the model is, %", "tick middle"))
    parts.append(_text(left - 36, top - 10, "how often it is right, %", "tick"))
    return _svg(height, "Reliability: how often the model is right over how sure it is", parts)


def point_map(
    x: np.ndarray, y: np.ndarray, labels: np.ndarray, classes: Sequence[str], names: Sequence[str], wrong: np.ndarray
) -> Markup:
    """A map of images: colour and shape are the class, a ring is a mistake, and each point says its name.

    The class's own name stands where the middle of its points is, for up to 30 classes.
    """
    height, margin = WIDTH, 14
    spans = [max(float(np.ptp(values)), 1e-9) for values in (x, y)]
    xs = margin + (x - x.min()) / spans[0] * (WIDTH - 2 * margin)
    ys = height - margin - (y - y.min()) / spans[1] * (height - 2 * margin)
    parts, written = [], []
    for number, name in enumerate(classes):
        rows = np.flatnonzero(labels == number)
        if not len(rows):
            continue
        parts.append(f'<g class="class" data-class="{number}" fill="{HUES[number % len(HUES)]}">')
        shape = _shape_of(number)
        for row in rows.tolist():
            ring = '<circle class="ring" r="6"/>' if wrong[row] else ""
            parts.append(
                f'<g transform="translate({xs[row]:.1f} {ys[row]:.1f})"><path d="{shape}"/>{ring}'
                f"<title>{_escaped(names[row])}</title></g>"
            )
        parts.append("</g>")
        written.append((float(np.median(xs[rows])), float(np.median(ys[rows])), name))
    if len(written) <= 30:
        heights = _apart([place[1] for place in written], 11)
        for (middle, _, name), level in zip(written, heights, strict=True):
            parts.append(_text(min(max(middle, 40), WIDTH - 40), level + 4, shorten(name, 20), "label middle"))
    return _svg(height, "Map of the images", parts, role="group")


def mark_of(number: int) -> Markup:
    """The mark of a class on a map, for its legend."""
    return Markup(
        f'<svg class="sign" viewBox="-6 -6 12 12" aria-hidden="true"><path fill="{HUES[number % len(HUES)]}" '
        f'd="{_shape_of(number)}"/></svg>'
    )


def heat_map(counts: np.ndarray, classes: Sequence[str], linked: Callable[[int, int], str] = lambda i, j: "") -> Markup:
    """Counts (C, C) of labels (rows) and predictions (columns) as shades of a row's share; only what is not 0.

    `linked` of a row and a column is where a click on the cell leads, "" for nowhere.
    """
    number, left, top = len(classes), 26, 24
    side = (WIDTH - left - 2) / number
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    parts = [
        _text(left, 12, "predicted →", "small"),
        f'<text class="small end" transform="translate(14 {top}) rotate(-90)">← label</text>',
        f'<rect class="edge" x="{left}" y="{top}" width="{side * number:.2f}" height="{side * number:.2f}"/>',
    ]
    cells = np.argwhere(counts).tolist()
    if len(cells) > MOST_CELLS:
        parts += _shades(cells, shares, side, left, top)
        cells = []
    for row, column in cells:
        kind = "right" if row == column else "wrong"
        title = f"{classes[row]} → {classes[column]}: {counts[row, column]}"
        cell = (
            f'<rect class="cell {kind}" x="{left + column * side:.2f}" y="{top + row * side:.2f}" width="{side:.2f}" '
            f'height="{side:.2f}" fill-opacity="{0.15 + 0.85 * shares[row, column]:.2f}">'
            f"<title>{_escaped(title)}</title></rect>"
        )
        link = linked(row, column)
        parts.append(f'<a href="#{link}" aria-label="{_escaped(title)}">{cell}</a>' if link else cell)
    return _svg(top + side * number + 2, "Confusion matrix: rows are labels, columns predictions", parts, role="group")


def _shades(cells: Sequence[Sequence[int]], shares: np.ndarray, side: float, left: float, top: float) -> list[str]:
    """So many cells that each for itself would make the page large: one path for each of ten shades."""
    paths: dict[tuple[str, int], list[str]] = {}
    for row, column in cells:
        kind, shade = "right" if row == column else "wrong", math.ceil(10 * float(shares[row, column]))
        place = f"M{left + column * side:.1f} {top + row * side:.1f}h{side:.2f}v{side:.2f}h-{side:.2f}z"
        paths.setdefault((kind, shade), []).append(place)
    return [
        f'<path class="cell {kind}" fill-opacity="{0.15 + 0.085 * shade:.2f}" d="{"".join(places)}"/>'
        for (kind, shade), places in paths.items()
    ]


def write_svg(chart: Markup, path: str | Path) -> None:
    """A chart as a file of its own, in the light colours."""
    style = re.sub(r"var\(--(\w+)\)", lambda found: LIGHT[found[1]], STYLE.read_text(encoding="utf-8"))
    ground = '<rect width="100%" height="100%" fill="#ffffff"/>'
    head, _, rest = str(chart).partition(">")
    head = head.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" width="720" ', 1)
    write_text(path, f"{head}><style>{style}</style>{ground}{rest}\n")


def _shape_of(number: int) -> str:
    """That of a class on a map: eight neighbours have eight colours, and the next eight have these in other shapes."""
    hue, turn = number % len(HUES), number // len(HUES)
    return SHAPES[(hue + turn) % len(SHAPES)]


def _ticks(low: float, high: float) -> tuple[float, float, list[float]]:
    """Round numbers, about four, and the range that they span."""
    span = (high - low) or abs(high) or 1.0
    size = 10 ** math.floor(math.log10(span / 4))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if span / (size * factor) <= 4.5)
    start, end = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    end = max(end, start + 1)
    return start * step, end * step, [number * step for number in range(start, end + 1)]


def _apart(places: Sequence[float], distance: float) -> list[float]:
    """The places, moved down where two would be nearer than a distance."""
    moved, last = list(places), -math.inf
    for place in sorted(range(len(places)), key=places.__getitem__):
        moved[place] = last = max(places[place], last + distance)
    return moved


def _escaped(text: object) -> str:
    return str(escape(printable(text)))


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{_escaped(text)}</text>'


def _end(x: float, y: float, text: str) -> str:
    return _text(x, y, text, "tick end")


def _rule(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _mark(x: float, y: float, shape: str, kind: str) -> str:
    return f'<path class="mark {kind}" transform="translate({x:.1f} {y:.1f})" d="{shape}"/>'


def _svg(height: float, title: str, parts: Iterable[str], role: str = "img") -> Markup:
    return Markup(
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="{role}" aria-label="{_escaped(title)}">{"".join(parts)}</svg>'
    )
