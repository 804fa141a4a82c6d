"""Finished runs side by side on the same images: numbers with intervals, and paired differences."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from resnet_tl.errors import UserError, printable
from resnet_tl.evaluation.accuracy import Accuracy
from resnet_tl.evaluation.intervals import (
    Estimate,
    bootstrap_interval,
    holm,
    image_resamples,
    images_needed,
    macro_f1,
    mcnemar,
    seed_resamples,
    wilson,
)
from resnet_tl.evaluation.metrics import image_losses, metrics_of
from resnet_tl.evaluation.predictions import classes_of, label_numbers, probabilities

if TYPE_CHECKING:
    from resnet_tl.run import Run

METRICS = ("accuracy", "macro_f1", "loss")
COSTS: dict[str, Callable[[Run], Any]] = {
    "parameters": lambda run: run.summary["network"]["parameters"],
    "multiply_adds": lambda run: run.summary["network"]["multiply_adds"],
    "epochs": lambda run: len(run.history),
    "training_seconds": lambda run: run.history["seconds"].sum(),
    "images_per_second": lambda run: run.environment["prediction_images_per_second"],
}


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone, or a single run; each metric is the mean over the seeds."""

    name: str
    runs: tuple[Run, ...]
    accuracy: Estimate
    macro_f1: Estimate
    loss: Estimate
    accuracies: tuple[float, ...]  # of each seed

    @property
    def costs(self) -> dict[str, float | None]:
        """`COSTS` as means over the runs; None where one of them did not record the fact."""
        means: dict[str, float | None] = dict.fromkeys(COSTS)
        for name, fact in COSTS.items():
            with suppress(KeyError, TypeError):
                means[name] = float(np.mean([fact(run) for run in self.runs]))
        return means


@dataclass(frozen=True)
class Pair:
    """Two groups on the same images, the more accurate one first."""

    first: str
    second: str
    difference: Estimate  # of the accuracies, as a share
    p_value: float
    adjusted_p: float
    images_needed: int | None  # to find a difference of this size; None when it is 0 or these images would do

    @property
    def is_decided(self) -> bool:
        """Whether test and interval agree that the first is better."""
        return self.adjusted_p < 0.05 and self.difference.low > 0


@dataclass(frozen=True)
class Comparison:
    """Groups from the most to the least accurate, and all pairs of them."""

    split: str
    images: int
    classes: tuple[str, ...]
    groups: tuple[Group, ...]
    pairs: tuple[Pair, ...]
    warnings: tuple[str, ...] = ()  # why an accuracy on these images is not to be relied on

    @property
    def has_seeds(self) -> bool:
        """Whether a group has more than one run."""
        return any(len(group.runs) > 1 for group in self.groups)

    def _repr_markdown_(self) -> str:
        """What a notebook shows: the table and the sentences."""
        from resnet_tl.evaluation.comparing.comparison_text import markdown

        return markdown(self)


