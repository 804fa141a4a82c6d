"""Averages of the weights beside stages that are frozen, and after the fit: what Lightning's callback leaves to others.

Lightning has no public way; written for the WeightAveraging of version 2.6.
"""

from __future__ import annotations

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn

from resnet_tl.networks.stages import StagedNetwork


class AveragedWeights(L.Callback):
    """`ImageClassifier.configure_callbacks` returns it, so that its turn comes after the trainer's own callbacks.

    An average of weights that never change differs from them by its rounding, and one that began before they were
    frozen by more: frozen stages are given as they are. And once a fit is over its callback would put the newest
    weights into the place of averaged ones that were loaded: `trainer.test(ckpt_path="best")` would test others than
    it says, and they would be saved.
    """

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Before the averages take the place of the weights."""
        if trainer.state.fn == TrainerFn.FITTING:
            _give_frozen(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Before they do so for good, when the training ends."""
        _give_frozen(trainer, pl_module)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        for callback in _averaging(trainer):
            callback._average_model = None


@torch.no_grad()
def _give_frozen(trainer: L.Trainer, pl_module: L.LightningModule) -> None:
    network = pl_module.network
    assert isinstance(network, StagedNetwork)
    for callback in _averaging(trainer):
        averaged = callback._average_model.module.network  # type: ignore[union-attr]
        for name in network.stage_names:
            averaged.stage(name).load_state_dict(network.frozen_state(name), strict=False)  # type: ignore[operator, union-attr]


def _averaging(trainer: L.Trainer) -> list[WeightAveraging]:
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [callback for callback in callbacks if isinstance(callback, WeightAveraging)]
