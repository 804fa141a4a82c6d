"""The optimizer and its learning-rate scheduler, as Lightning takes them."""

from __future__ import annotations

import inspect
import logging
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import lightning as L
import torch
from torch.optim import AdamW, Optimizer

from resnet_tl.errors import UserError, reason_of
from resnet_tl.finetuning.defaults import ModeDefaults, choose_backbone_lr_factor, defaults_for
from resnet_tl.finetuning.learning_rate import PiecewiseConstantLR, WarmupCosine, warmup_cosine
from resnet_tl.finetuning.makers import Maker
from resnet_tl.finetuning.modes import Schedule
from resnet_tl.finetuning.parameter_groups import parameter_groups
from resnet_tl.networks.stages import StagedNetwork
from resnet_tl.user_code import attempt

log = logging.getLogger(__name__)

STEPPED_EVERY_BATCH = ("OneCycleLR", "CyclicLR")


def configure(
    settings: Mapping[str, Any],
    network: StagedNetwork,
    schedule: Schedule,
    source: str,
    trainer: L.Trainer,
    optimizer: Maker | None,
    lr_scheduler: Maker | None,
    mode_of: Callable[[str], str],
) -> tuple[dict[str, Any], dict[str, tuple[Any, str]]]:
    """What `configure_optimizers` returns, and what was chosen for it, and why; UserError where it cannot be made.

    Where they are None, optimizer and scheduler are AdamW and warm-up with cosine; `source` is of the first weights.
    """
    defaults = defaults_for(settings["mode"], settings["schedule"])
    factor, chosen = settings["backbone_lr_factor"], {}
    if factor is None:
        factor, why = choose_backbone_lr_factor(defaults, source, network.description)
        chosen["model.backbone_lr_factor"] = (factor, why)
    lr = base_rate(optimizer, settings["lr"], defaults)
    trained = schedule.ever_trained(network.stage_names)
    groups = parameter_groups(network, trained, lr, factor, settings["layer_decay"])
    made = make_optimizer(complete(optimizer, lr, defaults), groups, clips=bool(trainer.gradient_clip_val))
    if lr_scheduler:
        scheduler = make_scheduler(lr_scheduler, made, lr, settings["monitor"], trainer, mode_of)
    else:
        scheduler = make_warmup_cosine(made, lr, schedule, settings["warmup"], trainer)
    return {"optimizer": made, "lr_scheduler": scheduler}, chosen


def complete(optimizer: Maker | None, lr: float, defaults: ModeDefaults) -> Maker:
    """An optimizer with the base rate `lr`; AdamW, the default, has the mode's weight decay where none is given."""
    optimizer = optimizer or Maker(AdamW, {}, "AdamW")
    if not optimizer.is_class:
        return optimizer
    decay = {"weight_decay": defaults.weight_decay} if optimizer.kind is AdamW else {}
    return optimizer.with_arguments(**decay | optimizer.arguments | {"lr": lr})


def base_rate(optimizer: Maker | None, lr: float | None, defaults: ModeDefaults) -> float:
    """The head's rate: `lr`, the optimizer's own, or the mode's, since AdamW has none of its own; UserError for 0."""
    if optimizer and optimizer.kind is None:
        return lr or defaults.lr  # it will be refused when it is to train
    if lr is None and optimizer and not optimizer.is_class:  # what is of one parameter tells
        lr = _attempt(optimizer, [{"params": [torch.nn.Parameter(torch.ones(2, 2))]}]).defaults.get("lr")
    elif lr is None and optimizer:
        own = None if optimizer.kind is AdamW else optimizer.default("lr")
        lr = optimizer.arguments.get("lr", own)
    lr = defaults.lr if lr is None else float(lr)
    if lr == 0:
        raise UserError("optimizer.lr is 0, at which nothing is learned; it must be above 0.")
    return lr


def make_optimizer(optimizer: Maker, groups: list[dict[str, Any]], clips: bool = False) -> Optimizer:
    """An optimizer over named parameter groups; UserError where it refuses its arguments.

    `clips`: gradients will be clipped, which Lightning does not do for a fused optimizer.
    """
    if not optimizer.is_class:
        return _attempt(optimizer, groups)
    arguments = optimizer.arguments
    if clips and arguments.get("fused"):
        raise UserError(
            "optimizer.fused is true, but a fused optimizer cannot clip gradients: "
            "leave out optimizer.fused or trainer.gradient_clip_val."
        )
    assert optimizer.kind is not None
    can_fuse = "fused" in inspect.signature(optimizer.kind).parameters and not clips
    if can_fuse and not any(arguments.get(name) for name in ("foreach", "differentiable")):
        # One pass over the weights instead of one for each term of the formula.
        optimizer = optimizer.with_arguments(fused=arguments.get("fused") is not False)
    return _attempt(optimizer, groups)


def _attempt(optimizer: Maker, groups: list[dict[str, Any]]) -> Optimizer:
    """What is made by a class or function; UserError where it refuses, or gives something else."""

    def make() -> Optimizer:
        made = optimizer(groups)
        if not isinstance(made, Optimizer):
            raise TypeError(f"{optimizer.name} gives a {type(made).__name__}")
        return made

    return attempt("The optimizer cannot be made", make)


