"""Every reported number, from a prediction table, in plain numpy.

The conventions are scikit-learn's: what is averaged over classes is averaged over the classes present in the labels,
each with the same weight; a class that is present but never predicted has F1 0; unlabelled rows do not count. Its
import alone takes longer than the metrics of a hundred epochs, so that it is the oracle of the tests and not used here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from resnet_tl.errors import UserError, nearest
from resnet_tl.evaluation.predictions import classes_of, probabilities


def compute_metrics(table: pd.DataFrame) -> dict[str, float]:
    """The numbers of a prediction table, over its labelled rows.

    `loss`: mean negative log-likelihood of the true class in nats; `accuracy`; `balanced_accuracy`: mean recall;
    `macro_f1`; `auroc`: the binary one for two classes, else the mean of one-vs-rest, nan when only one class is
    present; `top5_accuracy` with more than five classes.

    Raises:
        UserError: no row is labelled, or a label is not among the classes.
    """
    known = _labelled(table)
    scores = _class_scores(known)
    true = known.probabilities[np.arange(len(known.labels)), known.labels]
    areas = scores["auroc"].to_numpy()
    metrics = {
        "loss": float(-np.log(np.maximum(true, np.finfo(np.float64).tiny)).mean()) + 0.0,  # + 0: no "-0.0"
        "accuracy": float((known.labels == known.predicted).mean()),
        "balanced_accuracy": float(scores["recall"].mean()),
        "macro_f1": float(scores["f1"].mean()),
        "auroc": float(areas[1] if len(areas) == 2 else areas[scores["images"] > 0].mean()),
    }
    if len(known.classes) > 5:
        metrics["top5_accuracy"] = float((_rank(known, true) < 5).mean())
    return metrics


def per_class(table: pd.DataFrame) -> pd.DataFrame:
    """One row per class, in order: class, images, precision, recall, f1, auroc, most_confused_with.

    What is not defined is nan: all but precision for a class without images, precision for one never predicted.
    `most_confused_with` is the class that most of its misjudged images were taken for, "" when there are none.
    """
    known = _labelled(table)
    mistakes = confusion(table)
    np.fill_diagonal(mistakes, 0)
    names = np.array(known.classes, dtype=object)
    scores = _class_scores(known)
    scores.insert(0, "class", names)
    scores["most_confused_with"] = np.where(mistakes.any(axis=1), names[mistakes.argmax(axis=1)], "")
    return scores


def confusion(table: pd.DataFrame) -> np.ndarray:
    """Counts (C, C) of labelled images: row = label, column = predicted."""
    return _confusion(_labelled(table))


@dataclass(frozen=True)
class _Labelled:
    """The labelled rows of a table with class numbers for names."""

    classes: tuple[str, ...]
    labels: np.ndarray  # (N,) int64
    predicted: np.ndarray  # (N,) int64
    probabilities: np.ndarray  # (N, C) float64


def _labelled(table: pd.DataFrame) -> _Labelled:
    table = table[table["label"] != ""]
    if table.empty:
        raise UserError("The prediction table has no labelled image, so nothing can be measured on it.")
    classes = classes_of(table)
    numbers = {}
    for column in ("label", "predicted"):
        numbers[column] = pd.Index(classes).get_indexer(pd.Index(table[column]))
        if (numbers[column] < 0).any():
            odd = table[column].to_numpy()[numbers[column] < 0][0]
            raise UserError(
                f"The prediction table has a {column} '{odd}' that is no class of it.{nearest(odd, classes)}"
            )
    return _Labelled(classes, numbers["label"], numbers["predicted"], probabilities(table))


def _confusion(known: _Labelled) -> np.ndarray:
    classes = len(known.classes)
    return np.bincount(known.labels * classes + known.predicted, minlength=classes**2).reshape(classes, classes)


def _class_scores(known: _Labelled) -> pd.DataFrame:
    counts = _confusion(known)
    right, images, predicted = np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)
    numbers = range(len(known.classes))
    return pd.DataFrame(
        {
            "images": images,
            "precision": _share(right, predicted),
            "recall": _share(right, images),
            "f1": np.where(images > 0, _share(2 * right, images + predicted), np.nan),
            "auroc": [_auroc(known.probabilities[:, number], known.labels == number) for number in numbers],
        }
    )


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """`part / whole`, nan where the whole is 0."""
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _auroc(scores: np.ndarray, is_positive: np.ndarray) -> float:
    """The chance that a positive scores above a negative, ties counting half; nan without one of either.

    The same number as scikit-learn's `roc_auc_score`, some ten times faster: only the negatives are sorted.
    """
    positives, negatives = scores[is_positive], np.sort(scores[~is_positive])
    if not len(positives) or not len(negatives) or np.isnan(scores).any():
        return float("nan")
    below, not_above = (np.searchsorted(negatives, positives, side) for side in ("left", "right"))
    return float((below + not_above).mean() / (2 * len(negatives)))


def _rank(known: _Labelled, true: np.ndarray) -> np.ndarray:
    """How many classes come before the true one, (N,); of equal probabilities the first class leads, as in argmax."""
    before = np.arange(len(known.classes)) < known.labels[:, None]
    others = known.probabilities
    return ((others > true[:, None]) | ((others == true[:, None]) & before)).sum(axis=1)
