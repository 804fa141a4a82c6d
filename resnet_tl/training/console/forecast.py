"""How long a fit would take and how much memory it needs, told from a few of its real steps."""

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
from resnet_tl.data.loader import ImageLoader, RowTable
from resnet_tl.errors import UserError
from resnet_tl.finetuning.activation_cache import ActivationTable
from resnet_tl.finetuning.modes import Schedule
from resnet_tl.finetuning.prefix import FILLED_AT_ONCE
from resnet_tl.timing import Part
from resnet_tl.training.classifier import ImageClassifier
from resnet_tl.training.console.time_spent import time_table
from resnet_tl.training.settings import check_length

STEPS, VALIDATION_STEPS, PREFIX_STEPS = 8, 4, 3
"""Batches of a measured epoch, of its validation, and of the frozen stages where their outputs would be kept."""
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
    """What is measured of a phase of the schedule."""

    epochs: int
    training: Pace = field(default_factory=Pace)
    validation: Pace = field(default_factory=Pace)
    tables: dict[bool, RowTable | None] = field(default_factory=dict)  # by whether the images are augmented
    missing: int = 0  # images, once for each view, whose activations would be kept and are not yet
    filling: float = 0.0  # seconds to compute them


class FewActivations:
    """Stands for a table of activations that a forecast does not compute: those of a few images, again and again."""

    def __init__(self, table: ActivationTable) -> None:
        self.table = table

    def __getitem__(self, rows: np.ndarray) -> Any:
        return self.table[rows % len(self.table.rows)]


class Forecast(L.Callback):
    """Measures a short epoch of each phase of a fit, then reckons up the whole; the last of the callbacks.

    Nothing is written but the decoded images and what was found out about them.

    Args:
        phases: how many the schedule has.
        settings: of the trainer of the whole fit, by name.

    Raises:
        UserError: the settings do not tell where the fit ends.
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
        self.batches: dict[str, list[np.ndarray]] = {}  # split -> those of this process, as rows

    # What is measured.

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Gives each phase its short epochs."""
        assert isinstance(pl_module, ImageClassifier)
        check_length(pl_module.schedule, self.settings["max_epochs"])
        self.starts = pl_module.schedule.starts()
        pl_module.schedule = Schedule(tuple(replace(phase, epochs=EPOCHS) for phase in pl_module.schedule.phases))

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Counts the batches and epochs of the whole fit."""
        assert isinstance(pl_module, ImageClassifier)
        self.model, self.data = pl_module, trainer.datamodule  # type: ignore[attr-defined]
        loaders: dict[str, ImageLoader] = {"train": trainer.train_dataloader}  # type: ignore[dict-item]
        loaders |= {split: self.data.loader(split) for split in ("val", "test")}
        self.batches = {
            split: _limited(loader.batches(0), self.settings[f"limit_{split}_batches"])
            for split, loader in loaders.items()
        }
        epochs = self.settings["max_epochs"] or -1
        if self.settings["max_steps"] >= 0:
            steps = math.ceil(len(self.batches["train"]) / self.settings["accumulate_grad_batches"])
            by_steps = math.ceil(self.settings["max_steps"] / steps)
            epochs = by_steps if epochs < 0 else min(epochs, by_steps)
        ends = [min(end, epochs) for end in (*self.starts[1:], epochs)]
        self.phases = [PhasePace(max(0, end - start)) for start, end in zip(self.starts, ends, strict=True)]

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.start_up = self.start_up or timing.seconds()
        self.data.serve(self._table)
        self.phase = self.phases[trainer.current_epoch // EPOCHS]
        self.phase.training, self.phase.validation = Pace(), Pace()  # those of the last epoch remain
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
        self.phase.validation.mark(pl_module.device)

    def _table(self, loader: ImageLoader, view: int) -> RowTable | None:
        """What a loader takes its batches from; settled while a phase warms up, by the plan of the whole fit."""
        prefix, phase = self.model.prefix, self.phase
        if prefix is None or prefix.takes_images(loader):
            return None
        is_augmented = prefix.is_augmented(loader)
        if is_augmented not in phase.tables:
            phase.tables[is_augmented] = None
            prefix.epochs = phase.epochs
            if prefix.plan(loader, view).is_kept:
                start = self.starts[self.phases.index(phase)]
                epochs = range(start, start + phase.epochs)
                views = {epoch % self.data.views if self.data.views else epoch for epoch in epochs}
                missing = [prefix.missing(loader, one) for one in (views if is_augmented else (view,))]
                if any(len(rows) for rows in missing):
                    phase.tables[is_augmented] = self._few_activations(loader, np.concatenate(missing), view)
                else:
                    phase.tables[is_augmented] = prefix.table(loader, view)
        return phase.tables[is_augmented]

    def _few_activations(self, loader: ImageLoader, rows: np.ndarray, view: int) -> FewActivations:
        """Of the first of some rows; the time to load and compute them all is added to that of the phase."""
        prefix, pace, tables = self.model.prefix, Pace(), []
        assert prefix is not None
        pace.mark(self.model.device)
        for part, activation in prefix.compute(loader, view)(rows[: PREFIX_STEPS * FILLED_AT_ONCE]):
            pace.mark(self.model.device, len(part))
            tables.append(ActivationTable.of(np.arange(len(part)), activation))
        self.phase.missing += len(rows)
        self.phase.filling += sum(pace.seconds(len(rows) // prefix.trainer.world_size).values())
        return FewActivations(tables[-1])

    # What follows from it.

    def seconds(self) -> Seconds:
        """Of the whole fit by part, without decoding, which is done now, and without what is written to the run."""
        total = defaultdict(float, self.start_up | {"pixels": 0.0})
        for start, phase in zip(self.starts, self.phases, strict=True):
            total["activations"] += phase.filling
            passes = self._validations(start + phase.epochs) - self._validations(start)
            _add(total, phase.training.seconds(_count(self.batches["train"])), phase.epochs)
            _add(total, phase.validation.seconds(_count(self.batches["val"])), passes)
        for split in ("val", "test"):  # of the best weights, in the end
            if self.batches[split]:
                _add(total, self.phases[-1].validation.seconds(_count(self.batches[split])))
        return dict(total)

    def _validations(self, epochs: int) -> float:
        """How often the first epochs validate."""
        interval = self.settings["val_check_interval"] or 1.0
        in_each = 1 / interval if isinstance(interval, float) else max(1, len(self.batches["train"]) // interval)
        return epochs // (self.settings["check_val_every_n_epoch"] or 1) * in_each


def _limited(batches: list[np.ndarray], limit: float | None) -> list[np.ndarray]:
    """As Lightning's `limit_train_batches` does: so many, or such a share."""
    return batches[: int(limit * len(batches)) if isinstance(limit, float) else limit]


def _count(batches: list[np.ndarray]) -> int:
    return sum(map(len, batches))


def _add(total: Seconds, seconds: Seconds, times: float = 1.0) -> None:
    for part, spent in seconds.items():
        total[part] += spent * times


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
