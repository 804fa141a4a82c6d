"""A picture of a network from top to bottom: its stages, the blocks in them, and the shapes between them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from resnet_tl.errors import UserError
from resnet_tl.files import replacing
from resnet_tl.networks.cost import stage_costs, with_unit
from resnet_tl.networks.outline import Row, outline
from resnet_tl.networks.stages import StagedNetwork

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, QUIET, EDGE, ARROW = "#20262e", "#66707c", "#b9c4d0", "#7a8794"
STAGE, HEAD, END, BLOCK = "#e8f0f8", "#fbeede", "#eceef1", "#ffffff"

# All in inches.
ROW, GAP, PAD, MARGIN = 0.34, 0.2, 0.15, 0.2
TITLE = 0.72
LEFT = MARGIN + PAD + 1.62  # of the rows, beside the name and cost of their stage
LETTER = 0.074  # width of a letter in a row
SHEET = 0.045  # how far the sheet behind a run of equal blocks is seen


def draw_network(network: StagedNetwork, image_size: int, path: str | Path) -> None:
    """Draws the network for square images as `path`, a PNG or SVG by its suffix.

    A tinted box is a stage, with its parameters and its multiply-adds for one image. A row in it is a layer or block
    with its output shape, channels first; `× 5` stands for five equal ones. UserError for another suffix, or a size
    that the network does not take.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    path = Path(path)
    check_suffix(path)
    costs = {cost.name: cost for cost in stage_costs(network, image_size)}
    image = Row(("image",), (), (network.in_chans, image_size, image_size))
    logits = Row(("logits",), (), costs["head"].output_shape)
    parts = {"image": [image], **outline(network, image_size), "logits": [logits]}
    every = [row for rows in parts.values() for row in rows]
    columns = max(len(row.labels) for row in every)
    widest = max(LETTER * len(label + _shape(row)) for row in every for label in _labels(row)) + 0.55
    inner = max(columns * (widest + GAP) - GAP, 3.4)
    width = LEFT + inner + PAD + MARGIN

    figure = Figure()
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    totals = _cost(sum(cost.parameters for cost in costs.values()), sum(cost.multiply_adds for cost in costs.values()))
    axes.text(MARGIN, 0.27, network.name, fontsize=13, fontweight="bold", color=INK, va="center")
    axes.text(MARGIN, 0.51, f"{', '.join(totals)} at {image_size} px", fontsize=8.5, color=QUIET, va="center")
    y = TITLE
    above: list[tuple[float, float]] = []
    for name, rows in parts.items():
        top, pad = y, PAD if name in costs else 0
        y += pad
        for row in rows:
            above = _draw_row(axes, row, y, inner, above, BLOCK if name in costs else END)
            y += ROW + GAP
        y += pad
        if name in costs:
            _box(axes, MARGIN, top, width - 2 * MARGIN, y - GAP - top, HEAD if name == "head" else STAGE, "none", 0)
            middle = (top + y - GAP) / 2
            axes.text(MARGIN + PAD, middle - 0.15, name, fontsize=9.5, fontweight="bold", color=INK, va="center")
            for i, line in enumerate(_cost(costs[name].parameters, costs[name].multiply_adds)):
                axes.text(MARGIN + PAD, middle + 0.02 + 0.14 * i, line, fontsize=7.5, color=QUIET, va="center")
    height = y - GAP + MARGIN
    figure.set_size_inches(width, height)
    axes.set(xlim=(0, width), ylim=(height, 0))
    # Text of an SVG stays text, and two drawings of one network are the same file.
    with replacing(path) as temporary, rc_context({"svg.fonttype": "none", "svg.hashsalt": "resnet-tl"}):
        kind = path.suffix[1:].lower()
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(temporary, format=kind, dpi=150, facecolor="white", metadata=metadata)


def check_suffix(path: Path) -> None:
    """Raises UserError unless it is that of a PNG or SVG."""
    if path.suffix.lower() not in (".png", ".svg"):
        raise UserError(f"A diagram is a .png or .svg file, but {path} was given.")


def _draw_row(
    axes: Axes, row: Row, y: float, inner: float, above: list[tuple[float, float]], color: str
) -> list[tuple[float, float]]:
    """Draws a row with an arrow from the row above; the middle and lower edge of each of its columns."""
    width = (inner + GAP) / len(row.labels) - GAP
    below = []
    for i, label in enumerate(_labels(row)):
        x = LEFT + i * (width + GAP)
        middle = x + width / 2
        # One column takes all that are above it; each of two takes its own, or the one that splits.
        starts = above if len(row.labels) == 1 else [(middle, above[min(i, len(above) - 1)][1])]
        for column, start in starts:
            style = {"arrowstyle": "-|>,head_width=0.16,head_length=0.3", "color": ARROW, "linewidth": 0.9}
            axes.annotate("", (column, y), (column, start), arrowprops={**style, "shrinkA": 0, "shrinkB": 0})
        if row.count > 1:
            _box(axes, x + SHEET, y + SHEET, width, ROW, BLOCK)
        _box(axes, x, y, width, ROW, color)
        axes.text(x + 0.12, y + ROW / 2, label, fontsize=9, color=INK, va="center_baseline")
        axes.text(x + width - 0.12, y + ROW / 2, _shape(row), fontsize=9, color=QUIET, va="center_baseline", ha="right")
        below.append((middle, y + ROW + (SHEET if row.count > 1 else 0)))
    return below


def _box(axes: Axes, x: float, y: float, width: float, height: float, face: str, edge: str = EDGE, z: int = 1) -> None:
    from matplotlib.patches import FancyBboxPatch

    style = "round,pad=0,rounding_size=0.06"
    box = FancyBboxPatch((x, y), width, height, style, facecolor=face, edgecolor=edge, linewidth=0.8, zorder=z)
    axes.add_patch(box)


def _labels(row: Row) -> list[str]:
    return [label + (f" × {row.count}" if row.count > 1 else "") for label in row.labels]


def _shape(row: Row) -> str:
    return " × ".join(map(str, row.output_shape))


def _cost(parameters: int, multiply_adds: int) -> tuple[str, str]:
    return f"{parameters:,} parameters", f"{with_unit(multiply_adds)} multiply-adds"
