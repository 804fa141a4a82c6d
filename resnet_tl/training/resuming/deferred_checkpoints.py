"""Writes checkpoints whole or not at all, and at most every few seconds: short epochs do not wait for the disk."""

from __future__ import annotations

import time
from copy import deepcopy
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from resnet_tl.errors import UserError
from resnet_tl.files import replacing
from resnet_tl.timing import measure

SECONDS = 10.0  # between two writes; a process that is killed loses no more than that and the epoch that it was in


class DeferredCheckpointIO(TorchCheckpointIO):
    """Keeps the newest checkpoint of each path in memory until it is due, and writes all that wait together.

    Together, since one checkpoint speaks of another: the state of the best one's callback, which the last one holds
    too, is true only if the best one is on disk. They are written in the order in which they were made, each of them
    whole or not at all. The first of each path is written at once, and what still waits is written when a fit ends,
    also by an error or Ctrl-C; but none after one that cannot be written. When the epochs are long, nothing is copied.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        super().__init__()
        self.seconds = seconds
        self._written: dict[str, float] = {}  # path -> when
        self._waiting: dict[str, dict[str, Any]] = {}  # path -> checkpoint

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        with measure("files"):
            name = str(path)
            self._waiting.pop(name, None)  # to the end of the line
            if time.monotonic() - self._written.get(name, float("-inf")) >= self.seconds:
                self._waiting[name] = checkpoint
                self._write()
            else:
                # Training goes on in the tensors that a checkpoint refers to; a GPU has no memory for copies.
                on_cpu = apply_to_collection(checkpoint, Tensor, lambda tensor: tensor.detach().cpu())
                self._waiting[name] = deepcopy(on_cpu)

    def load_checkpoint(self, path: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
        self._write()
        return super().load_checkpoint(path, *arguments, **options)

    def remove_checkpoint(self, path: Any) -> None:
        self._waiting.pop(str(path), None)
        super().remove_checkpoint(path)

    def teardown(self) -> None:
        with measure("files"):
            self._write()

    def _write(self) -> None:
        while self._waiting:
            name = next(iter(self._waiting))
            checkpoint = self._waiting.pop(name)
            try:
                _write(checkpoint, name)
            except BaseException:
                self._waiting.clear()  # they speak of this one
                raise
            self._written[name] = time.monotonic()


def _write(checkpoint: dict[str, Any], path: str) -> None:
    try:
        with replacing(path) as temporary:
            torch.save(checkpoint, temporary)
    except (UserError, OSError, RuntimeError) as caught:  # torch reports a full disk as the last of them
        error = caught.__cause__ if isinstance(caught, UserError) else caught
        if isinstance(error, RuntimeError) and "inline_container" not in str(error):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "is the disk full?"
        raise UserError(
            f"The checkpoint {path} cannot be written ({reason}); the one before is as it was: make room, and go on "
            f"with resnet-tl fit --resume {quote(str(Path(path).parent.parent))}."
        ) from error
