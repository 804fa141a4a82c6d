"""Calibration: probabilities that are as often right as they say, by one temperature fitted to labelled images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from resnet_tl.evaluation.intervals import Estimate, bootstrap_interval, image_resamples
from resnet_tl.evaluation.metrics import image_losses
from resnet_tl.evaluation.predictions import label_numbers, softmax
from resnet_tl.evaluation.predictions import probabilities as probabilities_of
from resnet_tl.evaluation.words import interval, metric_value

PARTS = 5
"""Of the images; on each the temperature is judged that the others gave."""
COLDEST, HOTTEST = 0.05, 20.0
LEAST = 30
"""Images from which a temperature is fitted at all."""
MOST = 4_000_000
"""Probabilities that it is fitted to, those of as many images as have them: more of them say it no better."""
MOST_BINS, LEAST_IN_BIN = 15, 10
SMALLEST = np.finfo(np.float64).tiny


def calibrate(table: pd.DataFrame) -> dict[str, Any]:
    """The temperature that a prediction table gives, and what it does to the loss; empty where it tells too little.

    `temperature` divides the logits; it is 1 where another was not better. `loss_before` is the mean loss in nats as
    the network has it, `loss` that with a temperature which each image had no part in: that of the other four fifths
    (cross-fitted); between `low` and `high` lies their difference, with 95 %, over images. `images` is how many there
    were. The weights may well have been chosen by the same images, which makes both losses a little too small.
    """
    labels, probabilities = label_numbers(table), probabilities_of(table)
    rows = _fitted_rows(labels, probabilities)
    if len(rows) < LEAST:
        return {}
    labels, probabilities = labels[rows], probabilities[rows]
    before, after = image_losses(labels, probabilities), cross_fitted_losses(labels, probabilities)
    change = after - before
    resampled = np.concatenate([weights @ change / len(change) for weights in image_resamples(len(change))])
    low, high = bootstrap_interval(float(change.mean()), resampled)
    is_better = bool(change.mean() < 0)
    return {
        "temperature": fit_temperature(labels, probabilities) if is_better else 1.0,
        "images": len(rows),
        "loss_before": float(before.mean()),
        "loss": float((after if is_better else before).mean()),
        "low": low,
        "high": high,
    }


def calibration_line(facts: Mapping[str, Any]) -> str:
    """What `calibrate` gave where the temperature is not 1, in a sentence."""
    before, after = (metric_value("loss", facts[name]) for name in ("loss_before", "loss"))
    return (
        f"Calibration: predict and submit divide the logits by {facts['temperature']:.2f}, by which the loss of images "
        f"that had no part in it is {after} instead of {before}."
    )


def calibration_words(table: pd.DataFrame, temperature: float = 1.0) -> str:
    """How far to trust the probabilities of a prediction table, at a temperature: three numbers."""
    labels, probabilities = label_numbers(table), probabilities_of(table)
    probabilities = at_temperature(probabilities[labels >= 0], temperature)
    labels = labels[labels >= 0]
    error, loss = calibration_error(labels, probabilities), float(image_losses(labels, probabilities).mean())
    return (
        f"loss {metric_value('loss', loss)}, Brier score {brier(labels, probabilities):.3f}, "
        f"calibration error {interval(*error)}"
    )


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The temperature with the smallest loss (Guo et al. 2017, On Calibration of Modern Neural Networks, 1706.04599).

    Every image counts as if one more had been judged wrongly among them (Platt 1999, Probabilistic Outputs for Support
    Vector Machines), without which images that are all judged correctly would make a network as sure as can be.
    """
    from scipy.optimize import minimize_scalar

    logits = _logits(probabilities)
    logits -= logits.max(axis=1, keepdims=True)
    wrong = 1 / (len(labels) + 2)
    # The cross-entropy is log-sum-exp less the logits weighted by the targets, which is in proportion to 1/temperature.
    weighted = float(((1 - wrong) * logits[np.arange(len(labels)), labels] + wrong * logits.mean(axis=1)).mean())

    def loss(log_temperature: float) -> float:
        inverse = np.exp(-log_temperature)
        return float(np.log(np.exp(logits * inverse).sum(axis=1)).mean() - weighted * inverse)

    found = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(found.x))


def at_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """The probabilities (N, C) that logits divided by a temperature have, from those that they have without it."""
    return probabilities if temperature == 1 else softmax(_logits(probabilities) / temperature)


