"""The tables of numbers on the page of a run: every metric beside its baselines, each class, each bin of confidence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from resnet_tl.evaluation.accuracy import Accuracy
from resnet_tl.evaluation.intervals import wilson
from resnet_tl.evaluation.metrics import per_class
from resnet_tl.evaluation.words import NAMES, SPLITS, interval, metric_name, metric_value, points, spread_text
from resnet_tl.report.baselines import Judge
from resnet_tl.report.facts import Table
from resnet_tl.report.probabilities import Trust
from resnet_tl.run import Run


def numbers_table(run: Run, split: str, compared: Sequence[Judge]) -> Table:
    """Every metric of the model and of its baselines; of folds with the spread, and of a test beside a validation."""
    metrics, spread = run.summary["metrics"], run.summary.get("spread", {}).get(split, {})
    first, *others = compared
    columns = {f"{SPLITS[split]}: this model": _texts(first.accuracy, metrics[split] | first.metrics, first.intervals)}
    if spread:
        columns["each fold, mean ± sd"] = {name: spread_text(name, of["mean"], of["sd"]) for name, of in spread.items()}
    if split == "val" and "test" in metrics:
        whose = "mean of all models" if run.folds else "this model"
        columns[f"test: {whose}"] = _texts(run.accuracies["test"], metrics["test"])
    for judge in others:
        lead = {"lead": interval(*judge.lead, unit=" points")} if judge.lead else {}
        columns[judge.title] = _texts(judge.accuracy, judge.metrics, judge.intervals) | lead
    own = [name for numbers in metrics.values() for name in numbers]
    titles = {"images": "images", **{name: metric_name(name) for name in (*NAMES, *own)}}
    titles["lead"] = "lead of this model in accuracy"
    known = {name for texts in columns.values() for name in texts}
    rows = [[title, *(of.get(name, "") for of in columns.values())] for name, title in titles.items() if name in known]
    return Table(["", *columns], rows)


def _texts(
    accuracy: Accuracy, metrics: Mapping[str, float], intervals: Mapping[str, Sequence[float]] | None = None
) -> dict[str, str]:
    """The numbers of one column by their names; a share and a loss with their intervals, where they are known."""
    texts = {"images": f"{accuracy.images:,}", **{name: metric_value(name, value) for name, value in metrics.items()}}
    for name, (low, high) in (intervals or {}).items():
        if not math.isfinite(low + high):  # of a fit that diverged
            continue
        if name == "loss":
            texts[name] += f" [{low:.3f}, {high:.3f}]"
        elif name in texts:
            texts[name] = interval(metrics[name], low, high)
    return texts | {"accuracy": str(accuracy)}


def class_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """One row per class: texts to show and numbers to sort by."""
    rows = []
    scores = per_class(table)
    predicted = table.loc[table["label"] != "", "predicted"].value_counts()
    for score in scores.to_dict("records"):
        correct = 0 if np.isnan(score["recall"]) else round(score["recall"] * score["images"])
        of = {"recall": int(score["images"]), "precision": int(predicted.get(score["class"], 0))}
        cells = {name: _share(correct, images) for name, images in of.items()}
        rows.append(
            {
                "name": score["class"],
                "images": int(score["images"]),
                **cells,
                "f1": (metric_value("f1", score["f1"]), -1 if np.isnan(score["f1"]) else score["f1"]),
                "confused": score["most_confused_with"],
            }
        )
    return rows


def _share(correct: int, images: int) -> tuple[str, float]:
    if not images:
        return "–", -1.0
    return interval(correct / images, *wilson(correct, images), unit=""), correct / images


def bins_table(one: Trust) -> Table:
    """The bins of a reliability diagram."""
    rows = [[f"{int(images):,}", points(sure), points(right)] for images, sure, right in one.bins]
    return Table(["images", "how sure, %", "how often right, %"], rows)


def parent_table(parent: Mapping[str, Any]) -> Table | None:
    """What a final run says of the one that it repeats."""
    if not parent:
        return None
    rows = []
    for split, numbers in parent["metrics"].items():
        own = Accuracy.from_facts(parent["accuracy"][split])
        rows.append(
            [SPLITS[split], f"{own.images:,}", str(own), metric_value("loss", numbers.get("loss", float("nan")))]
        )
    return Table(["", "images", "accuracy", "loss"], rows)
