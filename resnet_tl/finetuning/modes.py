"""The three modes, and the phases made of them, each with the size of its training images."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Literal, get_args

import lightning as L

from resnet_tl.errors import UserError, nearest
from resnet_tl.networks.stages import StagedNetwork

Mode = Literal["all", "last_stages", "head"]
MODES: tuple[str, ...] = get_args(Mode)


@dataclass(frozen=True)
class Phase:
    """Some epochs in one mode and at one image size.

    Args:
        mode: all, last_stages or head; what trains besides the head, which always does.
        epochs: how many; the last phase of a schedule may leave it out and lasts to the end.
        trainable_stages: how many of the last stages train in the mode last_stages.
        lr: base learning rate of this phase; default: the optimizer's.
        rate_epochs: over how many epochs the learning rate rises and falls; default: `epochs`.
        rate_start: how many of those are left out at the beginning; so that a longer phase can be cut in two.
        image_size: side in pixels of this phase's training images; default: `data.image_size`.
        norms_only: of the stages that train, only the norms do, beside the head: what FixRes (Touvron et al. 2019,
            arXiv 1906.06423) tunes again at the size of evaluation, which is then the default of `image_size`.
    """

    mode: Mode = "all"
    epochs: int | None = None
    trainable_stages: int = 1
    lr: float | None = None
    rate_epochs: int | None = None
    rate_start: int = 0
    image_size: int | None = None
    norms_only: bool = False

    def frozen_stages(self, stage_names: Sequence[str]) -> tuple[str, ...]:
        """The names of the stages that do not train: always a prefix of the network."""
        if self.mode == "all":
            return ()
        if self.mode == "head":
            return tuple(stage_names)
        most = max(1, len(stage_names) - 1)  # a network that is no chain is one stage, its last
        if not 1 <= self.trainable_stages <= most:
            raise UserError(
                f"model.trainable_stages is {self.trainable_stages}; this network has the stages "
                f"{', '.join(stage_names)}, so it must be {'1' if most == 1 else f'1 to {most}'} "
                "(mode head trains no stage, mode all trains every one)."
            )
        return tuple(stage_names[: -self.trainable_stages])

    def freeze(self, network: StagedNetwork) -> None:
        """Freezes in a network what does not train in this phase."""
        network.freeze(self.frozen_stages(network.stage_names), self.norms_only)

    def __str__(self) -> str:
        mode = f"last_stages ({self.trainable_stages})" if self.mode == "last_stages" else self.mode
        norms = ", norms only" if self.norms_only else ""
        return mode + norms + (f", {self.image_size} px" if self.image_size else "")


@dataclass(frozen=True)
class Schedule:
    """Phases one after another; which one holds is a function of the epoch alone."""

    phases: tuple[Phase, ...]

    def __post_init__(self) -> None:
        if not self.phases:
            raise UserError("model.schedule is empty; give it at least one phase such as {mode: head, epochs: 3}.")
        for number, phase in enumerate(self.phases, 1):
            if phase.mode not in MODES:
                raise UserError(
                    f"model.mode is '{phase.mode}'; it must be one of {', '.join(MODES)}.{nearest(phase.mode, MODES)}"
                )
            if phase.epochs is None and number < len(self.phases):
                raise UserError(
                    f"Phase {number} of model.schedule has no epochs; only the last one may leave them out."
                )
            if phase.epochs is not None and phase.epochs < 1:
                raise UserError(f"Phase {number} of model.schedule has {phase.epochs} epochs; it must have 1 or more.")
            of_rate, needed = phase.rate_epochs or phase.epochs or 1, phase.rate_start + (phase.epochs or 1)
            if phase.rate_start < 0 or of_rate < needed:
                raise UserError(
                    f"Phase {number} of model.schedule has rate_start {phase.rate_start} and rate_epochs "
                    f"{phase.rate_epochs}, in which its epochs do not fit: leave both out, or give more rate_epochs."
                )

    def phase_at(self, epoch: int) -> int:
        """The number, from 0, of the phase that holds in an epoch."""
        return bisect_right(self.starts(), epoch) - 1

    def starts(self) -> list[int]:
        """The first epoch of each phase."""
        return [0, *accumulate(phase.epochs or 0 for phase in self.phases[:-1])]

    def curves(self) -> list[int]:
        """The numbers of the phases in which the learning rate's curve begins again.

        It goes on in a phase that differs from the one before in its image size alone.
        """
        pairs = list(pairwise(self.phases))
        same = [replace(one, epochs=other.epochs, image_size=other.image_size) == other for one, other in pairs]
        sizes = [one.image_size != other.image_size for one, other in pairs]
        return [0, *(number for number, goes_on in enumerate(zip(same, sizes, strict=True), 1) if not all(goes_on))]

    def epochs(self) -> int | None:
        """How many epochs all phases take together; None when the last one is open."""
        last = self.phases[-1].epochs
        return None if last is None else self.starts()[-1] + last

    def train_sizes(self, image_size: int, test_size: int) -> dict[int, int]:
        """The side of training images from the first epoch of each phase on, for `data.image_size` and `test_size`."""
        sizes = (phase.image_size or (test_size if phase.norms_only else image_size) for phase in self.phases)
        return dict(zip(self.starts(), sizes, strict=True))

    def epochs_left(self, trainer: L.Trainer) -> int:
        """How many epochs the present phase of a fit still lasts."""
        epoch = trainer.current_epoch
        ends = [start for start in self.starts() if start > epoch]
        end = ends[0] if ends else trainer.max_epochs or -1
        if end < 0:  # the fit counts steps
            steps = max(1, trainer.max_steps) * trainer.accumulate_grad_batches
            end = epoch + math.ceil(steps / trainer.num_training_batches)
        return end - epoch

    def shortened(self, total: int, done: int, left: int) -> Schedule:
        """The phases of a fit of `total` epochs, some of them done, that ends after `left` more: one of each at least.

        A phase that has begun is cut in two. Up to there the rate moved as was planned; then it goes on as if the
        shorter length had been.
        """
        starts, number = self.starts(), self.phase_at(done)
        ends = [*starts[1:], total]
        planned = [end - done for end in ends[number:]]  # counted from here
        places = [max(place, round(end * left / planned[-1])) for place, end in enumerate(planned, 1)]
        lengths = [end - start for start, end in pairwise([0, *accumulate(places, lambda a, b: max(a + 1, b))])]
        rest = [replace(phase, epochs=length) for phase, length in zip(self.phases[number:], lengths, strict=True)]
        cut = [replace(self.phases[number], epochs=done - starts[number])] if done > starts[number] else []
        past = [*self.phases[:number], *cut]
        # The curve of the rate in which the cut lies: its first phase, and the first one after it.
        curves = [*self.curves(), len(self.phases)]
        first, after = max(n for n in curves if n <= number), min(n for n in curves if n > number)
        if begun := done - starts[first]:
            old, new = ends[after - 1] - starts[first], begun + sum(lengths[: after - number])
            past[first:] = [replace(phase, rate_epochs=old) for phase in past[first:]]
            coming = slice(after - number)
            rest[coming] = [replace(phase, rate_epochs=new, rate_start=begun) for phase in rest[coming]]
        return Schedule((*past, *rest))

    def ever_trained(self, stage_names: Sequence[str]) -> tuple[str, ...]:
        """The stages that train in some phase."""
        always_frozen = set.intersection(*(set(phase.frozen_stages(stage_names)) for phase in self.phases))
        return tuple(name for name in stage_names if name not in always_frozen)
