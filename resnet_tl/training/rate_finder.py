"""Which learning rate a fit should have: some of its real steps while the rate grows from tiny to far too large."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import lightning as L

from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.errors import UserError
from resnet_tl.evaluation.rate_test import has_ended
from resnet_tl.finetuning.modes import Schedule
from resnet_tl.training.classifier import ImageClassifier
from resnet_tl.training.console.forecast import SHORT
from resnet_tl.training.fit import train

STEPS = 100
SMALLEST, LARGEST = 1e-6, 10.0


class RateFinder(L.Callback):
    """Takes the steps of a fit, each with a larger rate; all groups keep their rates' proportions.

    Lightning's finder gives every group the same rate, so that what it finds for a head would not hold beside stages
    that learn at a tenth of it. Of a schedule the last phase is tried. Nothing is written but what the fit would keep.
    `settings` are those of the Trainer of the whole fit.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        if settings["fast_dev_run"]:
            raise UserError("trainer.fast_dev_run is a trial by itself; leave out that or --find_lr.")
        self.trainer_settings = SHORT | {
            "limit_train_batches": 1.0,
            "limit_val_batches": 0,
            "max_epochs": -1,
            "max_steps": STEPS,
        }
        self.rates: list[float] = []
        self.losses: list[float] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Makes the last phase the only one."""
        assert isinstance(pl_module, ImageClassifier)
        phase = replace(pl_module.schedule.phases[-1], epochs=None, lr=None, rate_epochs=None, rate_start=0)
        pl_module.follow(Schedule((phase,)))

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """No schedule changes the rates, or waits for a validation."""
        trainer.strategy.lr_scheduler_configs = []

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        place = trainer.global_step / (STEPS - 1)
        rate = SMALLEST * (LARGEST / SMALLEST) ** place
        for group in trainer.optimizers[0].param_groups:
            own = group.setdefault("initial_lr", group["lr"])  # which not every schedule has noted
            group["lr"] = rate * own / pl_module.lr
        self.rates.append(rate)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        # The mean over the processes, which must agree on when to stop; Lightning's is divided by the accumulation.
        loss = trainer.strategy.reduce(outputs["loss"], reduce_op="mean") * trainer.accumulate_grad_batches
        self.losses.append(float(loss))
        trainer.should_stop = has_ended(self.losses)

    def run(self, model: ImageClassifier, data: ImageDataModule, trainer: L.Trainer) -> None:
        """Takes the steps; that the largest rates end in numbers that are none is what it looks for."""
        try:
            train(model, data, trainer)
        except UserError:
            if not self.losses or math.isfinite(self.losses[-1]):
                raise
