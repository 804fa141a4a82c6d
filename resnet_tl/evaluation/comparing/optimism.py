"""What the best of several trials is worth: chosen on the same images that it is judged on, it looks too good.

The choice is repeated on resamples of the images, and what each choice reaches on the images that are not in its
resample is not flattered by it (the out-of-bag estimate; Tsamardinos, Greasidou and Borboudakis 2018, Bootstrapping the
out-of-sample predictions for efficient and accurate cross-validation, Machine Learning 107; the bias itself: Tibshirani
and Tibshirani 2009, A bias correction for the minimum error rate in cross-validation). It needs no training.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from resnet_tl.evaluation.intervals import RESAMPLES, Estimate, bootstrap_interval, image_resamples, macro_f1, wilson
from resnet_tl.evaluation.metrics import image_losses
from resnet_tl.evaluation.predictions import classes_of, label_numbers, probabilities

KNOWN = ("loss", "accuracy", "balanced_accuracy", "macro_f1")
"""The metrics for which a choice can be repeated."""


@dataclass(frozen=True)
class Worth:
    """A metric of the best trial: as measured on the images that chose it, and what to expect on new ones."""

    measured: float
    expected: Estimate


def worth_of_best(
    tables: Iterable[pd.DataFrame], best: int, monitor: str, resamples: int = RESAMPLES
) -> dict[str, Worth]:
    """`Worth` of the monitored metric and of the accuracy, for the trial at place `best` of some prediction tables.

    All tables are of the same labelled images, in any order. `monitor` is a metric such as `loss`; none of `KNOWN`:
    nothing is known. Where trials differ clearly, the estimate is rather too low than too high: a resample chooses less
    surely than all images do. So the interval reaches from that of the trial as it was measured to the same one, moved
    to what is expected. It does not cover another seed, nor what the choice of each trial's best epoch has gained.
    """
    if monitor not in KNOWN:
        return {}
    judged = _Judged.of(tables)
    worths = {}
    for metric in dict.fromkeys((monitor, "accuracy")):
        measured = float(judged.scores(metric, np.ones((1, judged.images)))[0, best])
        own, left_out = [], []
        for weights in image_resamples(judged.images, resamples):
            weights = weights[(weights == 0).any(axis=1)]
            chosen = _best(judged.scores(monitor, weights), monitor)
            own.append(judged.scores(metric, weights)[:, best])
            left_out.append(judged.scores(metric, (weights == 0).astype(np.float64))[np.arange(len(chosen)), chosen])
        found = np.concatenate(left_out)
        mean = float(found.mean()) if len(found) and judged.predicted.shape[1] > 1 else measured
        # Never better than measured: what little is left then is the chance of the resamples.
        mean = max(mean, measured) if metric == "loss" else min(mean, measured)
        if metric == "accuracy":
            low, high = wilson(int(judged.is_correct[:, best].sum()), judged.images)
        else:
            low, high = bootstrap_interval(measured, np.concatenate(own)) if len(found) else (measured, measured)
        ends = [end + move for end in (low, high) for move in (0.0, mean - measured)]
        most = np.inf if metric == "loss" else 1.0
        worths[metric] = Worth(measured, Estimate(mean, max(min(ends), 0.0), min(max(ends), most)))
    return worths


def _best(scores: np.ndarray, metric: str) -> np.ndarray:
    """The place of the best trial in each row (B, trials), the first of equals."""
    return scores.argmin(axis=1) if metric == "loss" else scores.argmax(axis=1)


@dataclass(frozen=True)
class _Judged:
    """What all trials say of the images, in one order of these."""

    labels: np.ndarray  # (N,) class numbers
    losses: np.ndarray  # (N, trials) nats
    predicted: np.ndarray  # (N, trials) class numbers
    classes: int

    @classmethod
    def of(cls, tables: Iterable[pd.DataFrame]) -> _Judged:
        classes: list[str] = []
        labels, losses, predicted = np.zeros(0, np.int64), [], []
        for table in tables:
            classes = classes or list(classes_of(table))
            table = table[table["label"] != ""].sort_values("id", ignore_index=True)
            table = table[["label", *(f"prob_{name}" for name in classes)]]
            labels, values = label_numbers(table), probabilities(table)
            losses.append(image_losses(labels, values))
            predicted.append(values.argmax(axis=1))
        return cls(labels, np.stack(losses, axis=1), np.stack(predicted, axis=1), len(classes))

    @property
    def images(self) -> int:
        return len(self.labels)

    @property
    def is_correct(self) -> np.ndarray:
        return self.predicted == self.labels[:, None]

    def scores(self, metric: str, weights: np.ndarray) -> np.ndarray:
        """A metric of every trial, (B, trials), on images that count by weights (B, N)."""
        from scipy.sparse import csr_array

        if metric in ("loss", "accuracy"):
            values = self.losses if metric == "loss" else self.is_correct.astype(np.float64)
            return weights @ values / weights.sum(axis=1, keepdims=True)
        if metric == "macro_f1":
            each = [macro_f1(weights, self.labels, predicted, self.classes) for predicted in self.predicted.T]
            return np.stack(each, axis=1)
        rows, ones = np.arange(self.images), np.ones(self.images)

        def per_class(counts: np.ndarray) -> np.ndarray:
            return weights @ csr_array((counts, (rows, self.labels)), shape=(self.images, self.classes))

        images = per_class(ones)
        each = [per_class(correct.astype(np.float64)) for correct in self.is_correct.T]
        recalls = np.stack(each, axis=1) / np.maximum(images, 1)[:, None]
        return recalls.sum(axis=2) / (images > 0).sum(axis=1, keepdims=True)
