"""Pictures: learning curves, confusion matrix, contact sheet.

Each function gives what it has drawn, which a notebook shows, and writes it where it is given a path: a PNG, whole or
not at all. Figures are made without pyplot, which would hold them until they are closed and show them twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from resnet_tl.evaluation.metrics import confusion
from resnet_tl.evaluation.predictions import classes_of
from resnet_tl.evaluation.words import metric_value, percent
from resnet_tl.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL import Image, ImageFont

INK, QUIET, FAINT = "#20262e", "#7a838f", "#d9dde2"
TRAIN, VAL = "#9aa5b1", "#1f6fb2"
DOTS_PER_INCH, SCREEN_DOTS_PER_INCH = 150, 90  # in a file, in a notebook
COLORS = {"training": TRAIN, "validation": VAL, "learning rate": INK}
ACCURACY = "Accuracy, %"
PANELS = {  # title of a panel -> name of a line -> column of the history
    "Loss": {"training": "train_loss", "validation": "val_loss"},
    ACCURACY: {"training": "train_accuracy", "validation": "val_accuracy"},
    "Learning rate": {"learning rate": "learning_rate"},
}
FEW = 30
"""Epochs up to which a curve's points are marked; a single one would not show at all."""


def learning_curves(history: pd.DataFrame, path: str | Path | None = None, best_epoch: int | None = None) -> Figure:
    """Loss, accuracy and learning rate over the epochs, if they are there; `best_epoch`, which was kept, is marked."""
    from matplotlib.ticker import MaxNLocator

    history = history.dropna(axis="columns", how="all")
    panels = {
        title: {name: column for name, column in columns.items() if column in history}
        for title, columns in PANELS.items()
        if not history.columns.intersection(list(columns.values())).empty
    }
    if not panels:
        raise ValueError(f"there is nothing to draw among the columns {list(history.columns)}")
    heights = [1.0 if title == "Learning rate" else 2.2 for title in panels]
    height = 0.9 + 1.2 * sum(heights)
    figure = new_figure((8, height))
    # Margins in inches: a layout engine would draw everything twice.
    margins = {"left": 0.75 / 8, "right": 1 - 0.1 / 8, "bottom": 0.5 / height, "top": 1 - 0.35 / height}
    grid = figure.subplots(
        len(panels), 1, sharex=True, squeeze=False, height_ratios=heights, gridspec_kw={**margins, "hspace": 0.25}
    )[:, 0]
    for axes, (title, columns) in zip(grid, panels.items(), strict=True):
        plain_axes(axes)
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
        for name, column in columns.items():
            line = history.set_index("epoch")[column].dropna() * (100 if title == ACCURACY else 1)
            style = {"color": COLORS[name], "linewidth": 1.8, "marker": "o" if len(history) <= FEW else None}
            axes.plot(line.index, line, markersize=3.5, label=name, **style)
        if title == "Learning rate":
            axes.yaxis.set_major_formatter(lambda rate, _: f"{rate:g}")
        elif best_epoch is not None:
            kept = history.loc[history["epoch"] == best_epoch, columns.get("validation", "epoch")]
            label = f"best epoch {best_epoch}"
            if "validation" in columns:
                label += "".join(f": {metric_value(columns['validation'], float(value))}" for value in kept)
            axes.axvline(best_epoch, color=VAL, linewidth=1, linestyle=(0, (4, 3)), label=label)
        if title != "Learning rate":
            place = {"loc": "lower right", "bbox_to_anchor": (1, 0.98), "ncols": 3}  # above the panel, beside its title
            axes.legend(frameon=False, fontsize=9, labelcolor=INK, handlelength=1.6, **place)
    _mark_phases(list(grid), history)
    grid[-1].set_xlabel("epoch", color=QUIET)
    grid[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    grid[-1].set_xlim(history["epoch"].min() - 0.5, history["epoch"].max() + 0.5)
    return saved(figure, path)


def confusion_matrix(table: pd.DataFrame, path: str | Path | None = None) -> Figure:
    """Labels against predictions: colour is the share of a label's images, the number is their count."""
    classes = classes_of(table)
    counts = confusion(table)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(3.4 + 0.42 * len(classes), 14)
    figure = new_figure((side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    plain_axes(axes, grid=False)
    if len(classes) <= 100:  # more names than that cannot be read
        size = 9 if len(classes) <= 25 else 8 if len(classes) <= 60 else 6
        places, names = range(len(classes)), [shorten(name, 28) for name in classes]
        axes.set_xticks(places, names, fontsize=size, parse_math=False, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(places, names, fontsize=size, parse_math=False)
    if len(classes) <= 25:
        for row, column in np.argwhere(counts):
            color = "white" if shares[row, column] > 0.55 else INK
            axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", fontsize=8, color=color)
    numbered = "" if len(classes) <= 100 else ", by the number of the class"
    axes.set_xlabel(f"predicted{numbered}", color=QUIET)
    axes.set_ylabel(f"label{numbered}", color=QUIET)
    correct = np.trace(counts) / counts.sum()
    axes.set_title(f"{percent(correct)} of {counts.sum():,} images correct", loc="left", fontsize=11, color=INK)
    bar = figure.colorbar(image, ax=axes, shrink=0.5, aspect=18, format=lambda share, _: f"{100 * share:.0f} %")
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=8, labelcolor=QUIET)
    return saved(figure, path)


def contact_sheet(rows: Mapping[str, Sequence[np.ndarray]], path: str | Path | None, title: str) -> Image.Image:
    """One row of thumbnails per class, its name on the left; images are uint8 (H, W, 1 or 3), whole, never cropped."""
    from PIL import Image, ImageDraw

    cell, gap, margin = 128, 8, 32
    heading, font = face(26, bold=True), face(18)
    names = {name: shorten(name, 30) for name in rows}
    left = margin + int(max([font.getlength(text) for text in names.values()], default=0)) + 20
    top = margin + 52
    width = left + max([len(images) for images in rows.values()], default=0) * (cell + gap) - gap + margin
    width = max(width, int(heading.getlength(title)) + 2 * margin)
    sheet = Image.new("RGB", (width, top + len(rows) * (cell + gap) - gap + margin), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((margin, margin), title, fill=INK, font=heading, anchor="lt")
    for line, (name, images) in enumerate(rows.items()):
        y = top + line * (cell + gap)
        pen.text((margin, y + cell // 2), names[name], fill=INK, font=font, anchor="lm")
        for place, pixels in enumerate(images):
            image = thumbnail(pixels, cell)
            x = left + place * (cell + gap)
            pen.rectangle((x, y, x + cell - 1, y + cell - 1), fill="#f1f3f5")
            sheet.paste(image, (x + (cell - image.width) // 2, y + (cell - image.height) // 2))
    if path is not None:
        with replacing(path) as temporary:
            sheet.save(temporary, format="PNG")
    return sheet


def face(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The same in every figure, on every machine."""
    from matplotlib import get_data_path
    from PIL import ImageFont

    return ImageFont.truetype(Path(get_data_path(), "fonts", "ttf", f"DejaVuSans{'-Bold' * bold}.ttf"), size)


def thumbnail(pixels: np.ndarray, side: int) -> Image.Image:
    """The whole image, uint8 (H, W, 1 or 3), in a square cell; tiny ones are enlarged without blur."""
    from PIL import Image, ImageOps

    image = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).convert("RGB")
    method = Image.Resampling.NEAREST if max(image.size) <= side // 2 else Image.Resampling.LANCZOS
    return ImageOps.contain(image, (side, side), method)


def _mark_phases(grid: Sequence[Axes], history: pd.DataFrame) -> None:
    """A line between two epochs of different phases; the phases' names above the first panel."""
    if "phase" not in history or history["phase"].nunique() < 2:
        return
    phases, epochs = history["phase"].astype(str).to_numpy(), history["epoch"].to_numpy()
    grid[0].set_ymargin(0.12)  # room for the names
    style: dict[str, Any] = {"va": "top", "fontsize": 8, "color": QUIET, "parse_math": False}
    for start in [0, *(np.flatnonzero(phases[1:] != phases[:-1]) + 1)]:
        edge = (epochs[start - 1] + epochs[start]) / 2 if start else epochs[0] - 0.5
        for axes in grid if start else []:
            axes.axvline(edge, color=QUIET, linewidth=0.8)
        place = ("data", "axes fraction")
        grid[0].annotate(shorten(phases[start], 24), (edge, 1), (4, -4), place, "offset points", **style)


def plain_axes(axes: Axes, grid: bool = True) -> None:
    """No frame, no tick marks, quiet labels, a faint horizontal grid."""
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, labelsize=9, labelcolor=QUIET)
    if grid:
        axes.grid(axis="y", color=FAINT, linewidth=0.8)
        axes.set_axisbelow(True)


def shorten(text: str, length: int) -> str:
    """Cut in the middle: long names often differ in their ends alone."""
    return text if len(text) <= length else f"{text[: length // 2]}…{text[1 - length // 2 :]}"


def new_figure(size: tuple[float, float], **settings: Any) -> Figure:
    """A figure of a size in inches; a notebook shows it, whether or not pyplot was imported there."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, **settings)
    figure._repr_png_ = partial(_on_screen, figure)  # type: ignore[attr-defined]
    return figure


def _on_screen(figure: Figure) -> bytes:
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=SCREEN_DOTS_PER_INCH, facecolor="white")
    return picture.getvalue()


def saved(figure: Figure, path: str | Path | None) -> Figure:
    """The figure, and where there is a path also its PNG there, whole or not at all."""
    if path is not None:
        with replacing(path) as temporary:
            # The quickest compression: most of a figure is one colour.
            style: dict[str, Any] = {"facecolor": "white", "pil_kwargs": {"compress_level": 1}}
            figure.savefig(temporary, format="png", dpi=DOTS_PER_INCH, **style)
    return figure
