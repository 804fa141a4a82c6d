"""Settings of a classifier that cannot be, or not together: refused before any work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import lightning as L

from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.errors import UserError, nearest
from resnet_tl.finetuning.activation_cache import ActivationCacheMode
from resnet_tl.finetuning.modes import Schedule
from resnet_tl.training.monitor import check_monitor

HeadSolver = Literal["optimizer", "lbfgs"]


def check_settings(settings: Mapping[str, Any], schedule: Schedule, lr_scheduler: dict | None) -> None:
    """Raises UserError for what is wrong whatever the images are.

    Args:
        settings: the arguments of ImageClassifier.
        schedule: its phases.
        lr_scheduler: where it is not the default one.
    """
    for name, low, high in (
        ("head_dropout", 0.0, 1.0),
        ("label_smoothing", 0.0, 1.0),
        ("warmup", 0.0, 1.0),
        ("focal_gamma", 0.0, float("inf")),
        ("mixup", 0.0, float("inf")),
        ("cutmix", 0.0, float("inf")),
    ):
        value = settings[name]
        if not low <= value < high:
            raise UserError(f"model.{name} is {value}; it must be at least {low:g} and below {high:g}.")
    if settings["seed"] < 0:
        raise UserError(f"model.seed is {settings['seed']}; it must be 0 or more.")
    for name, words in (("activation_cache", ActivationCacheMode), ("head_solver", HeadSolver)):
        value, choices = settings[name], get_args(words)
        if value not in choices:
            raise UserError(
                f"model.{name} is '{value}'; it must be one of {', '.join(choices)}.{nearest(value, choices)}"
            )
    check_monitor("model.monitor", settings["monitor"])
    if lr_scheduler and any(phase.lr is not None for phase in schedule.phases):
        raise UserError("A phase's lr needs the default schedule (warm-up and cosine); leave out lr_scheduler.")
    if settings["activation_cache"] == "on":
        _check_cache(settings, schedule)
    if settings["head_solver"] == "lbfgs":
        _check_solver(settings, schedule, lr_scheduler)


def check_length(schedule: Schedule, epochs: int | None) -> None:
    """Raises UserError for a fit that does not reach its last phase, or goes on after it."""
    if epochs is None or epochs < 0:
        return
    last, total = schedule.starts()[-1], schedule.epochs()
    if epochs <= last:
        raise UserError(
            f"trainer.max_epochs is {epochs}, but the last phase of model.schedule begins after {last} epochs; "
            "give more epochs, or shorter phases."
        )
    if total is not None and epochs > total:
        raise UserError(
            f"trainer.max_epochs is {epochs}, but the phases of model.schedule have {total} epochs in all; "
            "leave out the epochs of the last phase, and it lasts to the end."
        )


def check_with_data(settings: Mapping[str, Any], data: ImageDataModule, trainer: L.Trainer) -> None:
    """Raises UserError for settings that do not go with those of the data module or the trainer."""
    if settings["activation_cache"] == "on" and data.augments and data.views is None:
        raise UserError(
            "model.activation_cache is on, but each epoch has a new view of each image; "
            "give data.views a number, or data.augmentation none."
        )
    if settings["head_solver"] == "lbfgs":
        if data.augments:
            raise UserError("model.head_solver lbfgs sees one version of each image: give data.augmentation none.")
        if trainer.world_size > 1:
            raise UserError("model.head_solver lbfgs runs in one process: give trainer.devices 1.")
        if trainer.gradient_clip_val:
            raise UserError("model.head_solver lbfgs searches along whole gradients: leave out gradient_clip_val.")


def _check_cache(settings: Mapping[str, Any], schedule: Schedule) -> None:
    if settings["mixup"] or settings["cutmix"]:
        raise UserError(
            "model.activation_cache is on, but mixup and cutmix mix images anew in each step: leave one out."
        )
    if all(phase.mode == "all" for phase in schedule.phases):
        raise UserError("model.activation_cache is on, but no stage is ever frozen: leave it out, or freeze some.")


def _check_solver(settings: Mapping[str, Any], schedule: Schedule, lr_scheduler: dict | None) -> None:
    if [phase.mode for phase in schedule.phases] != ["head"]:
        raise UserError("model.head_solver lbfgs solves a head alone: give model.mode head.")
    for name in ("head_hidden", "head_dropout", "mixup", "cutmix"):
        if settings[name]:
            raise UserError(f"model.head_solver lbfgs solves a linear head: leave out model.{name}.")
    if settings["activation_cache"] == "off":
        raise UserError("model.head_solver lbfgs needs the features of all images: leave out model.activation_cache.")
    if lr_scheduler:
        raise UserError("model.head_solver lbfgs has no learning rate: leave out lr_scheduler.")
