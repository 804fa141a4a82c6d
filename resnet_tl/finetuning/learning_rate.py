"""The default learning-rate schedule: linear warm-up and cosine decay, anew in each phase."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


@dataclass(frozen=True)
class WarmupCosine:
    """The factor on every group's learning rate, a function of the optimizer step alone.

    Args:
        starts: the first step of each phase.
        total: all steps.
        scales: each phase's base learning rate over the optimizer's.
        warmup: share of a phase's steps in which the rate rises linearly (Goyal et al. 2017, arXiv 1706.02677); then
            it falls to zero along a half cosine (Loshchilov and Hutter 2017, arXiv 1608.03983).
    """

    starts: Sequence[int]
    total: int
    scales: Sequence[float]
    warmup: float = 0.05

    def __call__(self, step: int) -> float:
        phase = max(number for number, start in enumerate(self.starts) if step >= start)
        end = min((self.total, *self.starts[phase + 1 : phase + 2]))
        steps = max(1, end - self.starts[phase])
        rising = max(1, round(self.warmup * steps))
        done = min(step - self.starts[phase], steps)
        if done < rising:
            return self.scales[phase] * (done + 1) / (rising + 1)
        return self.scales[phase] * 0.5 * (1 + math.cos(math.pi * (done - rising) / max(1, steps - rising)))


def warmup_cosine(optimizer: Optimizer, factor: WarmupCosine) -> LambdaLR:
    """A scheduler that is stepped after every optimizer step."""
    # LambdaLR saves the fields of a callable object and puts them back on resume; the factor follows from this fit's
    # own length, so that a plain function, of which nothing is saved, is right.
    return LambdaLR(optimizer, lambda step: factor(step))
