"""The errors of a linear probe for growing numbers of training images, from which a learning curve is fitted."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from resnet_tl.errors import UserError
from resnet_tl.evaluation.learning_curve import LearningCurve, fewest_images, fit_curve, sizes_for
from resnet_tl.finetuning.probes import choose_penalty, linear_logits
from resnet_tl.terminal import counted

REPEATS = 5
"""Random subsets of each size."""


def learning_curve(
    features: Tensor, labels: np.ndarray, judged: Tensor, truth: np.ndarray, classes: int, groups: np.ndarray
) -> LearningCurve:
    """The curve of a linear probe learned from some images and judged on others; arguments as of `measure_errors`."""
    return fit_curve(*measure_errors(features, labels, judged, truth, classes, groups))


def measure_errors(
    features: Tensor, labels: np.ndarray, judged: Tensor, truth: np.ndarray, classes: int, groups: np.ndarray
) -> tuple[list[int], list[np.ndarray]]:
    """Numbers of training images, and for each which images a probe of so many judges wrong: as of `fit_curve`.

    Subsets are random, nested, and hold the classes in proportion. The penalty is chosen once for each size, inside
    one of its subsets.

    Args:
        features: of the training images, (n, F) float32.
        labels: their class numbers (n,).
        judged: features of the images that judge, (m, F).
        truth: their class numbers (m,).
        classes: how many there are.
        groups: a number for each training image, (n,), equal for what belongs together.

    Raises:
        UserError: too few training images.
    """
    sizes = sizes_for(len(labels), classes)
    if not sizes:
        raise UserError(
            f"{len(labels)} training images of {classes} classes are too few for a learning curve: it takes "
            f"{fewest_images(classes)} at least."
        )
    orders = [nested_order(labels, seed) for seed in range(REPEATS)]
    y, wrong = torch.from_numpy(labels), []
    with counted("probes of the learning curve", sum(sizes) * REPEATS) as advance:
        for size in sizes:
            first = orders[0][:size]
            penalty = choose_penalty(features[first], y[first], classes, groups[first])
            subsets = [order[:size] for order in orders] if size < len(labels) else [first]
            logits = [linear_logits(features[rows], y[rows], penalty, classes, judged) for rows in subsets]
            wrong.append(np.stack([one.argmax(dim=1).numpy() != truth for one in logits]))
            advance(size * REPEATS)
    return sizes, wrong


def nested_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """A random order of the images (n,) of which each beginning holds the classes in proportion."""
    generator = np.random.default_rng(seed)
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        place[generator.permutation(members)] = (np.arange(len(members)) + generator.random()) / len(members)
    return np.argsort(place, kind="stable")
