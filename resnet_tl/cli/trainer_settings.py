"""Settings of Lightning's Trainer that make no run, or that it would refuse unclearly: refused before it is made."""

from __future__ import annotations

import os
from typing import Any

from resnet_tl.errors import UserError, nearest

# A fit must have weights that were validated, of each split.
ALSO_ABOVE_0 = ("limit_val_batches", "limit_test_batches")
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false", "single_device")

FIXED = {
    "enable_checkpointing": (False, "a fit must keep its best weights"),
    "barebones": (True, "a fit must keep its best weights"),
    "use_distributed_sampler": (True, "each process has its own share of the images already"),
}
UNUSED = {
    "default_root_dir": "all that a fit writes is in its run: give --run",
    "limit_predict_batches": "a fit predicts nothing: leave it out",
    "model_registry": "checkpoints stay in the run: leave it out",
}
FUNCTION = "a recipe cannot hold a function"
# Classes that do not go with a run or a recipe, and why or what to use in their place.
REFUSED = {
    "BatchSizeFinder": "the recipe would not hold the size that it finds; give data.batch_size, and see --forecast",
    "LearningRateFinder": "the recipe would not hold the rate that it finds; see --find_lr, and give optimizer.lr",
    "LambdaCallback": f"{FUNCTION}; name a callback of your own, module.Name",
    "ProgressBar": "a fit has a progress bar of its own; leave it out",
    "SpikeDetection": "Lightning 2.6 cannot load its state, as when the best weights are evaluated; leave it out",
    "ThroughputMonitor": f"{FUNCTION}, and it needs one; each epoch's line says how many images a second were trained",
    "Timer": "give trainer.max_time",
    "LambdaLR": f"{FUNCTION}; choose another scheduler",
    "MultiplicativeLR": f"{FUNCTION}; choose another scheduler",
    "SequentialLR": "a recipe cannot hold other schedulers; choose another one",
    "ChainedScheduler": "a recipe cannot hold other schedulers; choose another one",
}


def check_settings(trainer: Any) -> None:
    """Raises UserError for what Lightning would refuse without naming it, and for what makes no run.

    What no Trainer may be given is checked where any Trainer is, in `training/trainer/trainer_checks.py`.
    """
    from resnet_tl.training.trainer.trainer_checks import check_numbers

    check_numbers(trainer)
    for name in ALSO_ABOVE_0:
        if trainer[name] is not None and trainer[name] <= 0:
            raise UserError(f"trainer.{name} is {trainer[name]}; it must be above 0.")
    for name, (value, why) in FIXED.items():
        if trainer[name] is value:
            raise UserError(f"trainer.{name} is {str(value).lower()}, but {why}: leave it out.")
    for name, why in UNUSED.items():
        if trainer[name] is not None:
            raise UserError(f"trainer.{name} would have no effect, since {why}.")
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
    if name not in (STRATEGIES if isinstance(strategy, str) else ("DDPStrategy",)):
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
