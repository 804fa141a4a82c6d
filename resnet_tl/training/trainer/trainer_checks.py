"""What a Trainer is given that would go wrong without a word, late or unclearly: refused before any work."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, SingleDeviceStrategy, XLAStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from lightning.pytorch.trainer.states import TrainerFn

from resnet_tl.errors import UserError
from resnet_tl.training.numbers.monitor import MEASURED, check_monitor
from resnet_tl.training.trainer.processes import check_processes

if TYPE_CHECKING:
    from resnet_tl.training.classifier import ImageClassifier

ABOVE_0 = (
    "max_epochs",
    "max_steps",
    "accumulate_grad_batches",
    "check_val_every_n_epoch",
    "limit_train_batches",
    "val_check_interval",
)
UNLIMITED = ("max_epochs", "max_steps")  # where -1 means without end
OTHERS = ("log_every_n_steps", "gradient_clip_val", "gradient_clip_algorithm", "min_epochs", "min_steps")
HOOKS = ("begin", "setup", "configure_model", "validation_step", "test_step")
"""Beside those that begin with `on_`: what a subclass may add to, but not replace."""
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
CALLBACKS = {
    "BaseFinetuning": "what it does is set by model.mode and model.schedule",
    "GradientAccumulationScheduler": "the learning rate is planned over steps that are all alike; "
    "give trainer.accumulate_grad_batches a number",
    "ModelPruning": "it changes weights that are to stay frozen; leave it out",
    "StochasticWeightAveraging": "it copies the network before there is one, and takes the place of the learning "
    "rate's schedule; use EMAWeightAveraging",
}
"""Callbacks of Lightning that do not go with a classifier of ours, and why, or what to use in their place."""


def check_trainer(trainer: L.Trainer, model: ImageClassifier) -> None:
    """Raises UserError for what a Trainer, about to fit or evaluate, cannot do with a classifier of ours."""
    _check_strategy(trainer)
    if str(trainer.precision) not in PRECISIONS:
        raise UserError(
            f"trainer.precision is {trainer.precision}, but the weights stay float32: it must be one of "
            f"{', '.join(PRECISIONS)}."
        )
    if getattr(model, "_compiler_ctx", None):
        raise UserError(
            "The model was compiled by torch.compile, which cannot follow its steps, since they read what is kept of "
            "the images: give the Trainer the model itself, and compile it for model(x) after the fit."
        )
    if trainer.state.fn in (None, TrainerFn.FITTING):
        if model.built and any(one.is_floating_point() and one.dtype != torch.float32 for one in model.parameters()):
            raise UserError(
                "The model's weights are no longer float32, in which they are trained: leave out .half(), .bfloat16() "
                'and .double(), or call model.float(); Trainer(precision="bf16-mixed") computes in less.'
            )
        check_numbers({name: getattr(trainer, name, None) for name in (*ABOVE_0, *OTHERS)})
        check_processes(trainer)
        _check_callbacks(trainer, model)


def check_subclass(model: ImageClassifier, base: type[ImageClassifier], callbacks: list[L.Callback]) -> None:
    """Raises UserError for a hook of the user's own that takes away what a fit needs.

    `callbacks` is what `configure_callbacks` of the base gives, of which the model's class may be a subclass.
    """
    name = type(model).__name__
    for kind in type(model).__mro__[: type(model).__mro__.index(base)]:
        for hook, given in vars(kind).items():
            is_ours = hook in ("begin", "setup", "configure_model", "validation_step", "test_step") or hook.startswith(
                "on_"
            )
            code = getattr(given, "__code__", None)
            if is_ours and code and _is_ours(base, hook) and not {"super", hook} & {*code.co_names}:
                raise UserError(
                    f"{kind.__name__}.{hook} takes the place of {base.__name__}'s own: let it call super().{hook}(...)."
                )
            if hook == "forward":
                raise UserError(
                    f"{kind.__name__}.forward would be called by no step of a fit, nor by the model that is saved: "
                    "give network a module of your own, or override loss or training_step."
                )
    if any(callback not in model.trainer.callbacks for callback in callbacks):  # type: ignore[attr-defined]
        raise UserError(
            f"{name}.configure_callbacks leaves out the callbacks that freeze stages and save where a fit stands: let "
            "it return [*super().configure_callbacks(), ...]."
        )
    if not model.automatic_optimization and type(model).training_step is base.training_step:
        raise UserError(
            f"{name} has automatic_optimization = False, but its training_step is that of {base.__name__}, which takes "
            "no step of the optimizer by itself: leave that out, or write a training_step."
        )


def _is_ours(base: type, name: str) -> bool:
    return any(name in vars(kind) for kind in base.__mro__ if kind.__module__.startswith("resnet_tl."))


def check_states(callbacks: Iterable[L.Callback], states: Mapping[str, Any]) -> None:
    """Raises UserError for a callback whose state no checkpoint gives back, since no code in it is run.

    States are given by the callbacks' `state_key`; those of Lightning's callbacks and ours are known.
    """
    for callback in callbacks:
        if _is_known(type(callback)) or not states.get(callback.state_key):
            continue
        file = BytesIO()
        try:
            torch.save(states[callback.state_key], file)
            file.seek(0)
            torch.load(file, weights_only=True)
        except Exception as error:  # of any kind: the objects may be anyone's
            raise UserError(
                f"The state of the callback {type(callback).__name__} could not be read from a checkpoint again: let "
                "its state_dict hold numbers, texts, lists, dictionaries and tensors alone, and none of numpy's."
            ) from error


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


def _is_known(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in ("lightning", "resnet_tl")


def check_numbers(given: Mapping[str, Any]) -> None:
    """Raises UserError for a number with which Lightning would train nothing, or divide by it.

    Given are settings of a Trainer by name, those of ABOVE_0 and OTHERS among them.
    """
    for name in ABOVE_0:
        value = given[name]
        if isinstance(value, int | float) and value <= 0 and not (name in UNLIMITED and value == -1):
            raise UserError(f"trainer.{name} is {value}; it must be above 0.")
    for name in ("log_every_n_steps", "gradient_clip_val"):
        if given[name] is not None and given[name] < 0:
            raise UserError(f"trainer.{name} is {given[name]}; it must be 0 or more.")
    for unit in ("epochs", "steps"):
        least, most = given[f"min_{unit}"], given[f"max_{unit}"]
        if least is not None and most is not None and 0 < most < least:
            raise UserError(f"trainer.min_{unit} is {least}, but trainer.max_{unit} is {most}: leave out one of them.")
    algorithm = given["gradient_clip_algorithm"]
    if algorithm is not None and not given["gradient_clip_val"]:
        raise UserError(
            f"trainer.gradient_clip_algorithm is {getattr(algorithm, 'value', algorithm)}, but nothing is clipped: "
            "give trainer.gradient_clip_val too."
        )


def _check_strategy(trainer: L.Trainer) -> None:
    strategy = trainer.strategy
    if isinstance(strategy.launcher, _MultiProcessingLauncher):  # of Lightning 2.6, which names it nowhere else
        raise UserError(
            "trainer.strategy starts processes that end with the network they have trained, as ddp_spawn, ddp_fork and "
            "ddp_notebook do, so that nothing would be left of it: write a script with --trainer.strategy ddp, or give "
            "--trainer.devices 1, as in a notebook."
        )
    is_ours = isinstance(strategy, SingleDeviceStrategy | DDPStrategy)
    if not is_ours or isinstance(strategy, DeepSpeedStrategy | XLAStrategy):
        raise UserError(
            f"trainer.strategy is {type(strategy).__name__}, which splits or moves the network, but each process must "
            "hold all of it: give --trainer.strategy ddp, or leave it out."
        )


def _check_callbacks(trainer: L.Trainer, model: ImageClassifier) -> None:
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    # Others may log whatever they like to watch.
    own = (type(model), *map(type, callbacks))
    nobody_else_logs = all(map(_is_known, own))
    for callback in callbacks:
        for name in [kind.__name__ for kind in type(callback).__mro__ if kind.__name__ in CALLBACKS]:
            raise UserError(f"{type(callback).__name__} cannot be used in a fit: {CALLBACKS[name]}.")
        monitor, mode = getattr(callback, "monitor", None), getattr(callback, "mode", None)
        if not isinstance(monitor, str) or mode not in ("min", "max"):
            continue
        if isinstance(callback, ModelCheckpoint) and monitor in ("epoch", "step"):  # which Lightning knows by itself
            continue
        if nobody_else_logs or monitor in MEASURED:
            setting = f"trainer.callbacks.monitor of {type(callback).__name__}"
            check_monitor(setting, monitor, mode, model.own_metrics)
