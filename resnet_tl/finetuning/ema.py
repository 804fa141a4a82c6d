"""Averages of the weights over the steps of a fit: our own, and what those of Lightning's callbacks lack here.

Lightning has no public way to the tensors of an average; written for the WeightAveraging of version 2.6.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import chain
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from resnet_tl.errors import UserError
from resnet_tl.finetuning.modes import Schedule
from resnet_tl.networks.stages import StagedNetwork


class EMA(WeightAveraging):
    """Validates, saves and ships an exponential moving average of the weights (Polyak and Juditsky 1992).

    It begins with the weights at the start of each phase. The step n of a phase, from 0, keeps
    min(decay, (1 + n) / (10 + n)) of it, so that a short fit forgets its beginning too. BatchNorm statistics of trained
    stages are averaged like weights; frozen stages and counters are as they are in the network, to the bit.
    """

    def __init__(self, decay: float, schedule: Schedule) -> None:
        super().__init__()
        self.decay = decay
        self.schedule = schedule
        self._phase: int | None = None  # that the average is of
        self._trained: list[tuple[nn.Module, nn.Module]] = []  # parts of the average, and the same of the network
        self._is_swapped = False  # whether the network holds the average, and the average the network's weights

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """On the device that trains, to which the network itself comes later."""
        if stage == TrainerFn.FITTING:
            pl_module.configure_model()
            self._phase, self._trained, self._is_swapped = None, [], False
            self._average_model = AveragedModel(_tensors_alone(pl_module), trainer.strategy.root_device)
            self._average_model.n_averaged = self._average_model.n_averaged.cpu()  # each step asks for it

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._latest_update_step = trainer.global_step  # whatever was saved had all steps in its average

    @torch.no_grad()
    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The callback before this one has frozen what the epoch freezes."""
        assert self._average_model is not None
        averaged = self._average_model.module
        if self._phase != (phase := self.schedule.phase_at(trainer.current_epoch)):
            self._phase = phase
            self._average_model.n_averaged.zero_()
            for mean, newest in zip(_tensors(averaged), _tensors(pl_module), strict=True):
                mean.copy_(newest)
        frozen = _network(pl_module).frozen
        self._trained = list(zip(_trained_parts(averaged, frozen), _trained_parts(pl_module, frozen), strict=True))

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *step: Any) -> None:
        if self._trained and trainer.global_step > self._latest_update_step:  # not while gradients are accumulated
            self._latest_update_step = trainer.global_step
            self._update()

    def _update(self) -> None:
        assert self._average_model is not None
        done = int(self._average_model.n_averaged)
        self._average_model.n_averaged += 1
        pairs = [pair for parts in self._trained for pair in zip(*map(_tensors, parts), strict=True)]
        means, newest = zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)
        get_ema_multi_avg_fn(min(self.decay, (1 + done) / (10 + done)))(list(means), list(newest), done)
        for counter, now in pairs:
            if not counter.is_floating_point():
                counter.copy_(now)

    def _swap_models(self, pl_module: L.LightningModule) -> None:
        super()._swap_models(pl_module)
        self._is_swapped = not self._is_swapped

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Whoever saves, within a validation or before this callback's turn at the end of a step."""
        if self._average_model is None:  # the fit is over
            return
        self.on_train_batch_end(trainer, pl_module)
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self._is_swapped:
            newest, averaged = checkpoint["state_dict"], checkpoint["current_model_state"]
            checkpoint |= {"state_dict": averaged, "current_model_state": newest}

    def state_dict(self) -> dict[str, Any]:
        return {"phase": self._phase}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._phase = state_dict["phase"]


class AveragedWeights(L.Callback):
    """`ImageClassifier.configure_callbacks` returns it, so that its turn comes after the trainer's own callbacks.

    What a user's own average of weights that never change makes of them differs by its rounding, and one that began
    before they were frozen by more: frozen stages are given as they are. And once a fit is over any average would put
    the newest weights into the place of averaged ones that were loaded: `trainer.test(ckpt_path="best")` would test
    others than it says, and they would be saved.
    """

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Before the averages take the place of the weights."""
        if trainer.state.fn == TrainerFn.FITTING:
            _give_frozen(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Before they do so for good, when the training ends."""
        _give_frozen(trainer, pl_module)

    def put(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Into a checkpoint of weights alone, for which Lightning asks no callback."""
        for callback in _averaging(trainer):
            callback.on_save_checkpoint(trainer, pl_module, checkpoint)
            for key in ("current_model_state", "averaging_state"):
                checkpoint.pop(key, None)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        for callback in _averaging(trainer):
            callback._average_model = None


def choose_decay(
    given: float | Literal["auto"] | None, default: tuple[float | None, str], trainer: L.Trainer
) -> tuple[float | None, str]:
    """The decay of a fit's EMA, or None for no average, and why; `default` is both of what auto becomes.

    UserError where a callback of the Trainer averages too.
    """
    others = [type(callback).__name__ for callback in _averaging(trainer) if not isinstance(callback, EMA)]
    if others and given == "auto":
        return None, f"{others[0]} averages the weights"
    if others and given is not None:
        raise UserError(f"model.ema is {given}, but {others[0]} averages the weights too: leave one of them out.")
    return default if given == "auto" else (given, "as given")


@torch.no_grad()
def _give_frozen(trainer: L.Trainer, pl_module: L.LightningModule) -> None:
    network = _network(pl_module)
    for callback in _averaging(trainer):
        averaged = _network(callback._average_model.module)  # type: ignore[union-attr]
        for name in network.stage_names:
            averaged.stage(name).load_state_dict(network.frozen_state(name), strict=False)


def _averaging(trainer: L.Trainer) -> list[WeightAveraging]:
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [callback for callback in callbacks if isinstance(callback, WeightAveraging)]


def _tensors_alone(module: nn.Module) -> nn.Module:
    """A module of the same parameters, buffers and keys: a LightningModule holds data, too, that no average copies."""
    alone = nn.Module()
    for name, parameter in module.named_parameters(recurse=False):
        alone.register_parameter(name, parameter)
    for name, buffer in module.named_buffers(recurse=False):
        alone.register_buffer(name, buffer)
    for name, child in module.named_children():
        alone.add_module(name, child)
    return alone


def _trained_parts(module: nn.Module, frozen: Collection[str]) -> list[nn.Module]:
    """The stages that are not frozen, and the head."""
    network = _network(module)
    return [*(network.stage(name) for name in network.stage_names if name not in frozen), network.head]


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    return chain(module.parameters(), module.buffers())


def _network(module: nn.Module) -> StagedNetwork:
    network = module.network
    assert isinstance(network, StagedNetwork)
    return network
