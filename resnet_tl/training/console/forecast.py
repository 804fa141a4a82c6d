"""How long a fit would take and how much memory it needs, estimated from a few of its real steps."""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import lightning as L
import torch

from resnet_tl import timing
from resnet_tl.data.loader import ImageLoader
from resnet_tl.errors import UserError
from resnet_tl.finetuning.modes import Schedule
from resnet_tl.terminal import current
from resnet_tl.timing import Part
from resnet_tl.training.classifier import ImageClassifier
from resnet_tl.training.console.time_spent import time_table
from resnet_tl.training.settings import check_length

EPOCHS = 2
"""Of each phase: one to warm up (kernels, worker processes), one to measure."""
SHORT: dict[str, Any] = {
    "limit_train_batches": 8,
    "limit_val_batches": 4,
    "check_val_every_n_epoch": 1,
    "num_sanity_val_steps": 0,
    "overfit_batches": 0.0,
    "max_steps": -1,
    **dict.fromkeys(("min_epochs", "min_steps", "max_time", "val_check_interval", "profiler")),
    **dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False),
}
"""Settings of the trainer that measures."""
ONCE = ("input", "activations")
"""The parts of a pass over images that a fit does once where it keeps what the frozen stages give."""
Seconds: TypeAlias = dict[Part, float]


@dataclass
class Pace:
    """How fast a pass over images is: seconds by part after each batch, of so many images each."""

    marks: list[tuple[int, Seconds]] = field(default_factory=list)

    def mark(self, device: torch.device, images: int = 0) -> None:
        """Notes the time after a batch, or, without images, at the start of the pass."""
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # what was only asked for is not done yet
        self.marks.append((images, defaultdict(float, timing.seconds())))

    def seconds(self, images: int) -> Seconds:
        """Of so many images; the first batch, which has to be waited for longer than the others, does not count."""
        if len(self.marks) < 2:
            return {}
        first = 1 if len(self.marks) > 2 else 0
        (_, start), (_, end) = self.marks[first], self.marks[-1]
        seen = sum(count for count, _ in self.marks[first + 1 :])
        return {part: images / seen * (spent - start[part]) for part, spent in end.items()}


@dataclass
class PhasePace:
    """What is measured of a phase that has so many epochs in the whole fit."""

    start: int  # its first epoch there
    epochs: int  # how many
    training: Pace = field(default_factory=Pace)
    validation: Pace = field(default_factory=Pace)
    # Split -> images, once for each view, of which the frozen stages must still compute what is kept; a split of
    # which nothing is kept is missing
    kept: dict[str, int] = field(default_factory=dict)


