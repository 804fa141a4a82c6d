"""Probes of several networks on the same images, side by side: which of them to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from resnet_tl.evaluation.intervals import Estimate, bootstrap_interval, holm, image_resamples, mcnemar, wilson
from resnet_tl.evaluation.words import interval, metric_value, percent
from resnet_tl.files import as_cell, replacing

MARGIN = 0.01
"""A cheaper network is as good if its accuracy is shown to be lower by less than this."""
FASTER = 1.2
"""By so much a network must be faster for that to count: measured speeds differ by as much as a tenth."""


@dataclass(frozen=True, eq=False)
class Probe:
    """What the features of one network, at one depth, are worth on some images; the arrays are in the images' order."""

    network: str
    weights: str  # where they are from
    depth: str  # the stage whose features they are
    is_cut: bool  # whether later stages are left out
    features: int  # how many numbers an image has
    penalty: float  # of the linear probe; the middle one of several folds
    is_correct: np.ndarray  # (N,) bool, by the linear probe
    losses: np.ndarray  # (N,) nats, of the same
    neighbours_correct: np.ndarray  # (N,) bool, by the nearest neighbours
    images_per_second: float  # that the stages up to the depth take in
    seconds: float  # of the features of all images, by that rate, and of both probes, as they took

    @property
    def name(self) -> str:
        """For a sentence: `resnet18`, or `resnet18 up to stage3`."""
        return f"{self.network} up to {self.depth}" if self.is_cut else self.network

    @property
    def accuracy(self) -> Estimate:
        """Of the linear probe, with Wilson's interval."""
        return _share(self.is_correct)

    @property
    def neighbours(self) -> Estimate:
        """The accuracy of the nearest neighbours, with Wilson's interval."""
        return _share(self.neighbours_correct)

    @property
    def loss(self) -> Estimate:
        """Of the linear probe, with a bootstrap's interval over the images."""
        return _mean(self.losses)


@dataclass(frozen=True)
class Choice:
    """Which probe to take, and why."""

    probe: Probe
    sentence: str


def ranked(probes: Sequence[Probe]) -> list[Probe]:
    """From the most to the least accurate; of equals the faster one comes first."""
    return sorted(probes, key=lambda probe: (-probe.accuracy.value, -probe.images_per_second))


def choose(probes: Sequence[Probe]) -> Choice:
    """The most accurate probe, or a faster one of which the images show that it is as good up to `MARGIN`.

    Differences are paired by image: a bootstrap gives their intervals, and McNemar's test with Holm's correction says
    with these which of them are decided.
    """
    best, *others = ranked(probes)
    name = _names(probes)
    if not others:
        return Choice(best, f"{best.name} reaches {interval(*best.accuracy)}; no other was probed.")
    differences = [_mean(best.is_correct.astype(float) - other.is_correct) for other in others]
    p_values = [
        mcnemar(int((best.is_correct & ~other.is_correct).sum()), int((other.is_correct & ~best.is_correct).sum()))
        for other in others
    ]
    found = list(zip(others, differences, holm(p_values), strict=True))
    equal = [one for one in found if one[1].high < MARGIN and _is_faster(one[0], best)]
    if equal:
        cheap, difference, _ = max(equal, key=lambda one: one[0].images_per_second)
        return Choice(
            cheap,
            f"Take {name[cheap]}, {percent(cheap.accuracy.value)}: {name[best]} is shown to be less than one "
            f"point better ({_points(difference)}), and it is {_times(cheap, best)} as fast.",
        )
    undecided = [one for one in found if not (one[2] < 0.05 and one[1].low > 0)]
    if not undecided:
        following, difference, _ = found[0]
        return Choice(
            best,
            f"Take {name[best]}, {percent(best.accuracy.value)}: it is better than the next, {name[following]}, by "
            f"{_points(difference, sign='')}.",
        )
    faster = [one for one in undecided if _is_faster(one[0], best)]
    other, difference, _ = max(faster, key=lambda one: one[0].images_per_second) if faster else undecided[0]
    fast = f", which is {_times(other, best)} as fast" if faster else ""
    return Choice(
        best,
        f"Take {name[best]}, {percent(best.accuracy.value)}, the most accurate; these {len(best.is_correct):,} images "
        f"cannot tell it from {name[other]} ({_points(difference)}){fast}.",
    )


def probe_rows(probes: Sequence[Probe]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table for people, the most accurate first."""
    header = ["network", "weights", "depth", "features", "linear probe [95 % interval]", "loss", "nearest neighbours"]
    header += ["images/s", "seconds"]
    rows = [
        [
            probe.network,
            probe.weights,
            probe.depth,
            f"{probe.features:,}",
            interval(*probe.accuracy),
            metric_value("loss", probe.loss.value),
            interval(*probe.neighbours),
            f"{probe.images_per_second:.3g}",
            f"{probe.seconds:,.0f}" if probe.seconds >= 10 else f"{probe.seconds:.1f}",
        ]
        for probe in ranked(probes)
    ]
    return header, rows


def write_probes(probes: Sequence[Probe], path: str | Path) -> None:
    """Writes the table as CSV, whole or not at all."""
    rows: list[dict[str, Any]] = []
    for probe in ranked(probes):
        row: dict[str, Any] = {name: getattr(probe, name) for name in ("network", "weights", "depth", "features")}
        row["penalty"] = probe.penalty
        row["images"] = len(probe.is_correct)
        for name in ("accuracy", "loss", "neighbours"):
            value, low, high = getattr(probe, name)
            row |= {name: value, f"{name}_low": low, f"{name}_high": high}
        rows.append(row | {"images_per_second": probe.images_per_second, "seconds": probe.seconds})
    table = pd.DataFrame(rows)
    for name in ("network", "weights", "depth"):
        table[name] = table[name].map(as_cell)
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")


def _names(probes: Sequence[Probe]) -> dict[Probe, str]:
    """For a sentence about several: with the weights, where the network is there with others as well."""
    names = [probe.name for probe in probes]
    return {probe: f"{probe.name} ({probe.weights})" if names.count(probe.name) > 1 else probe.name for probe in probes}


def _share(is_correct: np.ndarray) -> Estimate:
    return Estimate(float(is_correct.mean()), *wilson(int(is_correct.sum()), len(is_correct)))


def _mean(values: np.ndarray) -> Estimate:
    value = float(values.mean())
    resampled = np.concatenate([weights @ values / len(values) for weights in image_resamples(len(values))])
    return Estimate(value, *bootstrap_interval(value, resampled))


def _points(difference: Estimate, sign: str = "+") -> str:
    text = interval(*difference, unit=" points")
    return f"{sign if difference.value >= 0 else ''}{text}"


def _is_faster(one: Probe, other: Probe) -> bool:
    return one.images_per_second > FASTER * other.images_per_second


def _times(faster: Probe, slower: Probe) -> str:
    return f"{faster.images_per_second / slower.images_per_second:.2g} times"
