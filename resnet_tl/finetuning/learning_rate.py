"""Learning-rate schedules that torch lacks: warm-up and cosine for each phase, and steps to given rates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from resnet_tl.errors import UserError
from resnet_tl.finetuning.modes import Schedule


@dataclass(frozen=True)
class WarmupCosine:
    """The factor on every group's learning rate, a function of the optimizer step alone."""

    starts: Sequence[int]  # the first step of each phase; those that only change the image size count as one
    total: int  # all steps
    scales: Sequence[float]  # each phase's base learning rate over the optimizer's
    # Share of a phase's steps in which the rate rises linearly (Goyal et al. 2017, arXiv 1706.02677); then it falls
    # to zero along a half cosine (Loshchilov and Hutter 2017, arXiv 1608.03983)
    warmup: float = 0.05
    # Of a phase that is part of a longer one: the steps of that one, and how many of them come before
    parts: Mapping[int, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, schedule: Schedule, lr: float, warmup: float, epoch: int, total: int) -> WarmupCosine:
        """For phases in a fit of `total` steps, `epoch` of them in each epoch; `lr` is the optimizer's base rate."""
        starts = [schedule.starts()[number] * epoch for number in schedule.curves()]
        phases = [schedule.phases[number] for number in schedule.curves()]
        scales = [1.0 if phase.lr is None else phase.lr / lr for phase in phases]
        parts = {
            number: (phase.rate_epochs * epoch, phase.rate_start * epoch)
            for number, phase in enumerate(phases)
            if phase.rate_epochs
        }
        return cls(starts, total, scales, warmup, parts)

    def __call__(self, step: int) -> float:
        phase = max(number for number, start in enumerate(self.starts) if step >= start)
        end = min((self.total, *self.starts[phase + 1 : phase + 2]))
        steps, before = self.parts.get(phase, (max(1, end - self.starts[phase]), 0))
        rising = max(1, round(self.warmup * steps))
        done = min(before + step - self.starts[phase], steps)
        if done < rising:
            return self.scales[phase] * (done + 1) / (rising + 1)
        return self.scales[phase] * 0.5 * (1 + math.cos(math.pi * (done - rising) / max(1, steps - rising)))


def warmup_cosine(optimizer: Optimizer, factor: WarmupCosine) -> LambdaLR:
    """A scheduler that is stepped after every optimizer step."""
    # LambdaLR saves the fields of a callable object and puts them back on resume; the factor follows from this fit's
    # own length, so that a plain function, of which nothing is saved, is right.
    return LambdaLR(optimizer, lambda step: factor(step))


def follow(scheduler: LambdaLR, factor: WarmupCosine) -> None:
    """From the next step on the rates are those of another factor, whatever a checkpoint says of them."""
    scheduler.lr_lambdas = [lambda step: factor(step)] * len(scheduler.base_lrs)
    for group, base in zip(scheduler.optimizer.param_groups, scheduler.base_lrs, strict=True):
        group["lr"] = base * factor(scheduler.last_epoch)


class PiecewiseConstantLR(LRScheduler):
    """Keeps each group's rate at a factor of its base rate from each milestone on; 1 before the first.

    torch's MultiStepLR multiplies by one and the same gamma at each milestone; schedules in papers often do not.

    Args:
        optimizer: its groups' rates are the base rates.
        milestones: rising epochs or optimizer steps, from 0.
        factors: one for each milestone.
        interval: whether milestones count epochs or optimizer steps.

    Raises:
        UserError: the lists do not fit each other, or the milestones do not rise.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: list[int],
        factors: list[float],
        interval: Literal["epoch", "step"] = "epoch",
    ) -> None:
        if len(milestones) != len(factors):
            raise UserError(
                f"PiecewiseConstantLR has {len(milestones)} milestones and {len(factors)} factors; it needs as many."
            )
        if any(later <= earlier for earlier, later in pairwise(milestones)):
            raise UserError(f"The milestones of PiecewiseConstantLR are {milestones}; they must rise.")
        if min([*milestones, *factors], default=0) < 0:
            raise UserError("The milestones and factors of PiecewiseConstantLR must be 0 or more.")
        self.milestones = milestones
        self.factors = factors
        self.interval = interval
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """The rate of each group now, a function of the count alone."""
        reached = sum(self.last_epoch >= milestone for milestone in self.milestones)
        factor = self.factors[reached - 1] if reached else 1.0
        return [factor * base for base in self.base_lrs]
