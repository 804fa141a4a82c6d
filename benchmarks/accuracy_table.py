"""Accuracies, intervals, table and plot of what `time_to_accuracy.py` measured, from everyone's predictions."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

OURS = "ours"
OURS_TTA = "ours, TTA"
"""The same run, validated once more with test-time augmentation, whose time is added."""
OVER = 1.1
"""A run that took more than this times its budget is marked."""


@dataclass(frozen=True)
class Result:
    """One process: see `processes.Cost` for its cost.

    Args:
        name: of its files.
        contestant: such as `fastai`, `fastai tuned`, `ours`.
        how: image size and symmetry of a peer, modes and image size of ours.
        budget: minutes.
    """

    name: str
    contestant: str
    how: str
    budget: float
    seed: int
    epochs: int
    wall: float
    cpu: float
    memory: int
    load: float

    @property
    def is_over(self) -> bool:
        return self.wall > OVER * 60 * self.budget


@dataclass(frozen=True)
class Row:
    """The best way of a contestant with a budget.

    Args:
        judged: for each seed, whether each image was judged rightly and the loss on it, (2, images).
        tried: how many ways it is the best of.
    """

    contestant: str
    budget: float
    results: list[Result]
    judged: dict[int, Any]
    tried: int

    @property
    def accuracy(self) -> float:
        return float(mean(values[0].mean() for values in self.judged.values()))

    @property
    def nll(self) -> float:
        return float(mean(values[1].mean() for values in self.judged.values()))

    @property
    def interval(self) -> tuple[float, float]:
        """Of the accuracy, over images: with several seeds that of their mean."""
        from resnet_tl.evaluation.intervals import wilson

        images = next(iter(self.judged.values())).shape[1]
        return wilson(round(self.accuracy * images), images)

    def difference(self, other: Row) -> dict[str, float]:
        """How much more accurate this one is on the same images, and the interval of that."""
        import numpy as np
        from ablation import difference

        seeds = sorted(set(self.judged) & set(other.judged))
        return difference(np.stack([self.judged[seed][0] - other.judged[seed][0] for seed in seeds]), "accuracy")


def read_results(output: Path) -> list[Result]:
    file = output / "measurements.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [Result(**json.loads(line)) for line in lines]


def report(output: Path, title: str, facts: Mapping[str, Any], environment: str) -> None:
    """Writes the CSV, table.md and plot.png; prints the table."""
    results = read_results(output)
    if not results:
        return
    judged = {result.name: _judged(output / "predictions" / f"{result.name}.csv") for result in results}
    rows = best_ways(results, judged)
    lines = [f"**{title}**", "", *(f"- {name}: {_text(value)}" for name, value in facts.items()), "", *_table(rows)]
    lines += ["", *_notes(results)]
    text = "\n".join(lines) + "\n"
    (output / "table.md").write_text(text, encoding="utf-8")
    print(text)
    with (output / f"time_to_accuracy-{environment}.csv").open("w", encoding="utf-8", newline="") as file:
        records = [_record(result, judged[result.name], rows) for result in results]
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows(records)
    draw(rows, output / "plot.png", title)


def _judged(file: Path) -> Any:
    from ablation import judged

    from resnet_tl.evaluation.predictions import read_predictions

    table = read_predictions(file)
    table["id"] = ["/".join(name.split("/")[-2:]) for name in table["id"]]  # CLASS/FILE, as the peers write it
    return judged(table)


def best_ways(results: Sequence[Result], judged: Mapping[str, Any]) -> list[Row]:
    """For each contestant and budget, the way with the highest mean accuracy over the seeds, of equals the first."""
    rows = []
    for contestant in dict.fromkeys(result.contestant for result in results):
        for budget in sorted({result.budget for result in results}):
            own = [result for result in results if (result.contestant, result.budget) == (contestant, budget)]
            by_way: dict[str, list[Result]] = defaultdict(list)
            for result in own:  # ours makes its plan for each run: that is one way
                by_way["" if contestant in (OURS, OURS_TTA) else result.how].append(result)
            ways = [
                Row(contestant, budget, runs, {result.seed: judged[result.name] for result in runs}, len(by_way))
                for runs in by_way.values()
            ]
            if ways:
                rows.append(max(ways, key=lambda row: row.accuracy))
    return rows


HEADER = (
    "budget",
    "contestant",
    "accuracy",
    "95 %",
    "NLL",
    "ours − it",
    "95 %",
    "minutes",
    "CPU minutes",
    "epochs",
    "how",
)


def _table(rows: Sequence[Row]) -> list[str]:
    lines = [f"| {' | '.join(HEADER)} |", "|" + "---|" * len(HEADER)]
    ours = {row.budget: row for row in rows if row.contestant == OURS}
    for row in sorted(rows, key=lambda row: (row.budget, row.contestant != OURS, -row.accuracy)):
        low, high = row.interval
        cells = [
            f"{row.budget:g} min",
            row.contestant,
            f"{row.accuracy:.4f}",
            f"{low:.3f}–{high:.3f}",
            f"{row.nll:.3f}",
        ]
        compared = row.contestant != OURS and row.budget in ours and set(ours[row.budget].judged) & set(row.judged)
        if compared:
            found = ours[row.budget].difference(row)
            cells += [f"{found['accuracy_difference']:+.4f}"]
            cells += [f"{found['accuracy_difference_low']:+.3f} to {found['accuracy_difference_high']:+.3f}"]
        else:
            cells += ["", ""]
        mark = " (over)" if any(result.is_over for result in row.results) else ""
        wall, cpu = (mean(getattr(result, name) for result in row.results) / 60 for name in ("wall", "cpu"))
        cells += [f"{wall:.1f}{mark}", f"{cpu:.1f}", f"{mean(result.epochs for result in row.results):g}"]
        how = row.results[0].how + (f" (best of {row.tried})" if row.tried > 1 else "")
        lines.append(f"| {' | '.join([*cells, how])} |")
    return lines


def _notes(results: Sequence[Result]) -> list[str]:
    over = sum(result.is_over for result in results)
    return [
        "Minutes: wall time of the whole process, start-up included. Accuracy and NLL on the validation images; its "
        "interval is Wilson's, that of the difference a bootstrap over the same images. A peer's way (image size, "
        "symmetry) is the best of those tried by this very accuracy; ours keeps its best epoch by it. "
        f"{over} of {len(results)} runs took over {OVER:.0%} of their budget. "
        f"Highest one-minute load before a run: {max(result.load for result in results):.2f}.",
    ]


def _record(result: Result, judged: Any, rows: Sequence[Row]) -> dict[str, Any]:
    from resnet_tl.evaluation.intervals import wilson

    low, high = wilson(int(judged[0].sum()), judged.shape[1])
    return asdict(result) | {
        "images": judged.shape[1],
        "accuracy": judged[0].mean(),
        "accuracy_low": low,
        "accuracy_high": high,
        "nll": judged[1].mean(),
        "is_over": result.is_over,
        "is_shown": any(result in row.results for row in rows),
    }


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    return str(value)


def draw(rows: Sequence[Row], file: Path, title: str) -> None:
    """Accuracy over the minutes really taken, a line for each contestant, with intervals."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for place, contestant in enumerate(dict.fromkeys(row.contestant for row in rows)):
        own = [row for row in rows if row.contestant == contestant]
        minutes = [mean(result.wall for result in row.results) / 60 for row in own]
        spread = [[row.accuracy - row.interval[0] for row in own], [row.interval[1] - row.accuracy for row in own]]
        look = {"color": "tab:blue", "linewidth": 2.5} if contestant == OURS else {"color": f"C{place + 1}"}
        axes.errorbar(
            minutes,
            [row.accuracy for row in own],
            yerr=spread,
            marker="os^Dv<>P*X"[place % 10],
            capsize=3,
            label=contestant,
            **look,
        )
    axes.set_xscale("log")
    axes.set_xticks(sorted({row.budget for row in rows}))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter("")
    axes.set_xlabel("wall time of the whole process [minutes]")
    axes.set_ylabel("validation accuracy, 95 % interval")
    axes.set_title(title, fontsize=10)
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=150)
    plt.close(figure)
