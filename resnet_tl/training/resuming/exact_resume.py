"""Puts where a fit stands into every checkpoint, whoever saves it, and goes on from there to the same result."""

from __future__ import annotations

import logging
from copy import deepcopy
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn

from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.errors import UserError
from resnet_tl.training.resuming.position import Position
from resnet_tl.training.trainer.trainer_checks import check_states

if TYPE_CHECKING:
    from resnet_tl.training.classifier import ImageClassifier

log = logging.getLogger(__name__)


class ExactResume(L.Callback):
    """`ImageClassifier.configure_callbacks` returns it: a fit has it whoever makes the Trainer.

    No generator's state is kept, since randomness is a function of seed, epoch, step and rank.
    """

    def __init__(self) -> None:
        self.position: Position | None = None  # until the epoch begins in which the checkpoint was saved
        self._saved: dict[str, Any] = {}  # what that checkpoint says of it
        self._validated: Position | None = None  # where the latest validation began
        self._before: dict[str, Any] = {}  # the callbacks' states at that moment

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A validation is repeated when a fit is resumed: what other callbacks made of it must not count twice."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._validated = Position.of(trainer)
            callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
            states = {callback.state_key: deepcopy(callback.state_dict()) for callback in callbacks}
            self._before = {key: state for key, state in states.items() if state}

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        check_states(trainer.callbacks, checkpoint.get("callbacks", {}))  # type: ignore[attr-defined]
        model: ImageClassifier = pl_module  # type: ignore[assignment]
        position = Position.of(trainer, self._validated)
        if position == self._validated:
            checkpoint["callbacks"] = deepcopy(self._before)
        position.write(checkpoint["loops"]["fit_loop"])
        checkpoint["resnet_tl"] = {
            "position": asdict(position),
            "processes": trainer.world_size,
            "data": model.data.identity(),
            "totals": model.totals.of_all_processes(trainer.world_size) if model.totals else [],
        }

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            checkpoint["callbacks"] = {}  # they stay as the fit has left them: "best" is still the best

    def read(self, saved: dict[str, Any]) -> None:
        """Takes `checkpoint["resnet_tl"]`; UserError for one of weights alone, without a place to go on from."""
        if "position" not in saved:
            raise UserError(
                "This checkpoint holds weights alone, so that no fit can go on from it; start a new fit with "
                "model.weights, or save whole checkpoints (save_weights_only=False)."
            )
        self.position, self._saved = Position(**saved["position"]), saved

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._validated = None
        callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        check_states(callbacks, {callback.state_key: callback.state_dict() for callback in callbacks})
        if not trainer.ckpt_path:  # what was loaded before is not what this fit begins with
            self.position, self._saved = None, {}
        self.check_unchanged(pl_module.data, trainer)  # type: ignore[arg-type]

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.position:
            self.position.begin(trainer)
            log.info(f"Going on in epoch {self.position.epoch + 1} after {self.position.batch} of its batches")

    def totals(self, rank: int) -> list[float] | None:
        """What a process had summed up of the epoch that is resumed, once; None at the start of an epoch."""
        resumed, kept = self.position, self._saved.get("totals")
        self.position, self._saved = None, {}
        return kept[rank] if resumed and resumed.batch and kept else None

    def check_unchanged(self, data: ImageDataModule, trainer: L.Trainer) -> None:
        """Raises UserError when a fit is resumed with other images or in other batches."""
        if self.position is None:
            return
        if self._saved["data"] != data.identity():
            raise UserError(
                f"The images in {data.root}, their classes or splits are not those that the run began with, so "
                "that it cannot go on; put them back, or start a new run."
            )
        began, processes = self._saved["processes"], trainer.world_size
        if began != processes:
            raise UserError(
                f"The run was begun by {began} process{'es' if began > 1 else ''}, and {processes} would learn in "
                f"other batches; go on with --trainer.devices {began}, or as many machines as before."
            )