def group_runs(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs whose recipes differ in nothing but the seed, as one group each; every other run by itself.

    A group of several is named by its folders, without a trailing `-seedK` or `-K`. Runs with the same recipe and the
    same seed stand each by itself.
    """
    by_recipe: dict[str, list[Run]] = {}
    for run in runs:
        by_recipe.setdefault(json.dumps(_without_seeds(run.recipe), sort_keys=True, default=str), []).append(run)
    groups: list[list[Run]] = []
    for same in by_recipe.values():
        has_own_seeds = len({_seed(run) for run in same}) == len(same)
        groups += [sorted(same, key=_seed)] if has_own_seeds else [[run] for run in same]
    return dict(zip(_names(groups), groups, strict=True))


def compare(groups: Mapping[str, Sequence[Run]], split: str = "val") -> Comparison:
    """Compares groups of runs by their prediction tables; UserError where they were not judged on the same images.

    Where all runs of a group are correct on the same images, as a single one is, its accuracy has Wilson's interval.
    All other intervals are a hierarchical bootstrap: a resample draws images, the same for every group, and then seeds,
    for each group by itself. McNemar's test takes runs of the same seed, or, where the seeds are not the same, every
    run of one group against every run of the other; the largest p counts.
    """
    runs = [run for members in groups.values() for run in members]
    for run in runs:
        assert run.summary  # an unfinished run says so
    tables = [_labelled(run, split) for run in runs]
    for run in runs[1:]:
        check_same_images(runs[0], run, split)
    classes, images = classes_of(tables[0]), len(tables[0])
    judged = [_Judged.of(table, classes) for table in tables]
    resampled = _resampled(judged, len(classes))

    draws = np.random.default_rng(0)
    made: list[Group] = []
    accuracies: dict[str, np.ndarray] = {}  # name of a group -> resamples
    correct: dict[str, dict[int, np.ndarray]] = {}  # name of a group -> seed -> is each image judged correctly
    for name in sorted(groups):  # so that the order in which the groups were given changes nothing
        places = [runs.index(run) for run in sorted(groups[name], key=_seed)]
        means = np.einsum("bkm,bk->bm", resampled[:, places], seed_resamples(len(places), draws))
        made.append(_group(name, [runs[place] for place in places], [judged[place] for place in places], means))
        accuracies[name] = means[:, 0]
        correct[name] = {_seed(runs[place]): judged[place].is_correct for place in places}
    made.sort(key=lambda group: -round(group.accuracy.value, 12))
    both = list(combinations(made, 2))
    paired = [_paired(correct[first.name], correct[second.name]) for first, second in both]
    p_values = [max(mcnemar(int((a & ~b).sum()), int((b & ~a).sum())) for a, b in twos) for twos in paired]
    pairs = []
    for (first, second), twos, p_value, adjusted in zip(both, paired, p_values, holm(p_values), strict=True):
        difference = round(first.accuracy.value - second.accuracy.value, 12)  # 0 for means that rounding sets apart
        interval = bootstrap_interval(difference, accuracies[first.name] - accuracies[second.name])
        discordant = np.mean([(a != b).mean() for a, b in twos])
        needed = images_needed(float(discordant), difference, alpha=0.05 / len(both))
        needed = needed if needed is not None and needed > images else None
        pairs.append(Pair(first.name, second.name, Estimate(difference, *interval), p_value, float(adjusted), needed))
    warnings = tuple(Accuracy.of(tables[0]).warnings())
    return Comparison(split, images, classes, tuple(made), tuple(pairs), warnings)


def paired_change(table: pd.DataFrame, before: pd.DataFrame) -> tuple[Estimate, Estimate]:
    """By how much accuracy and loss of one prediction table differ from those of another of the same labelled images.

    A bootstrap over the images, each paired with itself by id.
    """
    tables = (one[one["label"] != ""].sort_values("id", ignore_index=True) for one in (table, before))
    new, old = (_Judged.of(one, classes_of(before)) for one in tables)
    changes = np.stack([new.is_correct.astype(np.float64) - old.is_correct, new.losses - old.losses], axis=1)
    resampled = np.concatenate([weights @ changes / len(changes) for weights in image_resamples(len(changes))])
    accuracy, loss = (
        Estimate(float(mean), *bootstrap_interval(float(mean), resampled[:, place]))
        for place, mean in enumerate(changes.mean(axis=0))
    )
    return accuracy, loss


@dataclass(frozen=True)
class _Judged:
    """What one run said about the images, in the order of their ids."""

    labels: np.ndarray  # (N,) class numbers
    predicted: np.ndarray  # (N,) class numbers
    losses: np.ndarray  # (N,) nats
    metrics: dict[str, float]

    @classmethod
    def of(cls, table: pd.DataFrame, classes: Sequence[str]) -> _Judged:
        table = table[["label", *(f"prob_{name}" for name in classes)]]  # its own order of the classes may be another
        labels, values = label_numbers(table), probabilities(table)
        return cls(labels, values.argmax(axis=1), image_losses(labels, values), metrics_of(labels, values))

    @property
    def is_correct(self) -> np.ndarray:
        return self.labels == self.predicted


def _resampled(judged: Sequence[_Judged], classes: int) -> np.ndarray:
    """The metrics of each run on the same resamples of the images, (B, runs, metrics)."""
    blocks = []
    for weights in image_resamples(len(judged[0].labels)):
        block = np.empty((len(weights), len(judged), len(METRICS)))
        for place, run in enumerate(judged):
            block[:, place, 0] = weights @ run.is_correct / weights.shape[1]
            block[:, place, 1] = macro_f1(weights, run.labels, run.predicted, classes)
            block[:, place, 2] = weights @ run.losses / weights.shape[1]
        blocks.append(block)
    return np.concatenate(blocks)


def _group(name: str, runs: Sequence[Run], judged: Sequence[_Judged], resampled: np.ndarray) -> Group:
    values = {metric: float(np.mean([run.metrics[metric] for run in judged])) for metric in METRICS}
    estimates = {
        metric: Estimate(values[metric], *bootstrap_interval(values[metric], resampled[:, place]))
        for place, metric in enumerate(METRICS)
    }
    is_correct = judged[0].is_correct
    if all((run.is_correct == is_correct).all() for run in judged):
        estimates["accuracy"] = Estimate(values["accuracy"], *wilson(int(is_correct.sum()), len(is_correct)))
    return Group(name, tuple(runs), **estimates, accuracies=tuple(run.metrics["accuracy"] for run in judged))


def _paired(first: Mapping[int, np.ndarray], second: Mapping[int, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    if first.keys() == second.keys():
        return [(first[seed], second[seed]) for seed in first]
    return list(product(first.values(), second.values()))


def _labelled(run: Run, split: str) -> pd.DataFrame:
    """The labelled rows of a run's prediction table, in the order of their ids."""
    table = run.predictions(split)
    table = table[table["label"] != ""].sort_values("id", ignore_index=True)
    if table.empty:
        raise UserError(f"{run.path} has no labelled image in its predictions for the split '{split}'.")
    if not table["id"].is_unique:
        twice = table["id"][table["id"].duplicated()].iloc[0]
        raise UserError(f"{run.path} has the id '{twice}' twice in its predictions for the split '{split}'.")
    return table


def check_same_images(first: Run, other: Run, split: str) -> None:
    """Raises UserError when two runs were not judged on the same images with the same labels, joined by id."""
    one, two = _labelled(first, split), _labelled(other, split)
    both = f"{first.path} and {other.path}"
    if set(classes_of(one)) != set(classes_of(two)):
        odd = sorted(set(classes_of(one)) ^ set(classes_of(two)))[0]
        raise UserError(f"{both} do not know the same classes: only one of them knows '{odd}'.")
    different = sorted(set(one["id"]) ^ set(two["id"]))
    if different:
        fix = "compare runs of the same data."
        if len(first.folds) != len(other.folds) and not all((first.folds, other.folds)):
            fix = "one of them was judged by folds, on all of its images: train both with --folds."
        if _seed(first) != _seed(other):
            fix = "their seeds may have drawn the splits: train both with the same --data.split_seed."
        raise UserError(
            f"{both} were not judged on the same images: {len(different)} ids of the split '{split}' are in only one "
            f"of them, such as '{different[0]}'; {fix}"
        )
    changed = np.flatnonzero(one["label"].to_numpy() != two["label"].to_numpy())
    if len(changed):
        id_, label, otherwise = one["id"][changed[0]], one["label"][changed[0]], two["label"][changed[0]]
        raise UserError(
            f"{both} do not have the same labels: {len(changed)} ids of the split '{split}' differ, such as '{id_}', "
            f"which is '{label}' in one and '{otherwise}' in the other."
        )


def _seed(run: Run) -> int:
    return int(run.recipe.get("seed") or 0)


def _without_seeds(settings: Any) -> Any:
    if isinstance(settings, dict):
        return {key: _without_seeds(value) for key, value in settings.items() if key != "seed"}
    return settings


def _names(groups: Sequence[Sequence[Run]]) -> list[str]:
    """`cats` for cats-seed0 and cats-seed1; all names where they share none, and paths where those are equal."""
    names = []
    for runs in groups:
        stripped = {re.sub(r"-(seed)?\d+$", "", run.path.name) for run in runs}
        is_common = len(runs) > 1 and len(stripped) == 1
        names.append(stripped.pop() if is_common else " + ".join(run.path.name for run in runs))
    if len(set(names)) < len(names):
        names = [" + ".join(str(run.path) for run in runs) for runs in groups]
    return [printable(name) for name in names]
