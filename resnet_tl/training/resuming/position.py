"""Where a fit stands between two steps, written into a checkpoint so that Lightning goes on exactly there.

Lightning's own counters say which hooks have run, and a fit that is resumed by them leaves some out: the start of an
epoch that it resumes within, a validation that had not begun, the step of ReduceLROnPlateau. Here they are set as if
the epoch began anew with some of its batches already done, and all hooks run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightning as L


@dataclass(frozen=True)
class Position:
    """Between two steps of a fit.

    Args:
        epoch: counts from 0.
        batch: how many batches of it are done, each followed by a step of the optimizer or a part of one.
        validates: whether the validation that follows them comes next.
        ends: whether nothing is left to train, since epochs or patience are at their end.
    """

    epoch: int
    batch: int = 0
    validates: bool = False
    ends: bool = False

    @classmethod
    def before_batch(cls, trainer: L.Trainer) -> Position | None:
        """Within `on_train_batch_start`; None at the start of an epoch, and while gradients are held."""
        done = trainer.fit_loop.epoch_loop.batch_progress.current.ready - 1
        return cls(trainer.current_epoch, done) if done and done % trainer.accumulate_grad_batches == 0 else None

    @classmethod
    def before_validation(cls, trainer: L.Trainer) -> Position:
        """Within `on_validation_start`."""
        return cls(trainer.current_epoch, trainer.fit_loop.epoch_loop.batch_progress.current.ready, validates=True)

    def write(self, fit_loop: dict[str, Any]) -> None:
        """Sets the counters of a checkpoint, `checkpoint["loops"]["fit_loop"]`."""
        _set(fit_loop["epoch_progress"], self.epoch)
        for counts in fit_loop["epoch_progress"].values():
            counts["ready"] += 1
        batches = fit_loop["epoch_loop.batch_progress"]
        begun = batches["total"]["ready"]
        if self.batch and not self.validates:
            # As Lightning has it when a batch is at its end: of it only the count of steps is still to be raised.
            _set(batches, begun - 1, self.batch)
            for counts in batches["total"], batches["current"]:
                counts["completed"] -= 1
            fit_loop["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1
        else:
            _set(batches, begun, self.batch)
        batches["is_last_batch"] = batches["is_last_batch"] and self.validates
        validation = fit_loop["epoch_loop.val_loop.batch_progress"]
        _set(validation, 0)
        if self.validates:  # as if its first batch had begun
            validation["total"].update(ready=1, started=1)

    def begin(self, trainer: L.Trainer) -> None:
        """Within `on_train_epoch_start` of the epoch that is resumed: what the counters cannot tell."""
        loop = trainer.fit_loop
        loop._restarting = False  # of this loop alone; while it is set, no plateau is looked for
        if not self.batch:
            loop.epoch_loop.restarting = False


def _set(progress: dict[str, Any], total: int, current: int | None = None) -> None:
    """So many events were readied, started, processed and completed."""
    for counts, number in ((progress["total"], total), (progress["current"], total if current is None else current)):
        counts.update(ready=number, started=number, processed=number, completed=number)
