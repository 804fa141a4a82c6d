"""Every reported number, from labels and probabilities, in plain numpy.

The conventions are scikit-learn's, which the tests compare with: averages are over the classes present in the labels,
each with the same weight; a class that is present but never predicted has F1 0; unlabelled rows do not count.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from resnet_tl.errors import UserError
from resnet_tl.evaluation.predictions import classes_of, label_numbers
from resnet_tl.evaluation.predictions import probabilities as probabilities_of


def metrics_of(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """The numbers of some images, each taken for its most probable class, the first of equals.

    `loss`: mean negative log-likelihood of the true class in nats; `accuracy`; `balanced_accuracy`: mean recall;
    `macro_f1`; `auroc`: the binary one for two classes, else the mean of one-vs-rest, nan when only one class is
    present; `top5_accuracy` with more than five classes.

    Args:
        labels: class numbers (N,) int64; images with a negative one, the unlabelled, do not count.
        probabilities: (N, C) float64, as `softmax` gives them.

    Raises:
        UserError: no image is labelled.
    """
    labels, probabilities = _labelled(labels, probabilities)
    scores = _class_scores(labels, probabilities)
    true = probabilities[np.arange(len(labels)), labels]
    areas = scores["auroc"]
    metrics = {
        "loss": float(image_losses(labels, probabilities).mean()) + 0.0,  # + 0: no "-0.0"
        "accuracy": float((labels == probabilities.argmax(axis=1)).mean()),
        "balanced_accuracy": float(np.nanmean(scores["recall"])),
        "macro_f1": float(np.nanmean(scores["f1"])),
        "auroc": float(areas[1] if len(areas) == 2 else areas[scores["images"] > 0].mean()),
    }
    if len(areas) > 5:
        metrics["top5_accuracy"] = float((_rank(labels, probabilities, true) < 5).mean())
    return metrics


def image_losses(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The negative log-likelihood of each image's class, (N,) in nats; the arguments as in `metrics_of`."""
    return -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], np.finfo(np.float64).tiny))


def compute_metrics(table: pd.DataFrame) -> dict[str, float]:
    """`metrics_of` a prediction table; UserError where no row is labelled, or a label is not among the classes."""
    return metrics_of(label_numbers(table), probabilities_of(table))


def per_class(table: pd.DataFrame) -> pd.DataFrame:
    """One row per class, in order: class, images, precision, recall, f1, auroc, most_confused_with.

    What is not defined is nan; `most_confused_with` is the class that most of its misjudged images were taken for.
    """
    labels, probabilities = _labelled(label_numbers(table), probabilities_of(table))
    mistakes = _confusion(labels, probabilities)
    np.fill_diagonal(mistakes, 0)
    names = np.array(classes_of(table), dtype=object)
    confused = np.where(mistakes.any(axis=1), names[mistakes.argmax(axis=1)], "")
    return pd.DataFrame({"class": names, **_class_scores(labels, probabilities), "most_confused_with": confused})


def confusion(table: pd.DataFrame) -> np.ndarray:
    """Counts (C, C) of labelled images: row = label, column = most probable class."""
    return _confusion(*_labelled(label_numbers(table), probabilities_of(table)))


def _labelled(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    is_labelled = labels >= 0
    if not is_labelled.any():
        raise UserError("The prediction table has no labelled image, so nothing can be measured on it.")
    return labels[is_labelled], probabilities[is_labelled]


def _confusion(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    classes = probabilities.shape[1]
    pairs = labels * classes + probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def _class_scores(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    counts = _confusion(labels, probabilities)
    correct, images, predicted = np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)
    return {
        "images": images,
        "precision": _share(correct, predicted),
        "recall": _share(correct, images),
        "f1": np.where(images > 0, _share(2 * correct, images + predicted), np.nan),
        "auroc": np.array([_auroc(scores, labels == number) for number, scores in enumerate(probabilities.T)]),
    }


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """`part / whole`, nan where the whole is 0."""
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _auroc(scores: np.ndarray, is_positive: np.ndarray) -> float:
    """The chance that a positive scores above a negative, ties counting half; nan without one of either."""
    positives, negatives = scores[is_positive], np.sort(scores[~is_positive])
    if not len(positives) or not len(negatives) or np.isnan(scores).any():
        return float("nan")
    below, not_above = (np.searchsorted(negatives, positives, side) for side in ("left", "right"))
    return float((below + not_above).mean() / (2 * len(negatives)))


def _rank(labels: np.ndarray, probabilities: np.ndarray, true: np.ndarray) -> np.ndarray:
    """How many classes come before the true one, (N,); of equal probabilities the first class leads, as in argmax."""
    before = np.arange(probabilities.shape[1]) < labels[:, None]
    return ((probabilities > true[:, None]) | ((probabilities == true[:, None]) & before)).sum(axis=1)
