"""How many labels are wrong, and how probably each: a model of mixed-up labels on out-of-fold probabilities."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from resnet_tl.evaluation.label_errors import self_confidence

MOST_WRONG = 0.5
"""Share of wrong labels beyond which nobody can tell the wrong ones from the right."""
ASSUMED = 0.2
"""Share of wrong labels that training allows for, whatever there are; see docs/label_errors.md."""
COLDEST, HOTTEST = 0.05, 20.0
MOST = 2_000_000
"""Probabilities that the model is fitted to, those of as many images as have them."""
HALF_CHI_SQUARE = 1.92
"""By which the log-likelihood falls at the ends of a 95 % interval: half the quantile of chi-square, 1 degree."""
SMALLEST = np.finfo(np.float64).tiny


class LabelNoise(NamedTuple):
    """What out-of-fold probabilities say of the labels."""

    loss: float  # mean negative log-likelihood of the labels, nats: the smaller, the better the probabilities
    rate: float  # share of wrong labels
    temperature: float  # by which the probabilities' logarithms were divided
    probabilities: np.ndarray  # of the true class as the picture alone has it, (N, C)
    wrong: np.ndarray  # the probability that the label is wrong, (N,)


def fit_label_noise(labels: np.ndarray, probabilities: np.ndarray) -> LabelNoise:
    """Fits a share of wrong labels and a temperature to labels (N,) and out-of-fold probabilities (N, C).

    A label is taken to be the true class, or, with the chance `rate`, any of the others: its likelihood is
    (1 - rate) p + rate (1 - p) / (C - 1), where p is the probability of its class at the temperature. Both are those of
    the largest likelihood. `wrong` follows by Bayes' rule.
    """
    rows = _some(labels, probabilities)
    logs = np.log(np.maximum(probabilities, SMALLEST))
    loss, temperature, rate = _best(labels[rows], logs[rows])
    tempered = _softmax(logs / temperature)
    own, other = 1 - rate, rate / (probabilities.shape[1] - 1)
    confidence = self_confidence(labels, tempered)
    wrong = other * (1 - confidence) / np.maximum(own * confidence + other * (1 - confidence), SMALLEST)
    return LabelNoise(loss, rate, temperature, tempered, wrong)


def rate_interval(labels: np.ndarray, probabilities: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the share of wrong labels, by the profile likelihood (Venzon and Moolgavkar 1988).

    It covers the chance of which images there are, not that wrong labels fall between look-alike classes.
    """
    from scipy.optimize import brentq

    rows = _some(labels, probabilities)
    labels, logs = labels[rows], np.log(np.maximum(probabilities[rows], SMALLEST))
    least, _, rate = _best(labels, logs)

    def too_far(fixed: float) -> float:
        profile = _minimum(lambda temperature: _loss(labels, logs, temperature, fixed))[0]
        return len(labels) * (profile - least) - HALF_CHI_SQUARE

    low = float(brentq(too_far, 0, rate, xtol=1e-4)) if rate > 0 and too_far(0.0) > 0 else 0.0
    high = float(brentq(too_far, rate, MOST_WRONG, xtol=1e-4)) if too_far(MOST_WRONG) > 0 else MOST_WRONG
    return low, high


def _some(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    return np.random.default_rng(0).permutation(len(labels))[: max(1000, MOST // probabilities.shape[1])]


def _best(labels: np.ndarray, logs: np.ndarray) -> tuple[float, float, float]:
    """Loss, temperature and rate of the largest likelihood."""

    def rate_at(temperature: float) -> tuple[float, float]:
        from scipy.optimize import minimize_scalar

        confidence = self_confidence(labels, _softmax(logs / temperature))
        found = minimize_scalar(  # convex in the rate
            lambda rate: _mean_loss(confidence, rate, logs.shape[1]), bounds=(0, MOST_WRONG), method="bounded",
            options={"xatol": 1e-6},
        )  # fmt: skip
        none = _mean_loss(confidence, 0.0, logs.shape[1])
        return (none, 0.0) if none <= found.fun else (float(found.fun), float(found.x))

    loss, temperature = _minimum(lambda temperature: rate_at(temperature)[0])
    return loss, temperature, rate_at(temperature)[1]


def _minimum(loss: Callable[[float], float]) -> tuple[float, float]:
    """The smallest loss over temperatures, and its temperature."""
    from scipy.optimize import minimize_scalar

    grid = np.geomspace(COLDEST, HOTTEST, 13)  # there may be two minima: few errors and soft, or many and sharp
    values = [loss(float(temperature)) for temperature in grid]
    place = int(np.argmin(values))
    bounds = np.log(grid[max(0, place - 1)]), np.log(grid[min(len(grid) - 1, place + 1)])
    found = minimize_scalar(lambda log: loss(float(np.exp(log))), bounds=bounds, method="bounded")
    return min((float(found.fun), float(np.exp(found.x))), (values[place], float(grid[place])))


def _loss(labels: np.ndarray, logs: np.ndarray, temperature: float, rate: float) -> float:
    return _mean_loss(self_confidence(labels, _softmax(logs / temperature)), rate, logs.shape[1])


def _mean_loss(confidence: np.ndarray, rate: float, classes: int) -> float:
    likelihood = (1 - rate) * confidence + rate * (1 - confidence) / (classes - 1)
    return float(-np.log(np.maximum(likelihood, SMALLEST)).mean())


def _softmax(logs: np.ndarray) -> np.ndarray:
    odds = np.exp(logs - logs.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)
