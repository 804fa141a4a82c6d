"""The best epoch's weights, under a Trainer that was given no ModelCheckpoint: saved, and held when the fit ends."""

from __future__ import annotations

import logging
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint, StochasticWeightAveraging

from resnet_tl.training.numbers.predictions import from_plain, to_plain

if TYPE_CHECKING:
    from resnet_tl.training.classifier import ImageClassifier

log = logging.getLogger(__name__)


class BestWeights(ModelCheckpoint):
    """Takes the place of Lightning's default checkpoint, that of the last epoch, and puts the best weights back.

    Predictions and numbers of the model are then those of that epoch too. `trainer.checkpoint_callback` is this one.
    """

    def __init__(self, monitor: str, mode: str) -> None:
        super().__init__(monitor=monitor, mode=mode)
        self._newest: dict[str, dict] = {}  # what the latest validation has found
        self._found = ""  # the checkpoint to which these belong:
        self._results: dict[str, dict] = {}

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._settle()
        model: ImageClassifier = pl_module  # type: ignore[assignment]
        self._newest = {"predictions": copy(model.predictions), "numbers": copy(model.numbers)}
        super().on_validation_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """With what was found at the best epoch: a fit that goes on may have been at its best before."""
        self._settle()
        kept = self._results | {"predictions": to_plain(self._results.get("predictions", {}))}
        return super().state_dict() | {"results": kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        kept = state_dict["results"]
        self._found, self._results = self.best_model_path, kept | {"predictions": from_plain(kept["predictions"])}

    def _settle(self) -> None:
        """The newest results are the best ones' if a checkpoint was saved since."""
        if self.best_model_path != self._found:
            self._found, self._results = self.best_model_path, self._newest

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self.best_model_path:  # as after fast_dev_run
            return
        self._settle()
        trainer.strategy.barrier()
        if not Path(self.best_model_path).exists():
            log.warning(f"{self.best_model_path}, the best checkpoint, is not there: the model keeps the last weights")
            return
        saved = trainer.strategy.load_checkpoint(self.best_model_path, weights_only=True)
        pl_module.load_state_dict(saved["state_dict"])
        for name, results in self._results.items():
            setattr(pl_module, name, copy(results))


def take_place(trainer: L.Trainer, monitor: str, mode: str) -> BestWeights | None:
    """Takes the default checkpoint out of the Trainer's callbacks, and gives what comes in its place.

    None where somebody has said which weights are to be kept, or no validation can tell which are best.
    """
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    given = [callback for callback in callbacks if isinstance(callback, Checkpoint)]
    averages = any(isinstance(callback, StochasticWeightAveraging) for callback in callbacks)
    if len(given) != 1 or not _is_default(given[0]) or not trainer.limit_val_batches or averages:
        return None
    callbacks.remove(given[0])  # or Lightning would say that it is overridden
    return BestWeights(monitor, mode)


def _is_default(given: L.Callback) -> bool:
    """Whether Lightning made it, or would have made the same, or another model of ours has left it."""
    default = ModelCheckpoint()
    facts = ("state_key", "dirpath", "filename", "save_last", "save_top_k", "save_weights_only")
    is_same = type(given) is ModelCheckpoint and all(getattr(given, name) == getattr(default, name) for name in facts)
    return is_same or isinstance(given, BestWeights)
