"""Lightning's finders of a learning rate and of a batch size, which run steps of a fit to see what they do."""

from __future__ import annotations

import math

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn

from resnet_tl.errors import UserError


def is_trial(trainer: L.Trainer, own: L.Callback) -> bool:
    """Whether a finder runs these steps: it sets the callbacks of the fit aside, and with them one of the model's."""
    return trainer.state.fn == TrainerFn.FITTING and own not in trainer.callbacks  # type: ignore[attr-defined]


def check_steps(trainer: L.Trainer) -> None:
    """Raises UserError where a finder of a rate, which keeps a callback, would end before its largest rates."""
    if not trainer.callbacks or not trainer.max_epochs:  # type: ignore[attr-defined]
        return
    wanted = trainer.max_steps - trainer.global_step
    steps = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches) * trainer.max_epochs
    if 0 < steps < wanted:
        raise UserError(
            f"The finder of a learning rate wants {wanted} steps, but {trainer.max_epochs} epochs have {steps}, with "
            "which it would not come to its largest rates: give it fewer, num_training, or a Trainer with more epochs."
        )