def make_scheduler(
    lr_scheduler: Maker,
    optimizer: Optimizer,
    lr: float,
    monitor: str,
    trainer: L.Trainer,
    mode_of: Callable[[str], str],
) -> dict[str, Any]:
    """A scheduler of torch's that keeps the ratios of the groups' rates; UserError where it refuses its arguments.

    `lr` is the optimizer's base rate; `monitor` is what ReduceLROnPlateau watches where it does not say so.
    """
    arguments, name = dict(lr_scheduler.arguments), lr_scheduler.name
    for rate in ("base_lr", "max_lr"):
        if isinstance(arguments.get(rate), float | int):
            # One number would undo the groups' own rates.
            arguments[rate] = [arguments[rate] * group["lr"] / lr for group in optimizer.param_groups]
    if name == "OneCycleLR":
        _fill_cycle(arguments, trainer)
    if name == "CosineAnnealingLR" and arguments.get("T_max") != trainer.max_epochs:
        log.info(
            f"CosineAnnealingLR falls for {arguments['T_max']} epochs (T_max), and the fit has {trainer.max_epochs}: "
            "the rate does not end at its lowest."
        )
    if name == "ReduceLROnPlateau":
        arguments.setdefault("mode", mode_of(arguments.get("monitor", monitor)))
    scheduler = attempt("The learning-rate scheduler cannot be made", lambda: lr_scheduler(optimizer, **arguments))
    name = type(scheduler).__name__  # a function may give any
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
    """The default scheduler, over the phases of a fit of known length; UserError where it has no end."""
    total = trainer.estimated_stepping_batches
    if total == float("inf"):
        raise UserError("trainer.max_epochs must be given: the learning rate falls to zero at the last epoch.")
    trainer.fit_loop.setup_data()
    steps = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
    starts = [schedule.starts()[number] * steps for number in schedule.curves()]
    rates = [schedule.phases[number].lr for number in schedule.curves()]
    scales = [1.0 if rate is None else rate / lr for rate in rates]
    factor = WarmupCosine(starts, int(total), scales, warmup)
    return {"scheduler": warmup_cosine(optimizer, factor), "interval": "step"}


def rehearse(optimizer: Maker, lr_scheduler: Maker | None) -> None:
    """Takes a few steps on weights of the shapes that networks have; UserError where these cannot be trained so."""
    if optimizer.kind is None:
        return
    weights = [torch.nn.Parameter(torch.ones(shape)) for shape in ((2, 1, 3, 3), (2, 2), (2,))]
    name = optimizer.name
    try:
        made = optimizer([{"params": weights[:1]}, {"params": weights[1:]}])
        _take_steps(made, weights, [])
    except Exception as error:  # of any kind: the class may be anyone's
        solver = "; a head is solved by L-BFGS with --model.head_solver lbfgs" if name == "LBFGS" else ""
        raise UserError(
            f"The optimizer {name} cannot train a network with these arguments: {reason_of(error)}{solver}."
        ) from error
    if lr_scheduler is None or lr_scheduler.kind is None:
        return
    name, planned = lr_scheduler.name, {}
    monitor = [1.0] if name == "ReduceLROnPlateau" else []
    if name == "OneCycleLR" and (lr_scheduler.arguments.get("total_steps") or 1) > 0:  # not known yet how many
        planned = {"total_steps": 10, "epochs": None, "steps_per_epoch": None}
    attempt(
        f"The learning-rate scheduler {name} cannot be used with these arguments",
        lambda: _take_steps(made, weights, [lr_scheduler(made, **planned)], *monitor),
    )


def _take_steps(optimizer: Optimizer, weights: list[torch.nn.Parameter], schedulers: list[Any], *metric: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they come again, and with the real thing
        for _ in range(2):
            for weight in weights:
                weight.grad = torch.ones_like(weight)
            optimizer.step()
            for scheduler in schedulers:
                scheduler.step(*metric)
            if any(group["lr"] < 0 for group in optimizer.param_groups):
                raise ValueError("the learning rate falls below 0.")


def _fill_cycle(arguments: dict[str, Any], trainer: L.Trainer) -> None:
    """OneCycleLR as long as the fit, unless it is given a length of its own; UserError where that is too short."""
    fit = trainer.estimated_stepping_batches
    epochs, steps = arguments.get("epochs"), arguments.get("steps_per_epoch")
    given = arguments.get("total_steps") or (epochs * steps if epochs and steps else None)
    if given is None and fit == float("inf"):
        raise UserError("trainer.max_epochs must be given: OneCycleLR has one cycle for the whole fit.")
    if given is None:
        arguments |= {"total_steps": int(fit), "epochs": None, "steps_per_epoch": None}
    elif given < fit:
        raise UserError(
            f"lr_scheduler OneCycleLR has {given} steps, but the fit has {fit}: leave out total_steps, epochs and "
            "steps_per_epoch, and its cycle is as long as the fit."
        )
    elif given > fit:
        log.info(f"OneCycleLR has {given} steps, and the fit {fit}: the cycle does not come to its end.")
