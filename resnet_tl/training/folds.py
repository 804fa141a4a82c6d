"""The run of folds: a directory that holds one run for each fold, and what they say together."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
from filelock import FileLock

from resnet_tl import failures, timing
from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.errors import UserError
from resnet_tl.evaluation.accuracy import Accuracy
from resnet_tl.evaluation.figures import confusion_matrix, learning_curves
from resnet_tl.evaluation.folds import averaged, intervals, out_of_fold, spread
from resnet_tl.evaluation.metrics import compute_metrics
from resnet_tl.evaluation.predictions import write_predictions
from resnet_tl.evaluation.uncertainty.calibration import calibrate
from resnet_tl.files import replacing, write_text
from resnet_tl.run import Run, check_root
from resnet_tl.timing import NAMES
from resnet_tl.training.fit import report
from resnet_tl.training.recorder import make_run, write_data_facts, write_environment


class FoldsRecorder:
    """Makes the directory of a run of folds, says which fold is next, and writes what all of them have found.

    Every fold is a fit of its own. All of them follow the resolved recipe that the first one writes, whatever is
    interrupted, so that what `auto` became is the same in each.

    Args:
        name: the first part of the run's name, such as the recipe's.
        folder: the run's own folder; default: `runs/NAME-1`, or the next free number.
        folds: how many.
        recipes: the files that the run was begun with.
        resumes: the interrupted run that goes on, in place of a new one.
    """

    def __init__(
        self, name: str, folder: str | None, folds: int, recipes: Sequence[Path] = (), resumes: Run | None = None
    ) -> None:
        self.name = name
        self.folder = folder
        self.folds = folds
        self.recipes = recipes
        self.run = Run(resumes.path.resolve()) if resumes else None
        self._lock: FileLock | None = None
        check_root(self.run.path if self.run else Path(folder).parent if folder else "runs")

    @property
    def next(self) -> int | None:
        """The fold, from 1, that is to be trained or to go on; None when all of them are complete."""
        if self.run is None:
            return 1
        numbers = range(1, self.folds + 1)
        return next((number for number in numbers if not self.run.fold(number).is_complete), None)

    def setup(self, trainer: L.Trainer) -> Run:
        """The run of the next fold; rank 0 makes the folders, and keeps other commands from the run."""
        begun = self.run is not None
        if self.run is None:
            self.run = make_run(trainer, self.folder, self.name)
        fold = self.run.fold(self.next or self.folds)
        if trainer.is_global_zero:
            self.lock()
            fold.path.mkdir(parents=True, exist_ok=True)
        known = self.run.environment if begun and self.run.environment_file.is_file() else {}
        if (processes := known.get("processes", trainer.world_size)) != trainer.world_size:
            raise UserError(
                f"{self.run.path} was begun with --trainer.devices {processes}; with {trainer.world_size} its other "
                "folds would learn in other batches: give the same."
            )
        return fold

    def lock(self) -> None:
        """Keeps other commands from the run until `release`."""
        if self._lock is None and self.run:
            self._lock = self.run.lock()

    def begin(self, trainer: L.Trainer, data: ImageDataModule, recipe: str) -> str:
        """The recipe of the next fold; the first one's, resolved, becomes that of the whole run."""
        assert self.run is not None
        if not self.run.recipe_file.is_file():
            write_environment(self.run, trainer, self.recipes, {})
            splits = data.index.table["split"].mask(lambda split: split != "test", "val")
            write_data_facts(self.run, data, replace(data.index, table=data.index.table.assign(split=splits)))
            write_text(self.run.recipe_file, re.sub(r"^  fold: \d+$", "  fold: null", recipe, flags=re.MULTILINE))
        text = self.run.recipe_file.read_text(encoding="utf-8")
        return re.sub(r"^  fold: null$", f"  fold: {self.next}", text, flags=re.MULTILINE)

    def leave(self) -> None:
        """A fit that could not begin leaves no folder behind."""
        self.release()
        with suppress(OSError):  # there is something in it
            for folder in (self.run.path / "folds", self.run.path) if self.run else ():
                folder.rmdir()

    def release(self) -> None:
        """Another process may go on with the run."""
        if self._lock is not None and self.run:
            with suppress(OSError):  # as on Windows, which removes no open file
                Path(self._lock.lock_file).unlink()
            self._lock.release()
            self._lock = None

    def finish(self) -> Run:
        """Writes what the folds say together, on the first process; the summary comes last."""
        assert self.run is not None
        if failures.rank == 0:
            self.lock()
            try:
                timing.phase("files")
                _write(self.run)
            finally:
                self.release()
        return Run(self.run.path)


