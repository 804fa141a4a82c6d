"""What several folds say together: each image judged by the fold that had not seen it, and the spread over folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from resnet_tl.evaluation.intervals import bootstrap_interval, image_resamples, macro_f1
from resnet_tl.evaluation.metrics import image_losses, metrics_of
from resnet_tl.evaluation.predictions import classes_of, label_numbers, probabilities


def out_of_fold(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The prediction tables of all folds' validation images as one, by id, with the column `fold`, from 1."""
    parts = [table.assign(fold=number) for number, table in enumerate(tables, 1)]
    columns = [name for name in parts[0] if name != "fold"]
    columns.insert(columns.index("predicted") + 1, "fold")
    return pd.concat(parts)[columns].sort_values("id", ignore_index=True)


def averaged(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The mean probabilities of all folds' models for the same images, in the order of the first table."""
    first, classes = tables[0], classes_of(tables[0])
    shares = np.mean([probabilities(table.set_index("id").loc[first["id"]]) for table in tables], axis=0)
    columns = {f"prob_{name}": share for name, share in zip(classes, shares.T, strict=True)}
    return first.assign(predicted=np.array(classes, object)[shares.argmax(axis=1)], **columns)


def spread(metrics: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation over folds of each metric that all of them have; one fold trains on others' images.

    The folds share most of their training images, so that the mean is known less well than the deviation suggests
    (Bengio and Grandvalet 2004, No unbiased estimator of the variance of K-fold cross-validation).
    """
    found = {}
    for name in metrics[0]:
        values = [numbers[name] for numbers in metrics if name in numbers]
        if len(values) == len(metrics):
            found[name] = {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1))}
    return found


def intervals(table: pd.DataFrame) -> dict[str, list[float]]:
    """The 95 % intervals, over images, of a labelled table's `loss` and `macro_f1`: [low, high]."""
    table = table[table["label"] != ""]
    labels, values = label_numbers(table), probabilities(table)
    numbers, classes = metrics_of(labels, values), values.shape[1]
    losses = image_losses(labels, values)
    found: dict[str, list[np.ndarray]] = {"loss": [], "macro_f1": []}
    for weights in image_resamples(len(labels)):
        found["loss"].append(weights @ losses / len(labels))
        found["macro_f1"].append(macro_f1(weights, labels, values.argmax(axis=1), classes))
    return {name: list(bootstrap_interval(numbers[name], np.concatenate(parts))) for name, parts in found.items()}
