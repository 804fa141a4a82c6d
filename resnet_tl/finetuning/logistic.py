"""Logistic regression on features: the last layer solved to its optimum, along a path of penalties."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

STRONGEST, STEP = 10.0, 10**0.5


class Solution(NamedTuple):
    """The optimum under a penalty of some strength: weight (C, F) and bias (C,), float32."""

    penalty: float
    weight: Tensor
    bias: Tensor


def penalty_path(count: int) -> list[float]:
    """The first `count` penalties of a path from strong to weak, evenly in their logarithm."""
    return [STRONGEST / STEP**place for place in range(count)]


def solve_path(
    features: Tensor,
    labels: Tensor,
    penalties: Iterable[float],
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    classes: int | None = None,
    start: tuple[Tensor, Tensor] | None = None,
) -> Iterator[Solution]:
    """Minimises the loss plus a penalty on the weights, for one penalty after the other.

    Each problem begins with the solution of the one before, so that penalties should go from strong to weak (Friedman,
    Hastie, Tibshirani 2010, Regularization Paths for Generalized Linear Models via Coordinate Descent, section 2.5).
    The features are solved centred and divided by their deviation plus the mean one, so that a faint feature counts but
    what hardly varies is not raised; what is given fits the features as they came. The penalty is half the squared norm
    of the weights of those, times its strength and their mean variance, which makes one strength mean the same for
    features of any scale; biases are free. The solver is L-BFGS with a line search (Liu and Nocedal 1989): it needs no
    learning rate and draws nothing, so that a path is the same every time.

    Args:
        features: (n, F) of any floating type, on the device that computes.
        labels: class numbers (n,).
        penalties: strengths, such as those of `penalty_path`.
        loss: of logits (n, C) float32 and labels; it may weigh classes.
        classes: C; default: the highest label and one.
        start: weight (C, F) and bias (C,) to begin with; default: zeros.

    Example:
        >>> features, labels = torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([0, 0, 1, 1])
        >>> [round(float(found.weight.norm()), 1) for found in solve_path(features, labels, [1.0, 0.1])]
        [0.3, 1.2]
    """
    x, y = features.detach().float(), labels.to(features.device)
    if start is None:
        size = int(labels.max()) + 1 if classes is None else classes
        start = x.new_zeros(size, x.shape[1]), x.new_zeros(size)
    mean, deviation = x.mean(dim=0), x.std(dim=0)
    scale = deviation + deviation.mean().clamp_min(torch.finfo(x.dtype).tiny)
    with torch.inference_mode(False):  # through what was made in it no gradient may be taken
        x, mean, scale = ((x.clone() - mean.clone()) / scale.clone(), mean.clone(), scale.clone())
    weight, bias = (part.detach().to(x, copy=True) for part in start)
    bias = (bias + weight @ mean).requires_grad_()
    weight = (weight * scale).requires_grad_()
    variance = x.var(dim=0).mean()

    def solve(penalty: float) -> None:
        # A new solver each time: what the old one has learnt of the curvature belongs to another objective, and its
        # last steps are so short that the new one would stop at once.
        solver = torch.optim.LBFGS(
            [weight, bias],
            lr=1.0,
            max_iter=200,
            history_size=20,
            tolerance_grad=1e-6,
            tolerance_change=1e-9,
            line_search_fn="strong_wolfe",
        )

        def objective() -> Tensor:
            solver.zero_grad()
            value = loss(F.linear(x, weight, bias), y) + 0.5 * penalty * variance * weight.square().sum()
            value.backward()
            return value

        with torch.autocast(x.device.type, enabled=False):
            solver.step(objective)

    for penalty in penalties:
        solve(penalty)
        unscaled = weight.detach() / scale
        yield Solution(penalty, unscaled, bias.detach() - unscaled @ mean)
