"""A comparison as one picture: accuracies with intervals, paired differences around zero, learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from resnet_tl.evaluation.comparing.comparison import Comparison, Group, Pair
from resnet_tl.evaluation.comparing.comparison_text import p_text
from resnet_tl.evaluation.figures import FAINT, FEW, INK, QUIET, new_figure, plain_axes, saved, shorten
from resnet_tl.evaluation.intervals import Estimate
from resnet_tl.evaluation.words import SPLITS, interval, points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#1f6fb2", "#d9822b", "#3d9a62", "#8b5fb4", "#c8453c", "#45a7b8", "#9a6f45", "#5b6470")
_NAME = 44  # characters of a group's name that fit beside a panel


def comparison_figure(comparison: Comparison, path: str | Path | None = None) -> Figure:
    """Draws the three parts below one another, and writes them to a path that is given.

    Each group keeps one colour, from the most accurate down.
    """
    colors = {group.name: COLORS[place % len(COLORS)] for place, group in enumerate(comparison.groups)}
    heights = [0.8 + 0.36 * len(comparison.groups), 1.0 + 0.44 * len(comparison.pairs)]
    figure = new_figure((10, sum(heights) + 3.4), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=[sum(heights), 3.4])  # type: ignore[misc]
    for part in (upper, lower):
        part.get_layout_engine().set(w_pad=0.15, h_pad=0.1)
    accuracies, differences = upper.subplots(2, 1, height_ratios=heights)
    _accuracies(accuracies, comparison, colors)
    _differences(differences, comparison.pairs)
    curve, loss = lower.subplots(1, 2)
    _curves(curve, comparison.groups, "val_accuracy", colors)
    _title(curve, "Validation accuracy, %", "colours as above")
    _curves(loss, comparison.groups, "val_loss", colors)
    _title(loss, "Validation loss", "colours as above")
    return saved(figure, path)


def _accuracies(axes: Axes, comparison: Comparison, colors: dict[str, str]) -> None:
    """One line for each group: interval, value, and a small ring for each of several seeds."""
    for row, group in enumerate(comparison.groups):
        _interval(axes, row, group.accuracy, colors[group.name])
        if len(group.accuracies) > 1:
            style: dict[str, Any] = {"facecolors": "white", "edgecolors": colors[group.name], "linewidths": 1.1}
            seeds = [100 * share for share in group.accuracies]
            axes.scatter(seeds, [row + 0.27] * len(seeds), s=14, zorder=3, **style)
        _beside(axes, row, interval(*group.accuracy, unit=""))
    _rows(axes, [shorten(group.name, _NAME) for group in comparison.groups])
    rings = "rings: the seeds; " if comparison.has_seeds else ""
    images = f"{comparison.images:,} {SPLITS[comparison.split]} images"
    _title(axes, "Accuracy, %", f"{rings}95 % intervals over {images}")


def _differences(axes: Axes, pairs: Sequence[Pair]) -> None:
    """One line for each pair, dark where the images can tell the two apart."""
    axes.axvline(0, color=INK, linewidth=1)
    for row, pair in enumerate(pairs):
        color = INK if pair.is_decided else QUIET
        _interval(axes, row, pair.difference, color, is_filled=pair.is_decided)
        _beside(axes, row, f"{points(pair.difference.value)} points, {p_text(pair.adjusted_p)}", color)
    _rows(axes, [f"{shorten(pair.first, _NAME)}\n− {shorten(pair.second, _NAME)}" for pair in pairs])
    left, right = axes.get_xlim()
    axes.set_xlim(min(left, -1), max(right, 1))  # nobody wants to see hundredths of a point
    axes.set_xlabel("points of accuracy", color=QUIET, fontsize=9)
    _title(axes, "Differences", "on the same images; filled: told apart")


def _curves(axes: Axes, groups: Sequence[Group], column: str, colors: dict[str, str]) -> None:
    """A line for each group; of several seeds their mean, and each of them thinly."""
    from matplotlib.ticker import MaxNLocator

    factor = 100 if column == "val_accuracy" else 1
    for group in reversed(groups):  # the best on top
        lines = [run.history.set_index("epoch")[column].dropna() * factor for run in group.runs]
        color, marker = colors[group.name], "o" if len(lines[0]) <= FEW else None
        for line in lines if len(lines) > 1 else []:
            axes.plot(line.index, line, color=color, linewidth=0.9, alpha=0.45)
        mean = pd.concat(lines, axis=1).mean(axis=1)
        axes.plot(mean.index, mean, color=color, linewidth=2, marker=marker, markersize=3.8)
    plain_axes(axes)
    axes.set_xlabel("epoch", color=QUIET, fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    epochs = pd.concat([run.history["epoch"] for group in groups for run in group.runs])
    axes.set_xlim(epochs.min() - 0.5, epochs.max() + 0.5)


def _interval(axes: Axes, row: int, estimate: Estimate, color: str, is_filled: bool = True) -> None:
    """Draws an estimate in percent."""
    value, low, high = (100 * share for share in estimate)
    axes.plot([low, high], [row, row], color=color, linewidth=2.2, solid_capstyle="round", alpha=0.6, zorder=2)
    fill = color if is_filled else "white"
    axes.plot([value], [row], color=color, marker="o", markersize=7.5, markerfacecolor=fill, zorder=3)


def _rows(axes: Axes, names: Sequence[str]) -> None:
    """Named rows from the top down, with vertical grid lines."""
    plain_axes(axes, grid=False)
    axes.grid(axis="x", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_yticks(range(len(names)), names, fontsize=9, color=INK, parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.margins(x=0.04)


def _beside(axes: Axes, row: int, text: str, color: str = INK) -> None:
    place: dict[str, Any] = {"xytext": (10, 0), "textcoords": "offset points", "va": "center", "annotation_clip": False}
    axes.annotate(text, (1, row), xycoords=axes.get_yaxis_transform(), fontsize=9, color=color, **place)


def _title(axes: Axes, title: str, note: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.set_title(note, loc="right", fontsize=9, color=QUIET)