def cross_fitted_losses(labels: np.ndarray, probabilities: np.ndarray, seed: int = 0) -> np.ndarray:
    """The loss of each image (N,) by the temperature of the parts of the images that it is not in."""
    return image_losses(labels, cross_fitted(labels, probabilities, seed))


def cross_fitted(labels: np.ndarray, probabilities: np.ndarray, seed: int = 0) -> np.ndarray:
    """The probabilities (N, C) of each image at the temperature of the parts of the images that it is not in."""
    part = np.random.default_rng(seed).permutation(len(labels)) % PARTS
    found = np.empty(probabilities.shape)
    for number in range(PARTS):
        judged = part == number
        temperature = fit_temperature(labels[~judged], probabilities[~judged])
        found[judged] = at_temperature(probabilities[judged], temperature)
    return found


def held_out(labels: np.ndarray, probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """The probabilities (N, C) of images, calibrated without a part of their own in it.

    `temperature` is what `calibrate` gave of the same images. Those that it was fitted to are cross-fitted, as there;
    where it is 1, none was fitted.
    """
    found = at_temperature(probabilities, temperature)
    if temperature != 1:
        rows = _fitted_rows(labels, probabilities)
        found[rows] = cross_fitted(labels[rows], probabilities[rows])
    return found


def brier(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The mean squared distance of the probabilities from the truth, 0 to 2 (Brier 1950)."""
    squares = np.einsum("ij,ij->i", probabilities, probabilities)
    return float((squares - 2 * probabilities[np.arange(len(labels)), labels] + 1).mean())


def reliability(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Bins of equally many images, by how sure the network is: images, mean largest probability, accuracy, (B, 3)."""
    number, sure = _bins(probabilities), probabilities.max(axis=1)
    counts = np.bincount(number)
    means = (np.bincount(number, values) / counts for values in (sure, probabilities.argmax(axis=1) == labels))
    return np.stack([counts, *means], axis=1)


def calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> Estimate:
    """How far the network's largest probability is from its accuracy: the root mean square over `reliability`'s bins.

    Of each bin's squared distance the part is taken off that chance alone would give (Kumar et al. 2019, Verified
    Uncertainty Calibration, arXiv 1909.10155; Roelofs et al. 2020, Mitigating Bias in Calibration Error Estimation,
    arXiv 2012.08668), so that it may be 0. The 95 % interval is 1.96 deviations of the mean square to either side, as a
    bootstrap over the images gives them with the bins as they are.
    """
    number, sure = _bins(probabilities), probabilities.max(axis=1)
    distance = (probabilities.argmax(axis=1) == labels) - sure
    in_bin = np.eye(number.max() + 1)[number]
    parts = np.concatenate([in_bin, in_bin * distance[:, None], in_bin * distance[:, None] ** 2], axis=1)

    def squared(weights: np.ndarray) -> np.ndarray:
        """Of each resample."""
        images, sums, squares = np.split(weights @ parts, 3, axis=1)
        mean = sums / np.maximum(images, 1)
        variance = (squares - images * mean**2) / np.maximum(images - 1, 1)
        share = images / images.sum(axis=1, keepdims=True)
        return (share * (mean**2 - variance / np.maximum(images, 1))).sum(axis=1)

    value = max(0.0, float(squared(np.ones((1, len(labels))))[0]))
    half = 1.96 * float(np.concatenate([squared(weights) for weights in image_resamples(len(labels))]).std())
    return Estimate(*(float(np.sqrt(max(0.0, square))) for square in (value, value - half, value + half)))


def _fitted_rows(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The images that a temperature is fitted to: all that are known, or as many by chance as are enough."""
    rows = np.flatnonzero((labels >= 0) & np.isfinite(probabilities).all(axis=1))
    return np.random.default_rng(0).permutation(rows)[: max(LEAST, MOST // probabilities.shape[1])]


def _bins(probabilities: np.ndarray) -> np.ndarray:
    """The number of each image's bin (N,), from the least sure to the surest."""
    images = len(probabilities)
    bins = min(MOST_BINS, max(1, images // LEAST_IN_BIN))
    order = np.argsort(probabilities.max(axis=1), kind="stable")
    number = np.empty(images, np.int64)
    number[order] = np.arange(images) * bins // images
    return number


def _logits(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities, SMALLEST))
