"""What the trials of a sweep have found together: `trials.csv`, `summary.json`, and the sentences at its end."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from resnet_tl.evaluation.accuracy import Accuracy
from resnet_tl.evaluation.comparing.optimism import Worth, worth_of_best
from resnet_tl.evaluation.intervals import Estimate
from resnet_tl.evaluation.words import interval, metric_name, metric_value, points
from resnet_tl.files import as_cell, replacing, write_text
from resnet_tl.run import Run
from resnet_tl.training.sweep.space import Dimension, Value
from resnet_tl.training.sweep.trials import ERROR, PRUNED_AFTER

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

COLUMNS = ("accuracy", "epochs", "seconds")


@dataclass(frozen=True)
class Result:
    """One trial: its settings as flags take them, and its run, or why there is none."""

    number: int  # from 1
    settings: dict[str, str]
    run: Run
    is_complete: bool
    pruned_after: int | None
    error: str

    @classmethod
    def of(cls, trial: FrozenTrial, space: Sequence[Dimension], folder: Path) -> Result:
        """That of a trial of a sweep's folder."""
        run = trial_run(folder, trial.number)
        error = trial.user_attrs.get(ERROR, "")
        return cls(
            trial.number + 1,
            written(trial.params, space),
            run,
            run.is_complete and not error,
            trial.user_attrs.get(PRUNED_AFTER),
            error,
        )

    @property
    def state(self) -> str:
        """`complete`, `pruned`, `failed`, or `begun`."""
        if self.is_complete:
            return "complete" if self.pruned_after is None else "pruned"
        return "failed" if self.error else "begun"

    def value(self, monitor: str) -> float:
        """The monitored number of its best weights; of a complete one."""
        return self.run.summary["metrics"]["val"][monitor.removeprefix("val_")]

    def line(self, monitor: str) -> dict[str, Any]:
        """Its row of `trials.csv`."""
        found: dict[str, Any] = {}
        if self.is_complete:
            found = {
                monitor: self.value(monitor),
                "accuracy": self.run.summary["metrics"]["val"]["accuracy"],
                "epochs": len(self.run.history),
                "seconds": round(sum(self.run.environment["seconds"].values()), 2),
            }
        columns = {name: found.get(name) for name in (monitor, *COLUMNS)}
        return {"trial": self.number, **self.settings, "state": self.state, **columns, "error": self.error}


def trial_run(folder: Path, number: int) -> Run:
    """The run of a sweep's trial, by optuna's number, from 0."""
    return Run(folder / "trials" / str(number + 1))


def written(settings: Mapping[str, Value], space: Sequence[Dimension]) -> dict[str, str]:
    """Settings as flags of `fit` take them."""
    return {dimension.key: dimension.written(settings[dimension.key]) for dimension in space}


def ranked(results: Sequence[Result], monitor: str, mode: str) -> list[Result]:
    """Complete trials from the best to the worst, the first of equals first; then the others."""
    sign = 1 if mode == "min" else -1
    complete = [result for result in results if result.is_complete]
    rest = [result for result in results if not result.is_complete]
    return [*sorted(complete, key=lambda result: sign * result.value(monitor)), *rest]


def write_trials(results: Sequence[Result], monitor: str, folder: Path) -> None:
    """Writes `trials.csv`: a row for each trial, in their order."""
    table = pd.DataFrame([result.line(monitor) for result in results])
    with replacing(folder / "trials.csv") as file:
        table.map(as_cell).to_csv(file, index=False)


def summarised(results: Sequence[Result], monitor: str, mode: str) -> dict[str, Any]:
    """The best of the trials, and what it is worth: plain values, for `summary.json`; one trial at least is complete.

    `expected` has, for the monitored metric and for the accuracy, what to expect on new images: `value`, `low`, `high`.
    """
    complete = [result for result in results if result.is_complete]
    best = ranked(complete, monitor, mode)[0]
    tables = (result.run.predictions("val") for result in complete)  # one at a time in memory
    worths = worth_of_best(tables, complete.index(best), monitor.removeprefix("val_"))
    states = [result.state for result in results]
    return {
        "best_trial": best.number,
        "run": f"trials/{best.number}",
        "settings": best.settings,
        "monitor": monitor,
        "monitor_mode": mode,
        "value": best.value(monitor),
        "accuracy": best.run.summary["accuracy"],
        "expected": {metric: _facts(worth) for metric, worth in worths.items()},
        "trials": {state: states.count(state) for state in ("complete", "pruned", "failed")},
    }


def write_summary(summary: Mapping[str, Any], folder: Path) -> None:
    """Writes `summary.json`, the last file of a sweep."""
    write_text(folder / "summary.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")


def table_of(results: Sequence[Result], monitor: str, mode: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows for the terminal, the best first."""
    keys = list(results[0].settings)
    rows = []
    for result in ranked(results, monitor, mode):
        line = result.line(monitor)
        numbers = ["–"] * 4
        if result.is_complete:
            measured = [metric_value(name, line[name]) for name in (monitor, "accuracy")]
            numbers = [*measured, str(line["epochs"]), f"{line['seconds']:.1f}"]
        rows.append([str(result.number), *result.settings.values(), *numbers, result.state.replace("complete", "")])
    return ["trial", *keys, metric_name(monitor), *COLUMNS, ""], rows


def sentences(summary: Mapping[str, Any]) -> list[str]:
    """What the best trial is, and what it is worth on images that have not chosen it."""
    monitor, accuracy = summary["monitor"], Accuracy.from_facts(summary["accuracy"]["val"])
    judged = sum(summary["trials"][state] for state in ("complete", "pruned"))
    lines = [
        f"Best: trial {summary['best_trial']}, {metric_name(monitor)} {metric_value(monitor, summary['value'])}, "
        f"accuracy {points(accuracy.share)} % of {accuracy.images:,} validation images."
    ]
    if judged == 1:
        lines.append("It is the only one that came to its end, so that nothing was chosen.")
    elif expected := summary["expected"]:
        texts = [_expected(metric, facts) for metric, facts in expected.items()]
        lines.append(
            f"Chosen among {judged} trials on these same images, it looks better than it is. Expected on new ones: "
            f"{', '.join(texts)}."
        )
    else:
        lines.append(
            f"Chosen among {judged} trials on these same images, it looks better than it is; by how much cannot be "
            f"told of {metric_name(monitor)}."
        )
    if "test" in summary["accuracy"]:
        test = Accuracy.from_facts(summary["accuracy"]["test"])
        lines.append(f"On the {test.images:,} test images, which have chosen nothing: accuracy {test}.")
    return lines


def _expected(metric: str, facts: Mapping[str, float]) -> str:
    value, low, high = facts["value"], facts["low"], facts["high"]
    if metric == "loss":
        return f"loss about {value:.3f} [{low:.3f}, {high:.3f}]"
    return f"{metric_name(metric)} about {interval(value, low, high)}"


def _facts(worth: Worth) -> dict[str, float]:
    expected: Estimate = worth.expected
    return {"measured": worth.measured, "value": expected.value, "low": expected.low, "high": expected.high}
