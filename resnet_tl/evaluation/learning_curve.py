"""What more training images would bring: an error that falls as a power of their number, with its uncertainty.

The error of n images is modelled as a + b n^-c with a floor a >= 0 (Cortes et al. 1993, Learning curves; Hestness et
al. 2017, arXiv 1712.00409). All a, b and c on a grid are weighed by how well they fit what was measured, so that the
uncertainty of the floor and of the exponent, which few sizes hardly tell apart, goes into what is expected.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from resnet_tl.evaluation.figures import FAINT, INK, QUIET, VAL, new_figure, plain_axes, saved
from resnet_tl.evaluation.intervals import Estimate
from resnet_tl.evaluation.words import interval, percent
from resnet_tl.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEP = math.sqrt(2)
"""From one number of training images to the next."""
MOST_SIZES, FEWEST_SIZES = 9, 4
DISCREPANCY = 0.03
"""By this share of itself an error may lie beside the curve, however many images judge it: no curve is a power law."""
LEAST_LUCK = 0.05
"""Two sets of training images of one size are taken to differ by this share of the error at least."""
FLOORS, EXPONENTS, ERRORS = 21, 25, 41
"""Points of the grid."""
LEAST_EXPONENT, LARGEST_EXPONENT = 0.05, 2.0
RESAMPLES, DRAWS = 200, 8000
UNSEEN = 0.25
"""Of an image: as much as that may be judged wrong though none was."""


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """The measured errors, and curves drawn by how likely they are."""

    sizes: np.ndarray  # numbers of training images (K,), ascending
    errors: np.ndarray  # the mean error at each (K,)
    repeats: np.ndarray  # of how many subsets (K,)
    floor: np.ndarray  # a of each draw (D,)
    now: np.ndarray  # the error at the last size of each draw (D,)
    exponent: np.ndarray  # c of each draw (D,)
    luck: float  # the deviation, as a share of the error, from one set of training images to another

    def at(self, size: float) -> Estimate:
        """The accuracy with so many images, over sets of training images: with its 95 % interval."""
        return _estimate(1 - self._errors(size))

    def gain(self, times: float = 2.0) -> Estimate:
        """What so many times the training images would add to the accuracy of a model trained on one such set."""
        later = self._errors(times * float(self.sizes[-1]))
        noise = np.random.default_rng(1).normal(0, self.luck, len(later))
        return _estimate(self.now - later * (1 + noise))

    def sentence(self) -> str:
        """What twice the images would bring, in words."""
        images, gain = int(self.sizes[-1]), self.gain()
        now, sign = float(self.now.mean()), "+" if gain.value >= 0 else ""
        return (
            f"Twice the training images ({2 * images:,} in place of {images:,}) would bring about {sign}"
            f"{interval(*gain, unit=' points')}: an accuracy of {percent(1 - now + gain.value)} in place of "
            f"{percent(1 - now)}."
        )

    def _errors(self, size: float) -> np.ndarray:
        return self.floor + (self.now - self.floor) * (size / self.sizes[-1]) ** -self.exponent


def sizes_for(images: int, classes: int) -> list[int]:
    """Numbers of training images to measure, ascending up to all; none where there are too few images."""
    least = max(2 * classes, 10)
    sizes = [round(images / STEP**step) for step in range(MOST_SIZES)]
    return [size for size in reversed(sizes) if size >= least] if images >= fewest_images(classes) else []


def fewest_images(classes: int) -> int:
    """Training images below which there are too few sizes for a curve."""
    return math.ceil(max(2 * classes, 10) * STEP ** (FEWEST_SIZES - 1)) + 1


def fit_curve(sizes: Sequence[int], wrong: Sequence[np.ndarray]) -> LearningCurve:
    """The curve of errors on the same images, measured on nested subsets of one pool of training images.

    The images that judge are resampled, all sizes with the same weights, since they share them: a Bayesian bootstrap
    (Rubin 1981). For each resample some curves are drawn by how well they fit.

    Args:
        sizes: numbers of training images, ascending; the last is the whole pool.
        wrong: for each size which of N images were judged wrong, (repeats, N) bool; for the last one (1, N).
    """
    n = np.asarray(sizes, np.float64)
    share = np.stack([one.mean(axis=0) for one in wrong])  # (K, N): how often each image was judged wrong
    images, repeats = share.shape[1], np.array([len(one) for one in wrong])
    errors = np.maximum(share.mean(axis=1), UNSEEN / images)
    turned = _turned(wrong)
    luck = _luck(n, errors, wrong, turned)
    taken = n / n[-1]
    variance = (luck * errors) ** 2 * (taken + (1 - taken) / repeats) + turned / repeats + (DISCREPANCY * errors) ** 2
    generator = np.random.default_rng(0)
    resampled = _resampled(share, generator)
    reach = 4 * math.sqrt(variance[-1])
    now = np.linspace(
        max(resampled[:, -1].min() - reach, errors[-1] / 50), min(resampled[:, -1].max() + reach, 1), ERRORS
    )
    exponent = np.geomspace(LEAST_EXPONENT, LARGEST_EXPONENT, EXPONENTS)
    floor = (np.arange(FLOORS) + 0.5) / FLOORS
    e, f, c = (axis.ravel() for axis in np.meshgrid(now, floor, exponent, indexing="ij"))
    scaled = (e[:, None] * (f[:, None] + (1 - f[:, None]) * taken ** -c[:, None])) / np.sqrt(variance)
    squares = (scaled**2).sum(axis=1)
    drawn = []
    for some in resampled / np.sqrt(variance):
        log_weight = scaled @ some - 0.5 * squares
        weight = np.exp(log_weight - log_weight.max())
        drawn.append(generator.choice(len(weight), DRAWS // RESAMPLES, p=weight / weight.sum()))
    chosen = np.concatenate(drawn)
    return LearningCurve(np.asarray(sizes), errors, repeats, f[chosen] * e[chosen], e[chosen], c[chosen], luck)


def _resampled(share: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The errors at all sizes for random weights of the images, (RESAMPLES, K).

    Beside the images there is a little of one that is always judged wrong and of one that never is: what no image shows
    may happen all the same.
    """
    judged = np.column_stack([share, np.ones(len(share)), np.zeros(len(share))])
    weights = generator.gamma(np.append(np.ones(share.shape[1]), [UNSEEN, UNSEEN]), size=(RESAMPLES, judged.shape[1]))
    return weights @ judged.T / weights.sum(axis=1, keepdims=True)


