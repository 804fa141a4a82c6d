"""How long a fit would take and how much memory it needs, estimated from a few of its real steps."""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import lightning as L
import numpy as np
import torch
from rich.console import Console

from resnet_tl import timing
from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.data.loader import ImageLoader
from resnet_tl.errors import UserError
from resnet_tl.finetuning.modes import Schedule
from resnet_tl.finetuning.prefix import FrozenPrefix
from resnet_tl.timing import Part
from resnet_tl.training.classifier import ImageClassifier
from resnet_tl.training.console.time_spent import time_table
from resnet_tl.training.settings import check_length

STEPS, VALIDATION_STEPS = 8, 4
"""Batches of a measured epoch and of its validation."""
EPOCHS = 2
"""Of each phase: one to warm up (kernels, worker processes), one to measure."""
Seconds: TypeAlias = dict[Part, float]


@dataclass
class Pace:
    """How one pass over images goes: seconds so far by part, before the first batch, after each one, and at the end."""

    marks: list[tuple[int, Seconds]] = field(default_factory=list)

    def mark(self, device: torch.device, images: int = 0) -> None:
        """Notes the time: after a batch of so many images; 0 at the start and the end of the pass."""
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # what was only asked for is not done yet
        self.marks.append((images, defaultdict(float, timing.seconds())))

    def seconds(self, images: int) -> Seconds:
        """Of a pass over so many images: what comes once in a pass, and what each image adds."""
        batches = [number for number, (size, _) in enumerate(self.marks) if size]
        if not batches:
            return {}
        # The first batch has to be waited for longer than the others.
        first = batches[0] if len(batches) > 1 else 0
        seen = sum(size for size, _ in self.marks)
        steady = seen - self.marks[first][0]
        start, after_first, after_last, end = (self.marks[number][1] for number in (0, first, batches[-1], -1))
        return {
            part: max(0.0, end[part] - start[part] + (images - seen) / steady * (after_last[part] - after_first[part]))
            for part in end
        }


@dataclass
class PhasePace:
    """What is measured of a phase of the schedule.

    Args:
        start: its first epoch in the whole fit.
        epochs: how many it has there.
        missing: whether images are augmented -> how many of them, once for each view, the frozen stages must still
            compute; nothing where they compute all of them in each pass.
    """

    start: int
    epochs: int
    training: Pace = field(default_factory=Pace)
    validation: Pace = field(default_factory=Pace)
    missing: dict[bool, int] = field(default_factory=dict)


