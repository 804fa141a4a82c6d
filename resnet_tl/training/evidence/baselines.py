"""What could be had without fine-tuning: nearest neighbours and a linear probe on the pretrained, frozen features."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import cross_entropy, linear

from resnet_tl.errors import UserError
from resnet_tl.evaluation.predictions import softmax
from resnet_tl.finetuning.defaults import PENALTIES
from resnet_tl.finetuning.logistic import penalty_path, solve_path
from resnet_tl.training.evidence import cost

MOST_PRODUCTS = 2e11
"""Multiplications of comparing images with images; some ten seconds of two slow cores."""
MOST_IN_PROBE = 1e9
"""Images times features times classes, up to which a probe takes seconds."""


def check_baseline(name: str, images: int, judged: int, features: int, classes: int) -> None:
    """UserError where `knn` or `probe` of so many would cost too much; asked before their features are made."""
    what = {
        "knn": (f"comparing {judged:,} images with {images:,}", images * features * judged, MOST_PRODUCTS),
        "probe": (f"a probe of {images:,} images and {classes:,} classes", images * features * classes, MOST_IN_PROBE),
    }
    said, numbers, most = what[name]
    if numbers > most:
        raise UserError(f"{said} would take too long")
    if images * features > cost.MOST_NUMBERS:
        raise UserError(f"{said} would take too much memory")


def probe_baseline(
    train: np.ndarray, labels: np.ndarray, judged: np.ndarray, truth: np.ndarray, classes: int
) -> tuple[np.ndarray, float]:
    """Probabilities (m, classes) of images with features (m, F) by logistic regression on others, and its penalty.

    The penalty is the first one after which the loss of the images that are judged, whose classes are `truth`, rises:
    it is chosen by the validation images, as the best epoch of a fit is, so that both are a little too good alike.
    """
    x, y = torch.from_numpy(judged), torch.from_numpy(truth)
    best, chosen, strength = float("inf"), np.zeros((len(judged), classes), np.float32), 0.0
    for penalty, weight, bias in solve_path(
        torch.from_numpy(train), torch.from_numpy(labels), penalty_path(PENALTIES), classes=classes
    ):
        logits = linear(x, weight, bias)
        loss = float(cross_entropy(logits, y))
        if loss >= best:
            break
        best, chosen, strength = loss, logits.numpy(), penalty
    return softmax(chosen), strength
