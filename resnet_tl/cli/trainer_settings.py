"""Settings of Lightning's Trainer that it would ignore, or that would fail later: refused before any work."""

from __future__ import annotations

import os
from typing import Any

from resnet_tl.errors import UserError, nearest

POSITIVE = (
    "max_epochs",
    "max_steps",
    "accumulate_grad_batches",
    "check_val_every_n_epoch",
    "log_every_n_steps",
    "limit_train_batches",
    "limit_val_batches",
    "limit_test_batches",
    "val_check_interval",
)
UNLIMITED = ("max_epochs", "max_steps")  # where -1 means without end
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false", "single_device")

FIXED = {
    "enable_checkpointing": (False, "a fit must keep its best weights"),
    "barebones": (True, "a fit must keep its best weights"),
    "use_distributed_sampler": (True, "each process has its own share of the images already"),
}
# Classes that do not go with a fit or a recipe, and why or what to use in their place.
REFUSED = {
    "BaseFinetuning": "what it does is set by model.mode and model.schedule",
    "BatchSizeFinder": "the recipe would not hold the size that it finds; give data.batch_size, and see --forecast",
    "LearningRateFinder": "the recipe would not hold the rate that it finds; give optimizer.lr",
    "StochasticWeightAveraging": "it copies the network before there is one; use EMAWeightAveraging",
    "ModelPruning": "it changes weights that are to stay frozen; leave it out",
    "ProgressBar": "a fit has a progress bar of its own; leave it out",
    "Timer": "give trainer.max_time",
    "LambdaLR": "a recipe cannot hold a function; choose another scheduler",
    "MultiplicativeLR": "a recipe cannot hold a function; choose another scheduler",
    "SequentialLR": "a recipe cannot hold other schedulers; choose another one",
    "ChainedScheduler": "a recipe cannot hold other schedulers; choose another one",
}


def check_trainer(trainer: Any) -> None:
    """Raises UserError for what Lightning would take without a word, and what it would refuse without naming it."""
    for name in POSITIVE:
        value = trainer[name]
        if isinstance(value, int | float) and value <= 0 and not (name in UNLIMITED and value == -1):
            raise UserError(f"trainer.{name} is {value}; it must be above 0.")
    if trainer.gradient_clip_val is not None and trainer.gradient_clip_val < 0:
        raise UserError(f"trainer.gradient_clip_val is {trainer.gradient_clip_val}; it must be 0 or more.")
    if trainer.gradient_clip_algorithm is not None and not trainer.gradient_clip_val:
        raise UserError(
            f"trainer.gradient_clip_algorithm is {trainer.gradient_clip_algorithm}, but nothing is clipped: "
            "give trainer.gradient_clip_val too."
        )
    for name, (value, why) in FIXED.items():
        if trainer[name] is value:
            raise UserError(f"trainer.{name} is {str(value).lower()}, but {why}: leave it out.")
    _check_length(trainer)
    _check_processes(trainer)


def _check_length(trainer: Any) -> None:
    epochs, every = trainer.max_epochs, trainer.check_val_every_n_epoch
    if epochs is None and trainer.max_steps == -1 and trainer.max_time is None:
        raise UserError("trainer.max_epochs is null; give a number, or leave it out for the mode's own.")
    if epochs is None or epochs < 1:
        return
    if every is not None and every > epochs and not trainer.fast_dev_run:
        raise UserError(
            f"trainer.check_val_every_n_epoch is {every}, but the fit has {epochs} epochs, so that no weights would "
            f"ever be validated: give {epochs} or less."
        )


def _check_processes(trainer: Any) -> None:
    """Lightning starts as many processes on a CPU as it is asked for; a hundred fill the memory."""
    import torch

    strategy, accelerator, devices = trainer.strategy, trainer.accelerator, trainer.devices
    name = strategy if isinstance(strategy, str) else strategy.class_path.rpartition(".")[2]
    if name not in (*STRATEGIES, "DDPStrategy"):
        raise UserError(
            f"trainer.strategy is '{name}'; it must be one of {', '.join(STRATEGIES)}.{nearest(name, STRATEGIES)}"
        )
    has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    if accelerator in ("gpu", "cuda", "mps") and not has_gpu:
        raise UserError(f"trainer.accelerator is {accelerator}, but torch finds no GPU here; use cpu or auto.")
    if (accelerator == "cpu" or not has_gpu) and devices != "auto":
        cpus = os.cpu_count() or 1
        if not str(devices).isdecimal() or not 1 <= int(devices) <= cpus:
            raise UserError(
                f"trainer.devices is {devices}; on this CPU it must be auto, or 1 to {cpus}, its number of cores."
            )
