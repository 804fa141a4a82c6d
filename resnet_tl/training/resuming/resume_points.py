"""Keeps `last.ckpt`, from which an interrupted fit goes on as if nothing had happened."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from resnet_tl import stopping
from resnet_tl.errors import UserError
from resnet_tl.training.resuming.position import is_between_steps

if TYPE_CHECKING:
    from resnet_tl.training.classifier import ImageClassifier

PAUSE = 10.0
"""Seconds between two checkpoints of a plain Trainer, which writes each of them at once."""
SAVE = 1  # a wish that is weaker than any signal, which wishes its number


class ResumePoints(L.Callback):
    """Saves before each validation, after some time within an epoch, and when a signal asks for a stop.

    Always before a batch, a validation or an epoch begins, when all that belongs to the one before is done: no gradient
    is held, the schedulers and other callbacks have had their turn. So this one stands in front of those. All ranks
    save and stop at the same step.

    A fit of a plain Trainer has one as well. There it takes over Ctrl-C alone, which otherwise breaks into a step and
    ends the program, and leaves nothing to go on from.

    Args:
        every: seconds between two checkpoints within an epoch.
        folder: for `last.ckpt`; default: beside the other checkpoints of the trainer.
        pause: seconds after one in which none is saved before a validation: short epochs do not wait for the disk.
        signals: those that ask for a stop; default: all that `stopping` knows.
    """

    def __init__(
        self,
        every: float = 600.0,
        folder: str | Path | None = None,
        pause: float = 0.0,
        signals: Sequence[signal.Signals] | None = None,
    ) -> None:
        self.every = every
        self.folder = str(folder) if folder else None
        self.pause = pause
        self.signals = signals
        self._saved = time.monotonic()
        self._ranks: _Ranks | None = None
        self._validated = False  # since the epoch began

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        stopping.install(self.signals)  # Lightning's own Trainer has just put other handlers in their place

    on_test_start = on_predict_start = on_sanity_check_start  # there is nothing to save: at once

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._place(trainer)
        self._saved = time.monotonic()
        self._ranks = _Ranks() if trainer.world_size > 1 else None
        stopping.check()
        stopping.install(self.signals)
        stopping.wait(True)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        model: ImageClassifier = pl_module  # type: ignore[assignment]
        # At the very start nothing would be lost, and before a validation all but that was saved.
        if trainer.global_step and not model.resuming.position and not self._validated:
            self._save(trainer)
            self._stop_if(self._agreed())
        self._validated = False

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        wish = self._agreed(is_due=time.monotonic() - self._saved >= self.every)
        if wish and is_between_steps(trainer):
            self._save(trainer)
            self._stop_if(wish)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._validated = True
            wish = self._agreed()
            if wish or time.monotonic() - self._saved >= self.pause:
                self._save(trainer)
            self._stop_if(wish)
        elif trainer.state.fn == TrainerFn.VALIDATING:
            stopping.install(self.signals)

    def on_validation_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *batch: Any) -> None:
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._stop_if(self._agreed())

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        model: ImageClassifier = pl_module  # type: ignore[assignment]
        model.freezing.prove(model)
        self._save(trainer)
        stopping.wait(False)
        stopping.check()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        stopping.wait(False)
        stopping.forget()

    def state_dict(self) -> dict[str, Any]:
        return {"folder": self.folder}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Where the folder is another one, the other checkpoints' callbacks are told, or they would begin again."""
        new, states = self._place(trainer), checkpoint["callbacks"]
        old = states.get(self.state_key, {}).get("folder")
        if not old or old == new:
            return
        if Path(str(trainer.ckpt_path)).resolve().parent == Path(new).resolve():  # a run that was moved
            checkpoint["callbacks"] = _moved(states, old, new)
        else:  # a plain Trainer begins another folder, and leaves the best checkpoint where it is
            is_beside = {key for key, state in states.items() if state.get("dirpath") == old}
            checkpoint["callbacks"] = states | {key: {**states[key], "dirpath": new} for key in is_beside}

    def _place(self, trainer: L.Trainer) -> str:
        """The folder, once the trainer knows where its checkpoints lie."""
        kept = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
        self.folder = str(self.folder or (kept and kept[0].dirpath) or trainer.default_root_dir)
        return self.folder

    def _save(self, trainer: L.Trainer) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        trainer.save_checkpoint(f"{self.folder}/last.ckpt", weights_only=False)
        self._saved = time.monotonic()

    def _agreed(self, is_due: bool = False) -> int:
        """The strongest wish of all ranks, of one step ago where there are several: each call is made by all."""
        wish = stopping.requested() or (SAVE if is_due else 0)
        return self._ranks.agree(wish) if self._ranks else wish

    def _stop_if(self, wish: int) -> None:
        if wish > SAVE:
            last = f"{self.folder}/last.ckpt"
            how = f"; go on with: trainer.fit(model, datamodule=data, ckpt_path={os.path.relpath(last)!r})"
            raise stopping.Stopped(wish, how, together=True)


def points_of_a_plain_trainer(trainer: L.Trainer) -> list[ResumePoints]:
    """Those that a fit is given which has none: one process that keeps checkpoints, and is stopped by Ctrl-C alone."""
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    has_points = any(isinstance(callback, ResumePoints) for callback in callbacks)
    keeps_checkpoints = any(isinstance(callback, ModelCheckpoint) for callback in callbacks)
    if has_points or not keeps_checkpoints or trainer.world_size > 1:
        return []
    return [ResumePoints(pause=PAUSE, signals=[signal.SIGINT])]


class _Ranks:
    """Finds the largest number that any rank has, while the next step goes on."""

    def __init__(self) -> None:
        # On the CPU, where waiting for an answer does not wait for the GPU's work.
        self.group: Any = torch.distributed.new_group(backend="gloo")
        self.asked: tuple[Any, torch.Tensor] | None = None

    def agree(self, number: int) -> int:
        answer = 0
        if self.asked:
            work, tensor = self.asked
            work.wait()
            answer = int(tensor)
        tensor = torch.tensor([number])
        work = torch.distributed.all_reduce(tensor, torch.distributed.ReduceOp.MAX, group=self.group, async_op=True)
        self.asked = work, tensor
        return answer


def read_checkpoint(file: Path) -> dict[str, Any]:
    """A checkpoint of ours, of which tensors and plain values alone are unpickled; UserError where it is damaged."""
    try:
        with zipfile.ZipFile(file) as archive:  # torch reads whatever the bytes of a tensor have become
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"{damaged} has changed")
        checkpoint = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        checkpoint["resnet_tl"]["network"], checkpoint["callbacks"]
    except Exception as error:
        raise UserError(
            f"{file} cannot be read as a checkpoint ({type(error).__name__}): the run cannot go on; start a new one."
        ) from error
    return checkpoint


def requeue() -> None:
    """Tells SLURM to run this job again; after its warning that the time is nearly up."""
    job = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{job}_{os.environ['SLURM_ARRAY_TASK_ID']}" if job else os.environ["SLURM_JOB_ID"]
    if scontrol := shutil.which("scontrol"):
        subprocess.run([scontrol, "requeue", job], check=False)


def _moved(value: Any, old: str, new: str) -> Any:
    if isinstance(value, str):
        return new + value.removeprefix(old) if value.startswith(old) else value
    if isinstance(value, dict):
        return {_moved(key, old, new): _moved(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_moved(item, old, new) for item in value]
    return value
