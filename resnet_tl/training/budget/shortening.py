"""Keeps a planned fit within its time: once, after a quarter of it, the rest may be shortened."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import asdict
from typing import Any

import lightning as L
from torch.optim.lr_scheduler import LambdaLR

from resnet_tl.errors import UserError
from resnet_tl.finetuning.learning_rate import follow
from resnet_tl.finetuning.modes import Schedule
from resnet_tl.finetuning.optimization import rate_factor
from resnet_tl.training.budget.plan import Plan
from resnet_tl.training.classifier import ImageClassifier
from resnet_tl.training.recorder import RunRecorder

log = logging.getLogger(__name__)

DUE = 0.25
"""Of the planned seconds of training, after which the plan is looked at again."""
LATE = 1.05
"""Of the budget, from which a forecast is too long."""
AIM = 0.97
"""Of the budget, into which a fit is shortened."""


def seconds_of(option: str, text: str) -> float:
    """A time such as 30s, 10m or 1.5h; UserError, which names the option, for another word."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", str(text))
    if not found:
        raise UserError(f"{option} is '{text}'; it must be a time such as 30s, 10m or 1.5h.")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


class Budget(L.Callback):
    """Shortens the fit of a plan where it would take too long; the recipe of the run then says so, as phases.

    Of a resumed fit it knows from the checkpoint what there is to know; without a plan it does nothing. Time in which
    no process runs does not count.

    Args:
        recorder: of the run, whose recipe is written again.
        plan: of a fit that begins.
        started: when this process, or the one that has started it, did, in seconds of `time.time`.
    """

    def __init__(self, recorder: RunRecorder, plan: Plan | None, started: float) -> None:
        self.recorder = recorder
        self.plan = plan
        self.started = started
        self.before = 0.0  # seconds that earlier processes have spent
        self.trained = 0.0  # seconds of the epochs that were measured, and those planned for them
        self.planned = 0.0
        self.is_settled = False
        self._epoch: tuple[int, float] | None = None  # that is measured: its number, and when it began

    @property
    def spent(self) -> float:
        return self.before + time.time() - self.started

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, ImageClassifier)
        if any(phase.rate_start for phase in pl_module.schedule.phases):
            # Shortened already. What is resumed may be a checkpoint from before, with the rate that was planned then.
            self.is_settled = True
            _go_on_by(pl_module, pl_module.schedule)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, ImageClassifier)
        is_whole = not trainer.fit_loop.epoch_loop.batch_progress.current.ready
        self._epoch = (trainer.current_epoch, time.time()) if is_whole else None

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """All processes do as the first one decides."""
        if self.plan is None or self.is_settled:
            return
        epochs = self.plan.epochs
        if self._epoch:
            number, began = self._epoch
            self.trained += time.time() - began
            self.planned += epochs[number]
        done = trainer.current_epoch + 1
        if sum(epochs[:done]) < DUE * sum(epochs) or not self.planned:
            return
        self.is_settled = True
        left = trainer.strategy.broadcast(self._epochs_left(done))
        if left < len(epochs) - done:
            assert isinstance(pl_module, ImageClassifier)
            self._shorten(pl_module, done, left)

    def _epochs_left(self, done: int) -> int:
        """How many epochs there is time for after those that are done."""
        assert self.plan is not None
        budget, rest = self.plan.facts["budget"], self.plan.epochs[done:]
        slower = self.trained / self.planned
        end = self.plan.facts["end"] * max(1.0, slower)
        needed = sum(rest) * slower
        if self.spent + needed + end <= LATE * budget:
            return len(rest)
        return max(1, int(len(rest) * (AIM * budget - self.spent - end) / needed)) if rest else 0

    def _shorten(self, model: ImageClassifier, done: int, left: int) -> None:
        total = len(self.plan.epochs)  # type: ignore[union-attr]
        schedule = model.schedule.shortened(total, done, left)
        why = f"after {done} of {total} planned epochs there was time for {schedule.epochs() - done} more"  # type: ignore[operator]
        _go_on_by(model, schedule, why)
        self.recorder.restate(model)
        log.info(f"the fit will have {schedule.epochs()} epochs: {why}")

    def state_dict(self) -> dict[str, Any]:
        if self.plan is None:
            return {}
        names = ("trained", "planned", "is_settled")
        return {"plan": self.plan.to_dict(), "spent": self.spent, **{name: getattr(self, name) for name in names}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.plan = Plan.from_dict(state_dict["plan"])
        self.before = state_dict["spent"]
        self.trained, self.planned = state_dict["trained"], state_dict["planned"]
        self.is_settled = state_dict["is_settled"]


def _go_on_by(model: ImageClassifier, schedule: Schedule, why: str = "") -> None:
    """At an epoch's end: follows other phases from here on, which agree with the old ones on what is done."""
    trainer, data, epochs = model.trainer, model.data, schedule.epochs()
    if why:
        phases = [{key: value for key, value in asdict(phase).items() if value} for phase in schedule.phases]
        model.resolved |= {"model.schedule": (phases, why), "trainer.max_epochs": (epochs, why)}
    model.follow(schedule)
    assert model.built is not None
    seen = model.built.preprocessing
    data.use(seen, train_sizes=schedule.train_sizes(model.built.image_size, seen.size), **data.auto)
    model.hparams["schedule"] = [asdict(phase) for phase in schedule.phases]
    trainer.fit_loop.max_epochs = epochs
    scheduler = trainer.lr_scheduler_configs[0].scheduler
    assert isinstance(scheduler, LambdaLR)
    follow(scheduler, rate_factor(model.lr, schedule, model.hparams["warmup"], trainer))
