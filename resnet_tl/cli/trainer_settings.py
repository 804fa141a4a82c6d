"""Settings of Lightning's Trainer that cannot be, or not together: refused before any work."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any

from resnet_tl.errors import UserError, nearest

LOWEST = {
    "max_steps": 1,
    "max_epochs": 1,
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "log_every_n_steps": 1,
    "num_nodes": 1,
    "min_epochs": 0,
    "min_steps": 0,
    "reload_dataloaders_every_n_epochs": 0,
    "gradient_clip_val": 0,
    "fast_dev_run": 0,
}
UNLIMITED = ("max_steps", "max_epochs")  # where -1 means without end
# Each takes a share of the batches, or a number of them.
SHARES = ("limit_train_batches", "limit_val_batches", "limit_test_batches", "val_check_interval")
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false", "single_device")
OWN_PROCESSES = ("_spawn", "_fork", "_notebook")  # which the parser refuses by a sentence of its own
SHARDING = ("fsdp", "deepspeed", "xla", "model_parallel", "modelparallel")

NEED_LOGGER = ("LearningRateMonitor", "DeviceStatsMonitor", "ThroughputMonitor")
# Callbacks that change what a fit is, behind the back of its recipe, and what to use in their place.
REFUSED = {
    "BatchSizeFinder": "the recipe would not tell the size that it finds: give data.batch_size, and see --forecast",
    "LearningRateFinder": "the recipe would not tell the rate that it finds: give optimizer.lr",
    "StochasticWeightAveraging": "it copies the network before there is one: use EMAWeightAveraging",
    "ModelPruning": "it changes weights that are to stay frozen: leave it out",
    "LambdaCallback": "a recipe cannot hold a function: make your own Callback and give its path",
    "SpikeDetection": "Lightning's own is not complete: make a class of it and give its path",
    "RichProgressBar": "a fit has a progress bar of its own: leave it out",
    "TQDMProgressBar": "a fit has a progress bar of its own: leave it out",
    "ProgressBar": "a fit has a progress bar of its own: leave it out",
}


def check_trainer(trainer: Any) -> None:
    """Raises UserError for what Lightning would take and come to grief with later, or ignore.

    Args:
        trainer: the section `trainer` of a parsed recipe.
    """
    _check_numbers(trainer)
    _check_length(trainer)
    _check_processes(trainer)
    for callback in _callbacks(trainer):
        name = callback.class_path.rpartition(".")[2]
        if name in REFUSED:
            raise UserError(f"trainer.callbacks: {name} does not go with a fit, for {REFUSED[name]}.")
        if name in NEED_LOGGER and not trainer.logger:
            raise UserError(
                f"trainer.callbacks: {name} writes to a logger, and there is none: "
                "add --trainer.logger CSVLogger --trainer.logger.save_dir logs."
            )
        if name == "GradientAccumulationScheduler" and trainer.accumulate_grad_batches != 1:
            raise UserError(
                "trainer.accumulate_grad_batches and the callback GradientAccumulationScheduler set the same: "
                "leave one out."
            )


def as_plain_words(trainer: Any) -> None:
    """Writes defaults of callbacks that are members of an enumeration, such as Timer's interval, as their words.

    The parser knows them as texts, and would not take its own defaults again.
    """
    for callback in _callbacks(trainer):
        arguments = callback.get("init_args") or {}
        for name in [name for name in vars(arguments) if isinstance(arguments[name], Enum)]:
            arguments[name] = arguments[name].value


def _callbacks(trainer: Any) -> Iterator[Any]:
    given = trainer.callbacks or []
    for callback in given if isinstance(given, list) else [given]:
        if callback is not None and "class_path" in callback:
            yield callback


def _check_numbers(trainer: Any) -> None:
    for name, lowest in LOWEST.items():
        value = trainer[name]
        if value is None or isinstance(value, bool) or (name in UNLIMITED and value == -1):
            continue
        if value < lowest:
            raise UserError(f"trainer.{name} is {value}; it must be {lowest} or more.")
    for name in SHARES:
        value = trainer[name]
        if isinstance(value, int | float) and (value <= 0 or (isinstance(value, float) and value > 1)):
            raise UserError(
                f"trainer.{name} is {value}; it must be a number of batches from 1, "
                "or a share of them above 0 and up to 1.0."
            )
    overfit = trainer.overfit_batches
    if overfit < 0 or (isinstance(overfit, float) and overfit > 1):
        raise UserError(
            f"trainer.overfit_batches is {overfit}; it must be a number of batches, or a share of them up to 1.0."
        )
    if trainer.gradient_clip_algorithm is not None and not trainer.gradient_clip_val:
        raise UserError(
            f"trainer.gradient_clip_algorithm is {trainer.gradient_clip_algorithm}, but nothing is clipped: "
            "give trainer.gradient_clip_val too."
        )


def _check_length(trainer: Any) -> None:
    epochs = trainer.max_epochs
    if isinstance(trainer.max_time, str) and not any(digit in trainer.max_time for digit in "123456789"):
        raise UserError(f"trainer.max_time is {trainer.max_time}; give a time such as 00:02:00:00, which is two hours.")
    if epochs is None and trainer.max_steps == -1 and trainer.max_time is None:
        raise UserError("trainer.max_epochs is null; give a number, or leave it out for the mode's own.")
    if epochs is None or epochs < 1:
        return
    if trainer.min_epochs is not None and trainer.min_epochs > epochs:
        raise UserError(
            f"trainer.min_epochs is {trainer.min_epochs}, but trainer.max_epochs is {epochs}: lower it, or raise that."
        )
    every = trainer.check_val_every_n_epoch
    if every is not None and every > epochs and not trainer.fast_dev_run:
        raise UserError(
            f"trainer.check_val_every_n_epoch is {every}, but the fit has {epochs} epochs, so that no weights would "
            f"ever be validated: give {epochs} or less."
        )


def _check_processes(trainer: Any) -> None:
    strategy = trainer.strategy
    name = strategy if isinstance(strategy, str) else strategy.class_path.rpartition(".")[2]
    if name.lower().startswith(SHARDING):
        raise UserError(
            f"trainer.strategy is {name}, which cuts a network into pieces; a ResNet fits on one device whole: "
            "use auto or ddp."
        )
    if strategy == name and name not in STRATEGIES and not name.endswith(OWN_PROCESSES):
        raise UserError(
            f"trainer.strategy is '{name}'; it must be one of {', '.join(STRATEGIES)}.{nearest(name, STRATEGIES)}"
        )
    if not _is_number_of_devices(trainer.devices) and _on_cpu(str(trainer.accelerator)):
        raise UserError(f"trainer.devices is {trainer.devices}; on a CPU it must be auto or a number of processes.")
    if trainer.use_distributed_sampler:
        raise UserError(
            "trainer.use_distributed_sampler is true, but each process has its own share of the images already, none "
            "of them twice: leave it out."
        )


def _is_number_of_devices(devices: Any) -> bool:
    return devices == "auto" or str(devices).lstrip("-").isdecimal()


def _on_cpu(accelerator: str) -> bool:
    import torch

    return accelerator == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available())