class Forecast(L.Callback):
    """Measures a short epoch of each phase of a fit, then reckons up the whole; the last of the callbacks.

    Nothing is written but the decoded images and what was found out about them. The frozen stages compute each batch;
    where the fit would keep what they give, their time counts once for each image and view.

    Args:
        phases: how many the schedule has.
        settings: of the trainer of the whole fit, by name.

    Raises:
        UserError: the settings do not say where the fit ends.
    """

    def __init__(self, phases: int, settings: Mapping[str, Any]) -> None:
        if settings["fast_dev_run"]:
            raise UserError("trainer.fast_dev_run is a trial by itself; leave out that or --forecast.")
        if settings["max_epochs"] in (None, -1) and settings["max_steps"] == -1:
            raise UserError("A fit without an end has no forecast: give trainer.max_epochs or trainer.max_steps.")
        self.settings = settings
        self.trainer_settings: dict[str, Any] = {
            "max_epochs": EPOCHS * phases,
            "limit_train_batches": STEPS,
            "limit_val_batches": VALIDATION_STEPS,
            "min_epochs": None,
            "min_steps": None,
            "max_steps": -1,
            "max_time": None,
            "check_val_every_n_epoch": 1,
            "val_check_interval": None,
            "overfit_batches": 0.0,
            "num_sanity_val_steps": 0,
            "logger": False,
            "profiler": None,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
        }
        self.starts: list[int] = []
        self.phases: list[PhasePace] = []
        self.start_up: Seconds = {}
        self.images: dict[str, int] = {}  # split -> how many a pass of this process sees

    # What is measured.

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Gives each phase its short epochs."""
        assert isinstance(pl_module, ImageClassifier)
        check_length(pl_module.schedule, self.settings["max_epochs"])
        self.starts = pl_module.schedule.starts()
        pl_module.schedule = Schedule(tuple(replace(phase, epochs=EPOCHS) for phase in pl_module.schedule.phases))
        pl_module.freezing.schedule = pl_module.schedule

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Counts the images and epochs of the whole fit."""
        assert isinstance(pl_module, ImageClassifier)
        data = pl_module.data
        loaders: dict[str, ImageLoader] = {"train": data.train_dataloader()}
        loaders |= {split: data.loader(split) for split in ("val", "test")}
        batches = {
            split: _limited(loader, self.settings[f"limit_{split}_batches"]) for split, loader in loaders.items()
        }
        self.images = {split: sum(map(len, rows)) for split, rows in batches.items()}
        self.steps = math.ceil(len(batches["train"]) / self.settings["accumulate_grad_batches"])
        self.batches = len(batches["train"])
        ends = [self.settings["max_epochs"] or -1, math.ceil(self.settings["max_steps"] / self.steps)]
        epochs = min(end for end in ends if end >= 0)
        ends = [min(end, epochs) for end in (*self.starts[1:], epochs)]
        self.phases = [PhasePace(start, max(0, end - start)) for start, end in zip(self.starts, ends, strict=True)]

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, ImageClassifier)
        self.start_up = self.start_up or timing.seconds()
        self.phase = self.phases[trainer.current_epoch // EPOCHS]
        self.phase.training, self.phase.validation = Pace(), Pace()  # those of the last epoch remain
        pl_module.data.serve(None)
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
        assert isinstance(pl_module, ImageClassifier)
        self.phase.validation.mark(pl_module.device)
        if pl_module.prefix and not self.phase.missing:
            self._plan(pl_module.prefix, pl_module.data)

    def _plan(self, prefix: FrozenPrefix, data: ImageDataModule) -> None:
        """What the frozen stages would compute once in this phase of the whole fit."""
        phase = self.phase
        prefix.epochs = phase.epochs
        epochs = range(phase.start, phase.start + phase.epochs)
        for loader in (data.train_dataloader(), data.loader("val")):
            is_augmented = prefix.is_augmented(loader)
            if not prefix.takes_images(loader) and prefix.plan(loader, 0).is_kept:
                views = {epoch % data.views if data.views else epoch for epoch in epochs} if is_augmented else {0}
                phase.missing[is_augmented] = sum(len(prefix.missing(loader, view)) for view in views)

    # What follows from it.

    def seconds(self) -> Seconds:
        """Of the whole fit by part, without decoding, which is done now, and without what is written to the run."""
        total = defaultdict(float, self.start_up | {"pixels": 0.0})
        for phase in self.phases:
            passes = self._validations(phase.start + phase.epochs) - self._validations(phase.start)
            augments = True in phase.missing or False not in phase.missing
            self._add(total, phase.training, self.images["train"], phase.epochs, phase.missing.get(augments))
            missing = phase.missing.get(False)
            # Where training images are not augmented, one table serves both, and is filled once.
            self._add(total, phase.validation, self.images["val"], passes, 0 if missing and not augments else missing)
        for split in ("val", "test"):  # of the best weights, in the end
            if self.images[split]:
                last = self.phases[-1]
                self._add(total, last.validation, self.images[split], 1, 0 if False in last.missing else None)
        return dict(total)

    def _add(self, total: Seconds, pace: Pace, images: int, passes: float, missing: int | None) -> None:
        """Some passes over so many images; what `missing` images take to load and compute once, where it is kept."""
        for part, spent in pace.seconds(images).items():
            is_once = missing is not None and part in ("input", "activations")
            total[part] += spent * (missing or 0) / max(1, images) if is_once else spent * passes

    def _validations(self, epochs: int) -> float:
        """How often the first epochs validate."""
        interval = self.settings["val_check_interval"] or 1.0
        in_each = 1 / interval if isinstance(interval, float) else max(1, self.batches // interval)
        return epochs // (self.settings["check_val_every_n_epoch"] or 1) * in_each


def _limited(loader: ImageLoader, limit: float | None) -> list[np.ndarray]:
    """The batches of an epoch as Lightning's `limit_train_batches` leaves them: so many, or such a share."""
    batches = loader.batches(0)
    return batches[: int(limit * len(batches)) if isinstance(limit, float) else limit]


def print_forecast(forecast: Forecast, console: Console | None = None) -> None:
    """Prints the time of the whole fit by part, and the memory at its peak so far."""
    console = console or Console(width=None if sys.stdout.isatty() else 200)

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    seconds = forecast.seconds()
    epochs = sum(phase.epochs for phase in forecast.phases)
    say(f"Forecast: this fit would take about {_duration(sum(seconds.values()))}, an estimate from a few steps.")
    console.print(time_table(seconds))
    say(f"It counts all {epochs} epochs, but not what is written to the run (checkpoints, tables, figures).")
    if (decoding := forecast.start_up.get("pixels", 0.0)) >= 0.1:
        say(f"Images were read and decoded for {decoding:.1f} s; that is kept, and the fit will not do it again.")
    say(f"Memory at its peak: {', '.join(_memory())}.")


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


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
