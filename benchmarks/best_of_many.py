"""How much the best of many trials is too good, before and after the correction that `resnet-tl sweep` makes.

    python benchmarks/best_of_many.py
    python benchmarks/best_of_many.py --sweep runs/freeze_backbone-sweep-1

The first command simulates sweeps of two classes, in which half of what makes an image hard is common to all trials: by
how many points of accuracy the best is measured and expected too high, in the mean over the sweeps, and how often the
interval of the expectation, and Wilson's of what was measured, hold the true accuracy. The second takes the predictions
of a sweep that was trained: the best is chosen on a random half of its validation images, and the other half says what
it is worth, with a chance of its own, so that nothing is said of intervals.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import ndtri

from resnet_tl.evaluation.comparing.optimism import worth_of_best
from resnet_tl.evaluation.intervals import wilson
from resnet_tl.evaluation.metrics import compute_metrics
from resnet_tl.evaluation.predictions import table_of
from resnet_tl.run import Run

RESAMPLES = 300
SCENARIOS = {
    "20 equal trials, 90 %": [0.9] * 20,
    "20 equal trials, 97 %": [0.97] * 20,
    "19 trials of 85 %, one of 92 %": [0.85] * 19 + [0.92],
    "20 trials from 80 % to 92 %": np.linspace(0.8, 0.92, 20).tolist(),
}


def simulated(skills: list[float], images: int, generator: np.random.Generator) -> list[pd.DataFrame]:
    """The prediction tables of trials with these true accuracies."""
    labels = generator.integers(0, 2, images)
    hard = generator.normal(size=(images, 1)) + generator.normal(size=(images, len(skills)))
    right = 1 / (1 + np.exp(-2 * (ndtri(skills) + hard / np.sqrt(2))))
    ids = list(map(str, range(images)))
    shares = np.where(labels[:, None, None] == 0, np.stack([right, 1 - right], 2), np.stack([1 - right, right], 2))
    return [table_of(ids, ids, labels, shares[:, trial], ("a", "b")) for trial in range(len(skills))]


def best_of(tables: list[pd.DataFrame], monitor: str) -> int:
    values = [compute_metrics(table)[monitor] for table in tables]
    return int(np.argmin(values) if monitor == "loss" else np.argmax(values))


def report(title: str, rows: list[tuple[float, float, bool, bool]], is_true: bool) -> None:
    measured, expected, holds, naive = np.mean(np.array(rows, dtype=float), axis=0)
    intervals = f"; the interval holds {100 * holds:.0f} %, of what was measured {100 * naive:.0f} %" * is_true
    print(f"{title}: measured {100 * measured:+.2f}, expected {100 * expected:+.2f} points{intervals}", flush=True)


def row(tables: list[pd.DataFrame], monitor: str, truth: list[float]) -> tuple[float, float, bool, bool]:
    best = best_of(tables, monitor)
    worth = worth_of_best(tables, best, monitor, RESAMPLES)["accuracy"]
    true, (_, low, high) = truth[best], worth.expected
    naive = wilson(round(worth.measured * len(tables[0])), len(tables[0]))
    return (
        worth.measured - true,
        worth.expected.value - true,
        low <= true <= high,
        naive[0] <= true <= naive[1],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweep", type=Path)
    parser.add_argument("--sweeps", type=int, default=100, help="how many are simulated, or halves drawn")
    parser.add_argument("--images", type=int, default=300)
    arguments = parser.parse_args()
    if arguments.sweep is None:
        for title, skills in SCENARIOS.items():
            for monitor in ("accuracy", "loss"):
                generator = np.random.default_rng(0)
                sets = (simulated(skills, arguments.images, generator) for _ in range(arguments.sweeps))
                report(f"{title}, chosen by {monitor}", [row(tables, monitor, skills) for tables in sets], True)
        return
    runs = [Run(path) for path in sorted((arguments.sweep / "trials").iterdir()) if Run(path).is_complete]
    tables = [run.predictions("val").sort_values("id", ignore_index=True) for run in runs]
    for monitor in ("accuracy", "loss"):
        rows, generator = [], np.random.default_rng(0)
        for _ in range(arguments.sweeps):
            order = generator.permutation(len(tables[0]))
            half, rest = np.split(order, [len(order) // 2])
            truth = [compute_metrics(table.iloc[rest])["accuracy"] for table in tables]
            rows.append(row([table.iloc[half] for table in tables], monitor, truth))
        report(f"{arguments.sweep}, {len(tables)} trials, chosen by {monitor}", rows, False)


if __name__ == "__main__":
    main()