class Forecast(L.Callback):
    """Measures a short epoch of each phase of a fit, then estimates the whole; the last of the callbacks.

    Nothing is written but the decoded images and what was found out about them. `settings` are those of the Trainer of
    the whole fit; UserError where they do not say where it ends.
    """

    def __init__(self, phases: int, settings: Mapping[str, Any]) -> None:
        if settings["fast_dev_run"]:
            raise UserError("trainer.fast_dev_run is a trial by itself; leave out that or --forecast.")
        if settings["max_epochs"] in (None, -1) and settings["max_steps"] == -1:
            raise UserError("A fit without an end has no forecast: give trainer.max_epochs or trainer.max_steps.")
        self.settings = settings
        self.trainer_settings = {**SHORT, "max_epochs": EPOCHS * phases}
        self.phases: list[PhasePace] = []
        self.start_up: Seconds = {}
        self.images: dict[str, int] = {}  # split -> how many a pass of this process sees
        self.batches = 0  # of an epoch

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Gives each phase its short epochs."""
        assert isinstance(pl_module, ImageClassifier)
        schedule = pl_module.schedule
        check_length(schedule, self.settings["max_epochs"])
        self.phases = [
            PhasePace(start, phase.epochs or -1)
            for start, phase in zip(schedule.starts(), schedule.phases, strict=True)
        ]
        pl_module.follow(Schedule(tuple(replace(phase, epochs=EPOCHS) for phase in schedule.phases)))

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Counts the images and epochs of the whole fit."""
        assert isinstance(pl_module, ImageClassifier)
        for split in ("train", "val", "test"):
            batches = _loader(pl_module, split).batches(0)
            limit = self.settings[f"limit_{split}_batches"]
            batches = batches[: int(limit * len(batches)) if isinstance(limit, float) else limit]
            self.images[split] = sum(map(len, batches))
            self.batches = self.batches or len(batches)
        steps = math.ceil(self.batches / self.settings["accumulate_grad_batches"])
        limits = (self.settings["max_epochs"] or -1, self.settings["max_steps"] / steps)
        end = min(math.ceil(limit) for limit in limits if limit >= 0)
        for phase in self.phases:
            left = max(0, end - phase.start)
            phase.epochs = left if phase is self.phases[-1] else min(phase.epochs, left)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, ImageClassifier)
        self.start_up = self.start_up or timing.seconds()
        self.phase = self.phases[trainer.current_epoch // EPOCHS]
        self.phase.training, self.phase.validation = Pace(), Pace()  # those of the last epoch remain
        pl_module.data.serve(None)  # the frozen stages compute each batch
        self.phase.training.mark(pl_module.device)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.phase.training.mark(pl_module.device, len(batch["row"]))

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.phase.validation.mark(pl_module.device)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.phase.validation.mark(pl_module.device, len(batch["row"]))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Asks what the frozen stages would keep in this phase of the whole fit."""
        assert isinstance(pl_module, ImageClassifier)
        prefix, phase, data = pl_module.prefix, self.phase, pl_module.data
        if prefix is None or phase.kept:
            return
        prefix.epochs = phase.epochs
        for split in ("train", "val"):
            loader = _loader(pl_module, split)
            views = {0}
            if prefix.is_augmented(loader):
                views = {epoch % data.views if data.views else epoch for epoch in range(phase.epochs)}
            if not prefix.takes_images(loader) and prefix.plan(loader, 0).is_kept:
                phase.kept[split] = sum(len(prefix.missing(loader, view)) for view in views)
        if "train" in phase.kept and "train" in prefix.splits(loader):
            phase.kept["val"] = 0  # they share a table, which is filled once

    def seconds(self) -> Seconds:
        """Of the whole fit by part, without decoding, which is done now, and without what is written to the run."""
        total = defaultdict(float, self.start_up | {"pixels": 0.0})

        def add(pace: Pace, split: str, passes: float, kept: int | None) -> None:
            for part, spent in pace.seconds(self.images[split]).items():
                times = passes if kept is None or part not in ONCE else kept / max(1, self.images[split])
                total[part] += spent * times

        for phase in self.phases:
            passes = self._validations(phase.start + phase.epochs) - self._validations(phase.start)
            add(phase.training, "train", phase.epochs, phase.kept.get("train"))
            add(phase.validation, "val", passes, phase.kept.get("val"))
        for split in ("val", "test"):  # of the best weights, in the end
            add(self.phases[-1].validation, split, 1, 0 if "val" in self.phases[-1].kept else None)
        return dict(total)

    def _validations(self, epochs: int) -> float:
        """How often the first epochs validate."""
        interval = self.settings["val_check_interval"] or 1.0
        in_each = 1 / interval if isinstance(interval, float) else max(1, self.batches // interval)
        return epochs // (self.settings["check_val_every_n_epoch"] or 1) * in_each


def _loader(model: ImageClassifier, split: str) -> ImageLoader:
    return model.data.train_dataloader() if split == "train" else model.data.loader(split)


def print_forecast(forecast: Forecast, solves_head: bool = False) -> None:
    """Prints the time of the whole fit by part, and the memory at its peak so far.

    `solves_head`: the epoch that was measured stands for the features of all images, of which the head is solved.
    """
    console = current()
    seconds = forecast.seconds()
    epochs, total = sum(phase.epochs for phase in forecast.phases), sum(seconds.values())
    duration = next(
        (f"{total / size:.1f} {unit}" for size, unit in ((3600, "hours"), (60, "minutes")) if total >= 2 * size),
        f"{total:.0f} seconds",
    )
    console.print(f"Forecast: this fit would take about {duration}, an estimate from a few steps.")
    console.print(time_table(seconds))
    counted = "the frozen stages for all images, but neither the seconds of solving the head nor"
    counted = counted if solves_head else f"all {epochs} epochs, but not"
    console.print(f"It counts {counted} what is written to the run (checkpoints, tables, figures).")
    if (decoding := forecast.start_up.get("pixels", 0.0)) >= 0.1:
        console.print(
            f"Images were read and decoded for {decoding:.1f} s; that is kept, and the fit will not do it again."
        )
    console.print(f"Memory at its peak: {', '.join(_memory())}.")


def _memory() -> list[str]:
    """Of this process and, where there is one, of its GPU."""
    found = []
    if sys.platform != "win32":
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        found.append(f"{peak / 1e9:.2f} GB of this process")
    if torch.cuda.is_available():
        found.append(f"{torch.cuda.max_memory_allocated() / 1e9:.2f} GB of the GPU")
    return found or ["not known on this system"]
