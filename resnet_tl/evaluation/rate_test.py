"""A learning-rate range test: losses while the rate grows, what they suggest, and how they look.

Smith 2017 (arXiv 1506.01186), section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from resnet_tl.evaluation.figures import INK, TRAIN, VAL, new_figure, plain_axes, saved
from resnet_tl.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SMOOTHING = 0.9
"""Of the running mean of the losses."""
BELOW = 10.0
"""The suggestion is the rate of the smallest smoothed loss, divided by this: there the steps are too large already."""
FALL = 0.05
"""By this share the smoothed loss must fall below its beginning: where it does not, nothing is suggested."""
SETTLED = 10
"""Steps after which the running mean is one of several losses."""
WORSE = 4.0
"""A test ends where the smoothed loss is this many times its smallest value."""


def smoothed(losses: Sequence[float]) -> np.ndarray:
    """The running mean of the losses (N,), free of its beginning at zero."""
    mean, found = 0.0, []
    for step, loss in enumerate(losses, 1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        found.append(mean / (1 - SMOOTHING**step))
    return np.array(found)


def has_ended(losses: Sequence[float]) -> bool:
    """Whether the losses say that larger rates lead nowhere."""
    means = smoothed(losses)
    is_finite = bool(np.isfinite(losses).all())
    return not is_finite or (len(means) > SETTLED and bool(means[-1] > WORSE * means.min()))


def suggest(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """A tenth of the rate at which the smoothed loss is smallest; None where it never falls noticeably."""
    means = smoothed(losses)[SETTLED:]
    means = means[np.isfinite(means)]
    if not len(means) or means.min() > (1 - FALL) * means[0]:
        return None
    return float(f"{rates[SETTLED + int(means.argmin())] / BELOW:.1g}")


def rate_table(rates: Sequence[float], losses: Sequence[float]) -> pd.DataFrame:
    """`learning_rate, loss, smoothed_loss`, a row for each step."""
    return pd.DataFrame({"learning_rate": list(rates), "loss": list(losses), "smoothed_loss": smoothed(losses)})


def write_rates(table: pd.DataFrame, path: str | Path) -> None:
    """Writes the table as CSV, whole or not at all."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, na_rep="nan", lineterminator="\n", encoding="utf-8")


def draw_rates(table: pd.DataFrame, suggestion: float | None, path: str | Path | None = None) -> Figure:
    """The loss over the learning rate, with the suggested one."""
    table = table[np.isfinite(table["smoothed_loss"])]
    figure = new_figure((8, 4.2), layout="constrained")
    axes = figure.subplots()
    plain_axes(axes)
    axes.plot(table["learning_rate"], table["loss"], color=TRAIN, linewidth=1, label="of each step")
    axes.plot(table["learning_rate"], table["smoothed_loss"], color=VAL, linewidth=2, label="smoothed")
    if suggestion is not None:
        style: dict[str, Any] = {"color": INK, "linewidth": 1, "linestyle": (0, (4, 3))}
        axes.axvline(suggestion, label=f"suggested: {suggestion:g}", **style)
    axes.set_xscale("log")
    axes.tick_params(which="both", length=0)
    lowest, first = table["smoothed_loss"].min(), table["smoothed_loss"].iloc[0]
    axes.set_ylim(max(0.0, lowest - 0.3 * (first - lowest) - 0.05), first + 0.7 * (first - lowest) + 0.1)
    axes.set_xlabel("learning rate", color=INK)
    axes.set_title("Training loss while the learning rate grows", loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="upper left")
    return saved(figure, path)