def _turned(wrong: Sequence[np.ndarray]) -> np.ndarray:
    """The variance of an error from images that are judged otherwise after each subset, (K,).

    The last size has one subset: it takes that of the size before.
    """
    found = [one.var(axis=0, ddof=1).mean() / one.shape[1] if len(one) > 1 else math.nan for one in wrong]
    return np.asarray(pd.Series(found).ffill())


def _luck(n: np.ndarray, errors: np.ndarray, wrong: Sequence[np.ndarray], turned: np.ndarray) -> float:
    """How much an error varies, as a share of itself, from one set of training images to another.

    Measured errors vary more, since few images judge them: what those turn over by themselves is taken off. Subsets of
    one pool share images: their variance is too small by the share that a subset is of the pool.
    """
    ratios = [
        (one.mean(axis=1).var(ddof=1) - chance) / (1 - size / n[-1]) / error**2
        for size, error, one, chance in zip(n, errors, wrong, turned, strict=True)
        if len(one) > 1 and size < 0.8 * n[-1]
    ]
    return math.sqrt(max(LEAST_LUCK**2, float(np.mean(ratios))))


def _estimate(values: np.ndarray) -> Estimate:
    low, high = np.quantile(values, [0.025, 0.975])
    return Estimate(float(values.mean()), float(low), float(high))


def curve_table(curve: LearningCurve) -> pd.DataFrame:
    """`images, repeats, measured, expected, low, high`: accuracies, up to twice the images; nothing measured beyond."""
    largest = int(curve.sizes[-1])
    rows = []
    for size in [*(int(size) for size in curve.sizes), round(STEP * largest), 2 * largest]:
        place = np.flatnonzero(curve.sizes == size)
        known = bool(len(place))
        rows.append(
            {
                "images": size,
                "repeats": int(curve.repeats[place[0]]) if known else 0,
                "measured": 1 - float(curve.errors[place[0]]) if known else math.nan,
                **dict(zip(("expected", "low", "high"), curve.at(size), strict=True)),
            }
        )
    return pd.DataFrame(rows)


def curve_rows(curve: LearningCurve) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the same for people."""
    columns = curve_table(curve).to_dict("list")
    rows = [
        [f"{images:,}", "" if math.isnan(measured) else percent(measured), interval(expected, low, high)]
        for images, _, measured, expected, low, high in zip(*columns.values(), strict=True)
    ]
    return ["training images", "measured", "expected [95 % interval]"], rows


def write_curve(curve: LearningCurve, path: str | Path) -> None:
    """Writes `curve_table` as CSV, whole or not at all."""
    with replacing(path) as temporary:
        curve_table(curve).to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")


def draw_curve(curve: LearningCurve, path: str | Path | None = None) -> Figure:
    """Accuracy over the number of training images: what was measured, and what is expected up to twice as many."""
    table, largest = curve_table(curve), float(curve.sizes[-1])
    grid = np.geomspace(float(curve.sizes[0]), 2 * largest, 60)
    expected = np.array([curve.at(size) for size in grid]) * 100
    figure = new_figure((8, 4.5), layout="constrained")
    axes = figure.subplots()
    plain_axes(axes)
    axes.axvspan(largest, 2 * largest, color=FAINT, alpha=0.4, linewidth=0)
    axes.fill_between(grid, expected[:, 1], expected[:, 2], color=VAL, alpha=0.2, linewidth=0, label="95 % interval")
    axes.plot(grid, expected[:, 0], color=VAL, linewidth=1.8, label="expected")
    axes.plot(table["images"], 100 * table["measured"], "o", color=INK, markersize=5, label="measured")
    axes.set_xscale("log", base=2)
    axes.set_xticks(table["images"][::-2], [f"{size:,}" for size in table["images"][::-2]])
    axes.minorticks_off()
    axes.set_xlabel("training images; grey: not measured", color=QUIET)
    axes.set_title("Accuracy on the validation images, %", loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="lower right")
    return saved(figure, path)
