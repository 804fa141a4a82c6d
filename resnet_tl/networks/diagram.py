"""A picture of a network from top to bottom: its stages, the blocks in them, and the shapes between them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from resnet_tl.errors import UserError
from resnet_tl.files import replacing
from resnet_tl.networks.cost import stage_costs, with_unit
from resnet_tl.networks.outline import Columns, Row, outline
from resnet_tl.networks.stages import StagedNetwork

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, QUIET, EDGE, ARROW = "#20262e", "#66707c", "#b9c4d0", "#7a8794"
STAGE, HEAD, END, BLOCK = "#e8f0f8", "#fbeede", "#eceef1", "#ffffff"
SUFFIXES = (".png", ".svg")
DOTS_PER_INCH = 150

# All in inches.
ROW, GAP, PAD, MARGIN = 0.34, 0.2, 0.15, 0.2
TITLE = 0.72
GUTTER = 1.62
"""Room for the name and cost of a stage, to the left of its rows."""
LETTER = 0.074
"""Width of a letter in a row."""
SHEET = 0.045
"""How far the sheet behind a run of equal blocks is seen."""


def draw_network(network: StagedNetwork, image_size: int, path: str | Path) -> None:
    """Draws the network for square images as `path`, a PNG or SVG by its suffix.

    A tinted box is a stage, with its parameters and its multiply-adds for one image. A row in it is a layer or block
    with its output shape, channels first; `× 5` stands for five equal ones.

    Raises:
        UserError: the suffix is another, or the network does not take images of this size.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    path = Path(path)
    check_suffix(path)
    costs = stage_costs(network, image_size)
    stages = outline(network, image_size)
    parts = [part for of_stage in stages.values() for part in of_stage]
    has_columns = any(isinstance(part, Columns) for part in parts)
    column = max(LETTER * len(_text(row)) + 0.55 for part in parts for row in _rows(part))
    inner = max(2 * column + GAP if has_columns else column, 3.4)
    width = GUTTER + inner + 2 * (MARGIN + PAD)
    heights = {
        name: 2 * PAD + sum(map(_height, of_stage)) + GAP * (len(of_stage) - 1) for name, of_stage in stages.items()
    }
    height = TITLE + 2 * (ROW + GAP) + sum(heights.values()) + GAP * (len(heights) - 1) + MARGIN

    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.text(MARGIN, 0.27, network.name, fontsize=13, fontweight="bold", color=INK, va="center")
    totals = ", ".join(_cost(sum(cost.parameters for cost in costs), sum(cost.multiply_adds for cost in costs)))
    axes.text(MARGIN, 0.51, f"{totals} at {image_size} px", fontsize=8.5, color=QUIET, va="center")

    stack = _Stack(axes, MARGIN + PAD + GUTTER, inner, TITLE)
    stack.add(Row("image", (), (network.in_chans, image_size, image_size)), END)
    for cost in costs:
        y = stack.y + GAP
        _box(axes, MARGIN, y, width - 2 * MARGIN, heights[cost.name], HEAD if cost.name == "head" else STAGE)
        middle = y + heights[cost.name] / 2
        lines = _cost(cost.parameters, cost.multiply_adds)
        axes.text(MARGIN + PAD, middle - 0.15, cost.name, fontsize=9.5, fontweight="bold", color=INK, va="center")
        for i, line in enumerate(lines):
            axes.text(MARGIN + PAD, middle + 0.02 + 0.14 * i, line, fontsize=7.5, color=QUIET, va="center")
        stack.y += PAD
        for part in stages[cost.name]:
            stack.add(part)
        stack.y += PAD
    stack.add(Row("logits", (), costs[-1].output_shape), END)
    # Text of an SVG stays text, and two drawings of one network are the same file.
    with replacing(path) as temporary, rc_context({"svg.fonttype": "none", "svg.hashsalt": "resnet-tl"}):
        metadata = {"Date": None} if path.suffix.lower() == ".svg" else None
        figure.savefig(
            temporary, format=path.suffix[1:].lower(), dpi=DOTS_PER_INCH, facecolor="white", metadata=metadata
        )


def check_suffix(path: Path) -> None:
    """Raises UserError unless it is that of a PNG or SVG."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"A diagram is a .png or .svg file, but {path} was given.")


class _Stack:
    """Rows from top to bottom, each with an arrow from the row before it, in one column or in two."""

    def __init__(self, axes: Axes, x: float, width: float, y: float) -> None:
        self.axes = axes
        self.x = x
        self.width = width
        self.y = y - GAP
        self.bottoms: list[tuple[float, float]] = []  # middle and lower edge of each column so far

    def add(self, part: Row | Columns, color: str = BLOCK) -> None:
        columns: list[tuple[Row, ...]] = [(part,)] if isinstance(part, Row) else [part.left, part.right]
        width = (self.width - GAP * (len(columns) - 1)) / len(columns)
        bottoms = []
        for i, rows in enumerate(columns):
            x = self.x + i * (width + GAP)
            middle = x + width / 2
            # One row takes all columns above it; each of two columns takes its own, or the one row that splits.
            starts = self.bottoms if len(columns) == 1 else [(middle, self.bottoms[min(i, len(self.bottoms) - 1)][1])]
            y = self.y
            for row in rows:
                y += GAP
                for column, start in starts:
                    _arrow(self.axes, column, start, y)
                _row(self.axes, row, x, y, width, color)
                y += ROW
                starts = [(middle, y + (SHEET if row.count > 1 else 0))]
            bottoms += starts
        self.y += GAP + _height(part)
        self.bottoms = bottoms


def _row(axes: Axes, row: Row, x: float, y: float, width: float, color: str) -> None:
    if row.count > 1:
        _box(axes, x + SHEET, y + SHEET, width, ROW, BLOCK, EDGE)
    _box(axes, x, y, width, ROW, color, EDGE)
    label, shape = _label(row), _shape(row.output_shape)
    axes.text(x + 0.12, y + ROW / 2, label, fontsize=9, color=INK, va="center_baseline")
    axes.text(x + width - 0.12, y + ROW / 2, shape, fontsize=9, color=QUIET, va="center_baseline", ha="right")


def _box(axes: Axes, x: float, y: float, width: float, height: float, color: str, edge: str = "none") -> None:
    from matplotlib.patches import FancyBboxPatch

    style = "round,pad=0,rounding_size=0.06"
    axes.add_patch(
        FancyBboxPatch((x, y), width, height, boxstyle=style, facecolor=color, edgecolor=edge, linewidth=0.8)
    )


def _arrow(axes: Axes, x: float, start: float, end: float) -> None:
    style = {"arrowstyle": "-|>,head_width=0.16,head_length=0.3", "color": ARROW, "linewidth": 0.9}
    axes.annotate("", (x, end), (x, start), arrowprops={**style, "shrinkA": 0, "shrinkB": 0})


def _rows(part: Row | Columns) -> tuple[Row, ...]:
    return (part,) if isinstance(part, Row) else part.left + part.right


def _height(part: Row | Columns) -> float:
    rows = 1 if isinstance(part, Row) else max(len(part.left), len(part.right))
    return rows * ROW + (rows - 1) * GAP


def _label(row: Row) -> str:
    return row.label + (f" × {row.count}" if row.count > 1 else "")


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def _text(row: Row) -> str:
    return _label(row) + _shape(row.output_shape)


def _cost(parameters: int, multiply_adds: int) -> tuple[str, str]:
    return f"{parameters:,} parameters", f"{with_unit(multiply_adds)} multiply-adds"
