"""Settings of a classifier that cannot be, or not together: refused before any work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import lightning as L
import numpy as np
from torch import nn

from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.errors import UserError, check_number, listed, nearest
from resnet_tl.finetuning.activation_cache import ActivationCacheMode
from resnet_tl.finetuning.defaults import defaults_for
from resnet_tl.finetuning.makers import Maker
from resnet_tl.finetuning.modes import Phase, Schedule
from resnet_tl.finetuning.optimization import complete, rehearse
from resnet_tl.networks.side_by_side import names_of
from resnet_tl.networks.stages import StagedNetwork
from resnet_tl.networks.user_network import is_users_own
from resnet_tl.training.numbers.monitor import check_monitor

if TYPE_CHECKING:
    from resnet_tl.training.classifier import ImageClassifier
    from resnet_tl.training.options import ClassifierOptions

ClassWeights = Literal["equal", "balanced"]
HeadSolver = Literal["auto", "lbfgs", "optimizer"]
HeadInit = Literal["random", "solved"]
WARMUP = 0.05
"""The default; what is given explicitly is told from it."""


def check_settings(model: ClassifierOptions) -> None:
    """Raises UserError for what is wrong whatever the images are."""
    settings, schedule = model.hparams, model.schedule
    optimizer, lr_scheduler = model.given_optimizer, model.given_scheduler
    infinity = float("inf")
    for name, low, high in (
        ("head_dropout", 0.0, 1.0),
        ("label_smoothing", 0.0, 1.0),
        ("warmup", 0.0, 1.0),
        ("focal_gamma", 0.0, infinity),
        ("mixup", 0.0, infinity),
        ("cutmix", 0.0, infinity),
        ("seed", 0, 2**63),
    ):
        check_number(f"model.{name}", settings[name], is_whole=name == "seed")
        if not low <= settings[name] < high:
            allowed = "below 2**63" if name == "seed" else f"below {high:g}"
            raise UserError(f"model.{name} is {settings[name]!r}; it must be at least {low:g} and {allowed}.")
    for name in ("lr", "backbone_lr_factor", "layer_decay"):
        if settings[name] is None:
            continue
        check_number(f"model.{name}", settings[name])
        if not 0 < settings[name] < infinity:
            raise UserError(
                f"model.{name} is {settings[name]}; it must be above 0 (model.mode says what does not train at all)."
            )
    if settings["ema"] not in (None, "auto"):
        check_number("model.ema", settings["ema"])
        if not 0 < settings["ema"] < 1:
            raise UserError(
                f"model.ema is {settings['ema']}; it must be auto, null for no average, or above 0 and below 1, such "
                "as 0.999."
            )
    if (last := settings["stop_after"]) is not None:
        check_number("model.stop_after", last, is_whole=True)
        if last < 1:
            raise UserError(f"model.stop_after is {last}; it must be 1 or more.")
    widths = settings["head_hidden"] or []
    if not isinstance(widths, list | tuple) or not all(isinstance(width, int) and width >= 1 for width in widths):
        raise UserError(f"model.head_hidden is {widths}; it must be a list of whole numbers of 1 or more.")
    choices_of = {
        "activation_cache": ActivationCacheMode,
        "head_solver": HeadSolver,
        "head_init": HeadInit,
        "class_weights": ClassWeights,
    }
    for name, words in choices_of.items():
        value, choices = settings[name], get_args(words)
        if value not in choices:
            raise UserError(
                f"model.{name} is '{value}'; it must be one of {', '.join(choices)}.{nearest(value, choices)}"
            )
    _check_networks(settings, schedule)
    check_monitor("model.monitor", settings["monitor"], metrics=model.own_metrics)
    _check_phases(schedule)
    if lr_scheduler:
        _check_scheduler(settings, schedule, lr_scheduler)
    _check_rate(settings, optimizer)
    if optimizer or lr_scheduler:
        rehearse(complete(optimizer, model.lr, defaults_for(settings["mode"], settings["schedule"])), lr_scheduler)
    if settings["activation_cache"] == "on":
        _check_cache(settings, schedule)
    if settings["head_solver"] == "lbfgs":
        _check_solver(settings, schedule, lr_scheduler)
    if settings["head_init"] == "solved":
        _check_initial_head(settings, schedule)
    if model.criterion is not None:
        _check_loss(settings, model.criterion)


def side_by_side(networks: Sequence[Any]) -> str:
    """The one name of several networks, by which hyperparameters, checkpoints and bundles know them; or UserError."""
    if not networks or not all(isinstance(name, str) and name and "+" not in name for name in networks):
        raise UserError(f"model.network is {list(networks)}; it must be a list of names such as [resnet18, resnet50].")
    if own := next((name for name in networks if is_users_own(name) or name == "auto"), None):
        raise UserError(f"model.network is {list(networks)}: give networks of ours or timm's by name, not {own}.")
    return "+".join(networks)


def _check_networks(settings: Mapping[str, Any], schedule: Schedule) -> None:
    """Several networks side by side are frozen, each with its own weights."""
    names, weights = names_of(settings["network"]), settings["weights"]
    if isinstance(weights, str) and not names:
        return
    if isinstance(weights, list) and len(weights) != max(1, len(names)):
        raise UserError(
            f"model.weights is a list of {len(weights)}, and model.network names {max(1, len(names))}: give one entry "
            "for each network, in their order."
        )
    if not names:
        raise UserError("model.weights is a list, which goes with a list of networks: give it without brackets.")
    if any(phase.mode != "head" for phase in schedule.phases):
        raise UserError(
            "Networks side by side stay as they are: take mode head (--recipe freeze_backbone), or one model.network."
        )
    if settings["network_args"]:
        raise UserError("model.network_args go with one network: leave them out, or give one model.network.")


def check_resumed(settings: Mapping[str, Any], begun: Mapping[str, Any], resolved: Mapping[str, Any]) -> None:
    """Raises UserError for a fit that goes on from a checkpoint with another optimizer, rate or other stages.

    Both have the arguments of ImageClassifier, `resolved` what became of those that were not given at the beginning.
    """
    names = ("mode", "trainable_stages", "schedule", "optimizer", "lr_scheduler", "lr", "backbone_lr_factor")
    # A fit within a budget may have been shortened after the checkpoint was saved; its recorder knows both recipes.
    is_shortened = any(phase["rate_start"] for phase in settings["schedule"] or [])
    for name in (*names, "layer_decay", "warmup", "ema"):
        if name == "schedule" and is_shortened:
            continue
        if name in begun and settings[name] not in (begun[name], resolved.get(f"model.{name}", begun[name])):
            raise UserError(
                f"The fit of this checkpoint has model.{name} {begun[name]!r}, not {settings[name]!r}, so that it "
                "cannot go on; give the same, or start a new fit whose model.weights are the checkpoint."
            )


def check_length(schedule: Schedule, epochs: int | None, stop_after: int | None = None) -> None:
    """Raises UserError for a fit that does not reach its last phase, or goes on after it, or ends before it stops."""
    if epochs is None or epochs < 0:
        return
    if stop_after is not None and stop_after > epochs:
        raise UserError(f"model.stop_after is {stop_after}, but trainer.max_epochs is {epochs}: leave it out.")
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


def check_with_data(model: ImageClassifier) -> None:
    """Raises UserError for settings that do not go with its data module, which has read the images, or its trainer."""
    settings, schedule, data, trainer = model.hparams, model.schedule, model.data, model.trainer
    if settings["class_weights"] == "balanced" and data.sampler == "balanced":
        raise UserError(
            "model.class_weights and data.sampler are both balanced, which would correct the classes' frequencies "
            "twice: leave one of them out."
        )
    plateau = model.given_scheduler
    if data.final and plateau and plateau.name == "ReduceLROnPlateau":
        raise UserError(
            "lr_scheduler ReduceLROnPlateau watches a validation, and with data.final there is none: take another one."
        )
    if settings["activation_cache"] == "on" and data.augments and data.views is None:
        raise UserError(
            "model.activation_cache is on, but each epoch has a new view of each image; "
            "give data.views a number, or --data.augmentation none."
        )
    if settings["activation_cache"] == "on" and data.augments and data.view_facts(0) is None:
        raise UserError(
            "model.activation_cache is on, but nothing names what data.transform does, by which it could be known "
            "again: name it as module.Name of an installed package, or leave model.activation_cache out."
        )
    if data.batch_size == 1 and any(
        isinstance(module, nn.modules.batchnorm._BatchNorm) for module in trained_modules(model.network, schedule)
    ):
        raise UserError(
            "data.batch_size is 1, but the BatchNorm of the stages that train takes its statistics over two images or "
            "more: give 2 or more, or --model.mode head."
        )
    for phase in schedule.phases:
        if phase.norms_only:
            _check_norms(phase, model.network)
    _check_evaluation(settings, data, trainer)
    _check_steps(schedule, trainer)


def trained_modules(network: StagedNetwork, schedule: Schedule) -> list[nn.Module]:
    """All modules in the head and in stages that some phase trains."""
    stages = [network.stage(name) for name in schedule.ever_trained(network.stage_names)]
    return [module for stage in (*stages, network.head) for module in stage.modules()]


def _check_norms(phase: Phase, network: StagedNetwork) -> None:
    frozen = phase.frozen_stages(network.stage_names)
    trained = [name for name in network.stage_names if name not in frozen]
    if not any(network.norms(name) for name in trained):
        raise UserError(
            f"A phase in model.schedule has norms_only, but {listed(trained)} of {network.name} has no layer that "
            "normalises: leave out norms_only."
        )


def _check_phases(schedule: Schedule) -> None:
    for phase in schedule.phases:
        if phase.image_size is not None:
            check_number("The image_size of a phase in model.schedule", phase.image_size, is_whole=True)
            if phase.image_size < 8:
                raise UserError(
                    f"The image_size of a phase in model.schedule is {phase.image_size}; it must be 8 or more."
                )
        if phase.norms_only and phase.mode == "head":
            raise UserError(
                "A phase in model.schedule has the mode head, which trains no stage, and norms_only: give the mode "
                "last_stages or all, or leave out norms_only."
            )
        if phase.lr is not None and not 0 < phase.lr < float("inf"):
            raise UserError(f"The lr of a phase in model.schedule is {phase.lr}; it must be above 0.")
        if phase.mode != "last_stages" and phase.trainable_stages != 1:
            raise UserError(
                f"trainable_stages is {phase.trainable_stages}, but the mode is {phase.mode}, which takes no such "
                "number: give the mode last_stages, or leave out trainable_stages."
            )


def _check_rate(settings: Mapping[str, Any], optimizer: Maker | None) -> None:
    """Two rates are one too many; a function makes its optimizer with the one that it likes."""
    if settings["lr"] is None or optimizer is None:
        return
    if "lr" in optimizer.arguments:
        raise UserError(
            f"lr is {settings['lr']}, but the optimizer {optimizer.name} has an lr of its own, "
            f"{optimizer.arguments['lr']}: leave one of them out."
        )
    if not optimizer.is_class:
        raise UserError(
            f"lr is {settings['lr']}, but the optimizer is made by the function {optimizer.name}, which sets it: leave "
            "lr out, or give a class or a partial of one."
        )


def _check_scheduler(settings: Mapping[str, Any], schedule: Schedule, lr_scheduler: Maker) -> None:
    name = lr_scheduler.name
    if any(phase.lr is not None for phase in schedule.phases):
        raise UserError("A phase's lr needs the default schedule (warm-up and cosine); leave out lr_scheduler.")
    if any(phase.rate_epochs for phase in schedule.phases):
        raise UserError(
            "A phase's rate_epochs is of the default schedule (warm-up and cosine); leave out lr_scheduler."
        )
    if name == "OneCycleLR" and len(schedule.curves()) > 1:
        raise UserError(
            "lr_scheduler OneCycleLR has one cycle for the whole fit, but model.schedule has "
            f"{len(schedule.phases)} phases: leave out lr_scheduler, and warm-up and cosine begin again in each phase."
        )
    if settings["warmup"] != WARMUP:
        raise UserError(
            f"model.warmup is {settings['warmup']}, but it belongs to the default schedule, and {name} takes its "
            "place: leave out one of them."
        )


def _check_loss(settings: Mapping[str, Any], loss: Callable) -> None:
    name = settings["loss"] if isinstance(settings["loss"], str) else settings["loss"]["class_path"]
    if not callable(loss):
        raise UserError(f"model.loss is {name}, which cannot be called with logits and targets.")
    shapes = {"label_smoothing": 0.0, "focal_gamma": 0.0, "class_weights": "equal"}
    for option, unused in shapes.items():
        if settings[option] != unused:
            raise UserError(f"model.{option} shapes our own loss, and {name} takes its place: leave one of them out.")
    for option in ("mixup", "cutmix"):
        if settings[option] and not getattr(loss, "takes_soft_targets", False):
            raise UserError(
                f"model.{option} gives a probability for each class as target, and {name} does not say that it takes "
                f"that: leave out model.{option}, or set takes_soft_targets = True on the loss."
            )
    if isinstance(loss, nn.Module) and any(True for _ in loss.parameters()):
        raise UserError(f"model.loss {name} has weights of its own, which nothing would train; use one without.")


def _check_evaluation(settings: Mapping[str, Any], data: ImageDataModule, trainer: L.Trainer) -> None:
    """Lightning says of a share of less than one batch only when the training is over, or has begun."""
    index = data.index
    for split, limit in (("val", trainer.limit_val_batches), ("test", trainer.limit_test_batches)):
        images = len(index.rows(split))
        batches = -(-images // (data.batch_size * trainer.world_size))
        if images and isinstance(limit, float) and 0 < batches * limit < 1:
            name = "overfit" if split == "val" and trainer.overfit_batches else f"limit_{split}"  # type: ignore[attr-defined]
            raise UserError(
                f"trainer.{name}_batches is {limit}, but of {batches} batches that is none: "
                f"give 1, or a share of {1 / batches:.2g} or more."
            )
    if settings["monitor"] == "val_auroc" and not data.final and len(np.unique(index.labels[index.rows("val")])) < 2:
        raise UserError(
            "model.monitor is val_auroc, which is not defined with the images of one class, and the validation images "
            "have no other: give --model.monitor val_loss, or images of more classes."
        )


def _check_steps(schedule: Schedule, trainer: L.Trainer) -> None:
    """How many batches there are is known only now."""
    try:
        trainer.fit_loop.setup_data()
    except ValueError as error:
        raise UserError(
            f"trainer.val_check_interval is {trainer.val_check_interval}, but an epoch has "
            f"{trainer.num_training_batches} batches: give as many or less, or --trainer.check_val_every_n_epoch null, "
            "and they are counted over all epochs."
        ) from error
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return
    batches = trainer.num_training_batches
    limits = []
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        limits.append(trainer.max_epochs * batches)
    if trainer.max_steps > 0:
        limits.append(trainer.max_steps * trainer.accumulate_grad_batches)
    if not limits:
        return
    total, first = min(limits), schedule.starts()[-1] * batches
    if total <= first:
        raise UserError(
            f"trainer.max_steps is {trainer.max_steps}, but the last phase of model.schedule begins after "
            f"{first // trainer.accumulate_grad_batches} steps: give more steps, or shorter phases."
        )
    if trainer.check_val_every_n_epoch is None and (trainer.val_check_batch or 0) > total:
        raise UserError(
            f"trainer.val_check_interval is {trainer.val_check_interval}, but the fit has {total} batches, so that no "
            f"weights would ever be validated: give {total} or less."
        )


def _check_cache(settings: Mapping[str, Any], schedule: Schedule) -> None:
    if settings["mixup"] or settings["cutmix"]:
        raise UserError(
            "model.activation_cache is on, but mixup and cutmix mix the images of each step: leave one out."
        )
    if all(phase.mode == "all" for phase in schedule.phases):
        raise UserError("model.activation_cache is on, but no stage is ever frozen: leave it out, or freeze some.")


def _check_solver(settings: Mapping[str, Any], schedule: Schedule, lr_scheduler: Maker | None) -> None:
    if [phase.mode for phase in schedule.phases] != ["head"]:
        raise UserError("--model.head_solver lbfgs solves a head alone: give --model.mode head.")
    if schedule.phases[0].image_size:
        raise UserError("--model.head_solver lbfgs sees all images at one size: give --data.image_size instead.")
    for name in ("head_hidden", "head_dropout", "mixup", "cutmix", "loss"):
        if settings[name]:
            raise UserError(f"--model.head_solver lbfgs solves a linear head by cross-entropy: leave out model.{name}.")
    if settings["activation_cache"] == "off":
        raise UserError("--model.head_solver lbfgs needs the features of all images: leave out model.activation_cache.")
    if settings["ema"] not in (None, "auto"):
        raise UserError("--model.head_solver lbfgs takes no steps to average: leave out model.ema.")
    for name, given in (("lr", settings["lr"]), ("lr_scheduler", lr_scheduler)):
        if given:
            raise UserError(f"--model.head_solver lbfgs has no learning rate: leave out {name}.")


def _check_initial_head(settings: Mapping[str, Any], schedule: Schedule) -> None:
    if all(phase.mode == "head" for phase in schedule.phases):
        raise UserError(
            "--model.head_init solved is for stages that train: in mode head, --model.head_solver solves it."
        )
    if settings["weights"] == "none":
        raise UserError("--model.head_init solved needs pretrained features: leave it out, or give model.weights.")
    for name in ("head_hidden", "head_dropout", "loss"):
        if settings[name]:
            raise UserError(f"--model.head_init solved solves a linear head by cross-entropy: leave out model.{name}.")
