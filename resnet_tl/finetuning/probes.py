"""A linear probe of frozen features, whose penalty the training images choose."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_tl import stopping
from resnet_tl.finetuning.defaults import PENALTIES
from resnet_tl.finetuning.logistic import penalty_path, solve_path

FOLDS = 4
"""Parts of the training images: each is judged by the others for every penalty."""
PATIENCE = 2
"""Penalties in a row that are no better, after which the weaker ones, which take longest, are left out."""
FEWEST = 8
"""Training images below which no penalty can be chosen."""
UNCHOSEN = 0.1
"""The penalty then."""


def choose_penalty(features: Tensor, labels: Tensor, classes: int, groups: np.ndarray, seed: int = 0) -> float:
    """The penalty of a linear probe with the smallest loss on training images that it had not seen.

    Cross-validation inside the training images, so that what judges the probe has no part in it.

    Args:
        features: (n, F) float32.
        labels: class numbers (n,).
        classes: how many there are.
        groups: a number for each image, (n,); images of one group stay in one part.
    """
    parts = torch.from_numpy(deal(labels.numpy(), groups, FOLDS, seed))
    if len(labels) < FEWEST or int(parts.bincount().max()) > len(labels) - 2:  # or a part leaves none to learn from
        return UNCHOSEN
    penalties = penalty_path(PENALTIES)
    paths = []
    for part in parts.unique():
        seen = parts != part
        paths.append((solve_path(features[seen], labels[seen], penalties, classes=classes), ~seen))
    losses: list[float] = []
    for _ in penalties:
        stopping.check()
        total = 0.0
        for path, judged in paths:
            _, weight, bias = next(path)
            total += float(F.cross_entropy(F.linear(features[judged], weight, bias), labels[judged], reduction="sum"))
        losses.append(total)
        if len(losses) - 1 - int(np.argmin(losses)) >= PATIENCE:
            break
    return penalties[int(np.argmin(losses))]


def linear_logits(features: Tensor, labels: Tensor, penalty: float, classes: int, judged: Tensor) -> Tensor:
    """Logits (m, classes) of a linear probe, learned from features (n, F) and labels (n,), for others (m, F)."""
    (solution,) = solve_path(features, labels, [penalty], classes=classes)
    return F.linear(judged, solution.weight, solution.bias)


def deal(labels: np.ndarray, groups: np.ndarray, parts: int, seed: int = 0) -> np.ndarray:
    """The part, from 0, of each image: whole groups, drawn, each class spread evenly as far as that goes."""
    _, first, of = np.unique(groups, return_index=True, return_inverse=True)
    drawn = np.random.default_rng(seed).permutation(len(first))
    order = drawn[np.argsort(labels[first][drawn], kind="stable")]
    part = np.empty(len(first), int)
    part[order] = np.arange(len(first)) % parts
    return part[of]
