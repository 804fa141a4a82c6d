"""The optimizer and its learning-rate scheduler, as Lightning takes them."""

from __future__ import annotations

import importlib
import inspect
import math
from typing import Any

import lightning as L
from torch.optim import Optimizer

from resnet_tl.errors import UserError
from resnet_tl.finetuning.defaults import ModeDefaults
from resnet_tl.finetuning.learning_rate import PiecewiseConstantLR, WarmupCosine, warmup_cosine
from resnet_tl.finetuning.modes import Schedule
from resnet_tl.finetuning.parameter_groups import parameter_groups
from resnet_tl.networks.stages import StagedNetwork
from resnet_tl.training.monitor import monitor_mode

STEPPED_EVERY_BATCH = ("OneCycleLR", "CyclicLR")


def make_optimizer(
    init: dict[str, Any] | None,
    defaults: ModeDefaults,
    network: StagedNetwork,
    schedule: Schedule,
    backbone_lr_factor: float,
    layer_decay: float,
    clips: bool = False,
) -> tuple[Optimizer, float]:
    """An optimizer over our named parameter groups, and its base learning rate, which is the head's.

    Args:
        init: {class_path, init_args}; None is AdamW with the mode's defaults.
        defaults: of the mode.
        network: gives the stages.
        schedule: tells which of them ever train.
        backbone_lr_factor: the last stage learns at the base rate times this.
        layer_decay: each stage below learns at this factor of the one above.
        clips: whether gradients will be clipped, which Lightning does not do for a fused optimizer.

    Raises:
        UserError: the optimizer refuses its arguments, such as a negative learning rate.
    """
    init = init or {
        "class_path": "torch.optim.AdamW",
        "init_args": {"lr": defaults.lr, "weight_decay": defaults.weight_decay},
    }
    arguments = dict(init.get("init_args") or {})
    lr = float(arguments.setdefault("lr", defaults.lr))
    trained = schedule.ever_trained(network.stage_names)
    groups = parameter_groups(network, trained, lr, backbone_lr_factor, layer_decay)
    optimizer_class = _class_at(init["class_path"])
    can_fuse = "fused" in inspect.signature(optimizer_class).parameters and not clips
    if can_fuse and not any(arguments.get(name) for name in ("foreach", "differentiable")):
        # One pass over the weights instead of one for each term of the formula.
        arguments["fused"] = arguments.get("fused") is not False
    try:
        return optimizer_class(groups, **arguments), lr
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"The optimizer cannot be made: {error}.") from error


def make_scheduler(
    init: dict[str, Any], optimizer: Optimizer, lr: float, monitor: str, trainer: L.Trainer
) -> dict[str, Any]:
    """A scheduler of torch's that keeps the ratios of the groups' rates, stepped as it expects to be.

    Raises:
        UserError: the scheduler refuses its arguments.
    """
    scheduler_class = _class_at(init["class_path"])
    arguments = dict(init.get("init_args") or {})
    name = scheduler_class.__name__
    for rate in ("base_lr", "max_lr"):
        if isinstance(arguments.get(rate), float | int):
            # One number would undo the groups' own rates.
            arguments[rate] = [arguments[rate] * group["lr"] / lr for group in optimizer.param_groups]
    if name == "OneCycleLR" and arguments.get("total_steps") is None and arguments.get("epochs") is None:
        arguments["total_steps"] = int(trainer.estimated_stepping_batches)
    if name == "ReduceLROnPlateau":
        arguments.setdefault("mode", monitor_mode(arguments.get("monitor", monitor)))
    try:
        scheduler = scheduler_class(optimizer, **arguments)
    except (ValueError, TypeError) as error:
        raise UserError(f"The learning-rate scheduler cannot be made: {error}.") from error
    return {
        "scheduler": scheduler,
        "interval": scheduler.interval
        if isinstance(scheduler, PiecewiseConstantLR)
        else "step"
        if name in STEPPED_EVERY_BATCH
        else "epoch",
        # An epoch without validation has no metric to look at.
        "frequency": (trainer.check_val_every_n_epoch or 1) if name == "ReduceLROnPlateau" else 1,
        "monitor": arguments.get("monitor", monitor),
    }


def make_warmup_cosine(
    optimizer: Optimizer, lr: float, schedule: Schedule, warmup: float, trainer: L.Trainer
) -> dict[str, Any]:
    """The default scheduler, over the phases of a fit of known length.

    Raises:
        UserError: the fit has no end.
    """
    total = trainer.estimated_stepping_batches
    if total == float("inf"):
        raise UserError("trainer.max_epochs must be given: the learning rate falls to zero at the last epoch.")
    trainer.fit_loop.setup_data()
    steps = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
    starts = [start * steps for start in schedule.starts()]
    scales = [1.0 if phase.lr is None else phase.lr / lr for phase in schedule.phases]
    factor = WarmupCosine(starts, int(total), scales, warmup)
    return {"scheduler": warmup_cosine(optimizer, factor), "interval": "step"}


def _class_at(path: str) -> type:
    module, name = path.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)
