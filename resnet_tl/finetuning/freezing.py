"""Freezes in each epoch what its phase freezes, proves that it stayed frozen, and keeps DDP in step with it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import lightning as L
import torch
from torch.nn.parallel import DistributedDataParallel

from resnet_tl.errors import UserError
from resnet_tl.finetuning.modes import Schedule
from resnet_tl.networks.stages import StagedNetwork


@dataclass(frozen=True)
class FrozenProof:
    """That what is frozen was the same at the end of a phase as at its start."""

    phase: int  # its number, from 0
    mode: str  # what trained
    frozen: list[str]  # the names of the stages that did not
    # Of their parameters and buffers, and of the weights of stages whose norms alone trained, at both ends; of nothing
    # where all trained
    sha256: str


class Freezing(L.Callback):
    """Derives what is frozen from the epoch alone, so that it is the same after a resume.

    `ImageClassifier.configure_callbacks` returns it: a fit has it whoever makes the Trainer.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.phase: int | None = None
        self.digest = ""  # of what is frozen in the present phase; empty between two phases
        self.proofs: list[FrozenProof] = []  # of each phase so far
        self._frozen_when_wrapped: tuple[frozenset[str], bool] = (frozenset(), False)
        self._resumes = False

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forgets an earlier fit, unless this one goes on with it; DDP has just wrapped the module."""
        self.phase, self._resumes = None, bool(trainer.ckpt_path)
        if not self._resumes:  # an evaluation before may have loaded some
            self.digest, self.proofs = "", []
        self._frozen_when_wrapped = _frozen(_network(pl_module))

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        network = _network(pl_module)
        phase = self.schedule.phase_at(trainer.current_epoch)
        if phase != self.phase and not self._resumes:
            self.prove(pl_module)
        self.phase = phase
        self.schedule.phases[phase].freeze(network)
        if _frozen(network) != self._frozen_when_wrapped:
            self._frozen_when_wrapped = _frozen(network)
            _wrap_again(trainer, pl_module)
        if self._resumes and self.digest:
            check_frozen(network, self.digest)
        elif not self.digest:  # after wrapping, which gives every rank the buffers of rank 0
            self.digest = frozen_digest(network)
        self._resumes = False

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch + 1 in self.schedule.starts():
            self.prove(pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.prove(pl_module)

    def prove(self, pl_module: L.LightningModule) -> None:
        """Ends the phase with the proof that its frozen stages are as at its start; UserError where not."""
        if self.digest and self.phase is not None:
            network = _network(pl_module)
            check_frozen(network, self.digest)
            mode = str(self.schedule.phases[self.phase])
            self.proofs.append(FrozenProof(self.phase, mode, sorted(network.frozen), self.digest))
            self.digest = ""

    def state_dict(self) -> dict[str, Any]:
        return {"digest": self.digest, "proofs": [asdict(proof) for proof in self.proofs]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.digest = state_dict["digest"]
        self.proofs = [FrozenProof(**proof) for proof in state_dict["proofs"]]


def digest(network: StagedNetwork, stages: Collection[str]) -> str:
    """SHA-256 over the parameters and buffers of some stages, BatchNorm statistics included."""
    return _digest({name: network.stage(name).state_dict() for name in stages})


def frozen_digest(network: StagedNetwork) -> str:
    """`digest` of the frozen stages and, where only norms train, of all else in the other stages."""
    return _digest({name: network.frozen_state(name) for name in network.stage_names})


def _digest(states: Mapping[str, Mapping[str, Any]]) -> str:
    total = hashlib.sha256()
    for name in sorted(states):
        for key, tensor in states[name].items():
            total.update(f"{name}.{key}".encode())
            total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return total.hexdigest()


def check_frozen(network: StagedNetwork, before: str) -> None:
    """Raises UserError when what is frozen has another digest than `before`."""
    if frozen_digest(network) == before:
        return
    names = f"frozen stages ({', '.join(sorted(network.frozen))})" if network.frozen else "weights"
    if network.frozen and network.norms_only:
        names += " or the weights of the others"
    raise UserError(
        f"The {names} changed during a phase, so that this run cannot be trusted: something, such as a callback, "
        "trained them or put their BatchNorm into training mode; leave it out."
    )


def _network(pl_module: L.LightningModule) -> StagedNetwork:
    network = pl_module.network
    assert isinstance(network, StagedNetwork)
    return network


def _frozen(network: StagedNetwork) -> tuple[frozenset[str], bool]:
    return network.frozen, network.norms_only


def _wrap_again(trainer: L.Trainer, pl_module: L.LightningModule) -> None:
    """DDP synchronises only what needed a gradient when it wrapped the module: wrap it again, on every rank.

    Lightning has no public way; written for the DDPStrategy of Lightning 2.6.
    """
    strategy = trainer.strategy
    if isinstance(strategy.model, DistributedDataParallel):
        strategy.model = None  # its reducer takes its hooks along
        strategy.model = strategy._setup_model(pl_module)
        strategy._register_ddp_hooks()  # type: ignore[attr-defined]
