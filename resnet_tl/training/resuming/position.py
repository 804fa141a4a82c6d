"""Where a fit stands between two steps, written into a checkpoint so that Lightning goes on exactly there.

Lightning's own counters say which hooks have run, and a fit that is resumed by them leaves some out: the start of an
epoch that it resumes within, a validation that had not begun, the step of ReduceLROnPlateau. Here they are set as if
the epoch began again with some of its batches already done, and all hooks run. Lightning has no public way to read or
set them; written for its loops of version 2.6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightning as L


@dataclass(frozen=True)
class Position:
    """Between two steps of a fit."""

    epoch: int  # counts from 0
    batch: int = 0  # how many batches of it are done, each followed by a step of the optimizer or a part of one
    validates: bool = False  # whether what follows them comes next: a validation, or the end of the epoch
    ends: bool = False  # whether nothing is left to train, since epochs or patience are at their end

    @classmethod
    def of(cls, trainer: L.Trainer, validated: Position | None = None) -> Position:
        """Where a fit stands, in whatever hook this is asked; `validated` is where its latest validation began.

        While gradients are accumulated it is the last step of the optimizer. What comes between the start of a
        validation and that of the next epoch counts as before the validation, which can be repeated.
        """
        loop, fetcher = trainer.fit_loop, trainer.fit_loop._data_fetcher
        epochs: Any = loop.epoch_progress.current
        batches: Any = loop.epoch_loop.batch_progress.current
        epoch = epochs.completed
        if epochs.started == epoch:  # before an epoch, or after the last one
            return cls(epoch, ends=epochs.ready == epoch and _is_over(trainer))
        if epochs.processed > epoch:  # at its end
            ended = cls(epoch, batches.ready, validates=True)
            return ended if ended == validated else cls(epoch + 1)
        if trainer.validating:
            return cls(epoch, batches.ready, validates=True)
        done = batches.processed
        if not done:
            return cls(epoch)
        is_last = done == trainer.num_training_batches
        if is_last or (fetcher and done == batches.ready and loop.epoch_loop._should_check_val_fx(fetcher)):
            return cls(epoch, done, validates=True)
        return cls(epoch, done - done % trainer.accumulate_grad_batches)

    def write(self, fit_loop: dict[str, Any]) -> None:
        """Sets the counters of a checkpoint, `checkpoint["loops"]["fit_loop"]`."""
        epochs, batches = fit_loop["epoch_progress"]["current"], fit_loop["epoch_loop.batch_progress"]
        current, begun = batches["current"], batches["total"]["ready"]
        is_within = epochs["started"] > epochs["completed"] == self.epoch
        total = begun - current["ready"] + self.batch if is_within else begun
        # Lightning counts a batch as a step after the hooks at its end, and raises the count again when it resumes.
        is_counted = current["processed"] < current["ready"] or epochs["processed"] > epochs["completed"]
        if is_within and self.batch and is_counted:
            fit_loop["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1
        _set(fit_loop["epoch_progress"], self.epoch)
        for counts in fit_loop["epoch_progress"].values():
            counts["ready"] += 1
        _set(batches, total, self.batch)
        if self.batch and not self.validates:
            # As Lightning has it when a batch is at its end: of it only the count of steps is still to be raised.
            for counts in batches["total"], batches["current"]:
                counts["completed"] -= 1
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
        if self.validates:  # again, under a Trainer that has fitted before too, and what is better is saved again
            loop.epoch_loop.val_loop._has_run = False
            for callback in trainer.checkpoint_callbacks:
                callback._last_global_step_saved = 0  # type: ignore[attr-defined]


def is_between_steps(trainer: L.Trainer) -> bool:
    """Within `on_train_batch_start`: whether batches of this epoch are done and no gradient is held."""
    done = trainer.fit_loop.epoch_loop.batch_progress.current.ready - 1
    return done > 0 and done % trainer.accumulate_grad_batches == 0


def _is_over(trainer: L.Trainer) -> bool:
    """As the loop's own `done`, which would print the reason once more."""
    loop: Any = trainer.fit_loop
    steps, epochs = loop.epoch_loop.global_step, loop.epoch_progress.current.processed
    is_last = 0 <= loop.max_steps <= steps or 0 <= loop.max_epochs <= epochs
    return is_last or (trainer.should_stop and loop._can_stop_early)


def _set(progress: dict[str, Any], total: int, current: int | None = None) -> None:
    """So many events were readied, started, processed and completed."""
    for counts, number in ((progress["total"], total), (progress["current"], total if current is None else current)):
        counts.update(ready=number, started=number, processed=number, completed=number)