def _write(run: Run) -> None:
    folds = run.folds
    summaries = [fold.summary for fold in folds]
    tables = {"val": out_of_fold([fold.predictions("val") for fold in folds])}
    if "test" in summaries[0]["metrics"]:
        tables["test"] = averaged([fold.predictions("test") for fold in folds])
    for split, table in tables.items():
        write_predictions(table, run.predictions_file(split))
        confusion_matrix(table, run.figure(f"confusion_{split}"))
    best = [summary["best_epoch"] for summary in summaries]
    best_epoch = statistics.median_low(best) if None not in best else None
    _write_history(run, best_epoch)
    metrics = {split: compute_metrics(table) for split, table in tables.items()}
    summary: dict[str, Any] = {
        "best_epoch": best_epoch,  # the middle one of the folds', of two the earlier: what `fit --final` repeats
        "monitor": summaries[0]["monitor"],
        "monitor_mode": summaries[0]["monitor_mode"],
        "metrics": {
            split: {name: value for name, value in numbers.items() if math.isfinite(value)}
            for split, numbers in metrics.items()
        },
        "accuracy": {split: Accuracy.of(table).facts() for split, table in tables.items()},
        "calibration": calibrate(tables["val"]),  # that of a final run; each fold's model has its own
        "intervals": {split: intervals(table) for split, table in tables.items()},
        "spread": {split: spread([summary["metrics"][split] for summary in summaries]) for split in tables},
        "folds": [
            {name: summary[name] for name in ("best_epoch", "metrics", "bundle_digest")} for summary in summaries
        ],
        "network": summaries[0]["network"],  # of each fold
    }
    _write_time_spent(run)
    write_text(run.path / "summary.json", json.dumps(summary, indent=2) + "\n")
    report(run)
    _write_time_spent(run)  # of the page as well


def _write_history(run: Run, best_epoch: int | None) -> None:
    """For each epoch the means over the folds that came to it, but the seconds of all."""
    epochs = pd.concat([fold.history for fold in run.folds]).groupby("epoch", sort=True)
    columns = run.folds[0].history.columns.drop("epoch")
    how = {name: {"phase": "first", "seconds": "sum"}.get(name, "mean") for name in columns}
    history = epochs.agg(how).reset_index()
    with replacing(run.metrics_file) as file:
        history.to_csv(file, index=False)
    learning_curves(history, run.figure("learning_curves"), best_epoch)


def _write_time_spent(run: Run) -> None:
    """The time of all folds, and since the last one; the speed is that of one model."""
    environments = [fold.environment for fold in run.folds]
    seconds: dict[str, float] = {}
    for spent in (*(found["seconds"] for found in environments), timing.seconds()):
        for part in spent:
            seconds[part] = round(seconds.get(part, 0.0) + spent[part], 2)
    largest: Any = max(seconds, key=seconds.__getitem__)
    facts = run.environment | {
        "prediction_images_per_second": statistics.fmean(
            found["prediction_images_per_second"] for found in environments
        ),
        "seconds": seconds,
        "advice": f"Most of the time: {NAMES[largest]}.",
    }
    write_text(run.environment_file, json.dumps(facts, indent=2) + "\n")
