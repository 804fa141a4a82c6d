"""A callback that breaks one process at a given moment."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any, Literal

import lightning as L

from resnet_tl.errors import UserError
from resnet_tl.networks.frozen import FrozenStages

Moment = Literal["setup", "filling", "training", "validation", "evaluation", "testing"]
Kind = Literal["error", "user", "memory", "kill", "stop"]


class Fault(L.Callback):
    """Breaks process `rank` by an exception, an error of the user, `kill -9` or SIGTERM.

    Args:
        rank: is broken.
        moment: when.
        kind: how.
        asleep: whether the others never come back from that moment, and so do not notice.
    """

    def __init__(self, rank: int, moment: Moment, kind: Kind, asleep: bool = False) -> None:
        self.rank = rank
        self.moment = moment
        self.kind = kind
        self.asleep = asleep

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.happens(trainer, "setup")
        if self.moment == "filling":
            compute = FrozenStages.__call__

            def breaks(stages: FrozenStages, x: Any) -> Any:
                if len(x) > 2:  # not where one image is looked at
                    self.happens(trainer, "filling")
                return compute(stages, x)

            FrozenStages.__call__ = breaks  # type: ignore[method-assign]

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 3:
            self.happens(trainer, "training")

    def on_validation_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        self.happens(trainer, "validation")

    def on_validation_epoch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.state.fn == "validate":
            self.happens(trainer, "evaluation")

    def on_test_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        self.happens(trainer, "testing")

    def happens(self, trainer: L.Trainer, moment: Moment) -> None:
        if moment != self.moment:
            return
        if trainer.global_rank != self.rank:
            time.sleep(1000 if self.asleep else 0)
            return
        Path("broken_at").write_text(str(time.time()))
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "stop":
            os.kill(os.getpid(), signal.SIGTERM)
            return
        raise {"error": ValueError, "user": UserError, "memory": MemoryError}[self.kind]("a cosmic ray came by")
