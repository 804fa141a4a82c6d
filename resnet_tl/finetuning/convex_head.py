"""The last layer on frozen features solved to its optimum: logistic regression along a path of regularisations."""

from __future__ import annotations

import torch
from torch import Tensor, nn

STRONGEST, WEAKEST = 10.0, 1e-5


def penalty_at(epoch: int, epochs: int) -> float:
    """The weight of the penalty in an epoch: evenly in its logarithm from strong to weak.

    Each epoch solves one problem, beginning with the solution of the one before (Friedman, Hastie, Tibshirani 2010,
    Regularization Paths for Generalized Linear Models via Coordinate Descent, section 2.5); the epoch with the best
    validation loss is the choice of the regularisation. A single epoch takes the middle.
    """
    share = epoch / (epochs - 1) if epochs > 1 else 0.5
    return STRONGEST ** (1 - share) * WEAKEST**share


def ridge(head: nn.Linear, variance: Tensor, strength: float) -> Tensor:
    """Half the squared norm of the weights, times `strength` and the features' mean variance; biases are free.

    The variance makes one strength mean the same for features of any scale.
    """
    return 0.5 * strength * variance * head.weight.square().sum()


def lbfgs(head: nn.Linear) -> torch.optim.LBFGS:
    """L-BFGS with a line search (Liu and Nocedal 1989), which needs no learning rate and all images in one batch."""
    optimizer = torch.optim.LBFGS(
        head.parameters(),
        lr=1.0,
        max_iter=200,
        history_size=20,
        tolerance_grad=1e-6,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )
    optimizer.param_groups[0]["name"] = "head"
    return optimizer
