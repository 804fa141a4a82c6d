"""Ends a trial of a sweep that is worse, epoch for epoch, than half of those before it."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import lightning as L

from resnet_tl.training.classifier import ImageClassifier
from resnet_tl.training.recorder import RunRecorder
from resnet_tl.training.sweep.trials import PRUNED_AFTER

if TYPE_CHECKING:
    from optuna import Trial

log = logging.getLogger(__name__)


class Pruning(L.Callback):
    """Reports the monitored number of each epoch, and ends the fit where optuna's pruner says so.

    The fit ends as `model.stop_after` ends one: with its best weights, predictions and bundle; its recipe then says so,
    and repeats it. One process alone, as in every sweep.
    """

    def __init__(self, trial: Trial) -> None:
        self.trial = trial

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Before the model's own hook, which ends the fit."""
        assert isinstance(pl_module, ImageClassifier)
        epoch, monitor = trainer.current_epoch + 1, pl_module.hparams["monitor"].removeprefix("val_")
        value = pl_module.numbers.get("val", {}).get(monitor, math.nan)
        if not math.isfinite(value) or epoch in (trainer.max_epochs, pl_module.hparams["stop_after"]):
            return
        known = self.trial.study.get_trials(deepcopy=False)[self.trial.number].intermediate_values
        if epoch not in known:  # of a fit that goes on, the epoch may have been reported before
            self.trial.report(value, epoch)
        if self.trial.should_prune():
            self.trial.set_user_attr(PRUNED_AFTER, epoch)
            why = (
                f"after {epoch} of {trainer.max_epochs} epochs it was worse than half of the complete trials before it"
            )
            pl_module.hparams["stop_after"] = epoch
            pl_module.resolved |= {"model.stop_after": (epoch, why)}
            recorder = next(one for one in trainer.callbacks if isinstance(one, RunRecorder))  # type: ignore[attr-defined]
            recorder.restate(pl_module)
            log.info(f"pruned: {why}")
