"""Probabilities for images whose labels had no part in them: logistic regression on features, fold by fold."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_tl import stopping
from resnet_tl.evaluation.label_noise import ASSUMED, LabelNoise, fit_label_noise
from resnet_tl.finetuning.logistic import penalty_path, solve_path

PENALTIES = 8
"""At most, from strong to weak: the path ends where the labels become less probable."""


def out_of_fold(features: Tensor, labels: np.ndarray, parts: np.ndarray) -> LabelNoise:
    """What heads on features (N, F) say of labels (N,), each image judged by the head that its part did not train.

    The heads are trained as if a share of the labels were wrong, which keeps them from learning those by heart: the
    loss of `loss_of_noisy_labels` (Patrini et al. 2017, Making Deep Neural Networks Robust to Label Noise, arXiv
    1609.03683, section 4.1). Of the penalties the one under which the held-out labels are most probable is taken, the
    same for all parts.
    """
    classes = int(labels.max()) + 1
    given = torch.from_numpy(labels)
    penalties = penalty_path(PENALTIES)
    held = {part: torch.from_numpy(parts == part) for part in np.unique(parts).tolist()}
    loss = loss_of_noisy_labels(ASSUMED, classes)
    paths = {part: solve_path(features[~rows], given[~rows], penalties, loss, classes) for part, rows in held.items()}
    best: LabelNoise | None = None
    for _ in penalties:
        logits = torch.zeros(len(labels), classes)
        for part, rows in held.items():
            stopping.check()
            found = next(paths[part])
            logits[rows] = F.linear(features[rows], found.weight, found.bias)
        noise = fit_label_noise(labels, torch.softmax(logits.double(), dim=1).numpy())
        if best is not None and noise.loss >= best.loss:
            break
        best = noise
    assert best is not None
    return best


def loss_of_noisy_labels(rate: float, classes: int) -> Callable[[Tensor, Tensor], Tensor]:
    """The mean negative log-likelihood of labels of which a share is wrong, any other class as likely as the next."""
    other = rate / (classes - 1)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        probabilities = torch.softmax(logits, dim=1)
        return F.nll_loss(torch.log(probabilities * (1 - rate - other) + other), labels)

    return loss
