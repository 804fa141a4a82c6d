"""The run directory: everything that one `fit` made, in one folder."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from resnet_tl.bundle_zip import is_bundle_zip
from resnet_tl.errors import UserError, nearest
from resnet_tl.files import file_digest, write_text
from resnet_tl.recipe import load_recipe

if TYPE_CHECKING:
    import pandas as pd
    from filelock import FileLock

    from resnet_tl.bundle import Bundle
    from resnet_tl.evaluation.accuracy import Accuracy


_PART = re.compile(r"\.\w{8}\.part(\.\w+)?")  # what `files.replacing` writes until it is whole
LOCK_PATIENCE = 10.0
"""Seconds: the processes that load images outlive one that is killed by some, and hold its lock as well."""


class Run:
    """Names the files of a run and reads them.

    ========================  =====================================================================
    `recipe.yaml`             every setting, resolved; `resnet-tl fit --recipe RUN/recipe.yaml` repeats the run
    `environment.json`        versions, machine, command, digests of the recipes, where the time went
    `data/index.csv`          path, label, split and group of every image; `data/skipped.csv` those left out,
                              `data/findings.csv` what `resnet-tl data check` would say of them
    `metrics.csv`             one line for each epoch
    `report.html`             all of it on one page; `resnet-tl report RUN` writes it again
    `summary.json`            best epoch and its metrics
    `freezing.json`           for each phase, which stages were frozen, and their digest at its start and end
    `checkpoints/`            `best.ckpt`, and `last.ckpt` at which `resnet-tl fit --resume RUN` goes on
    `model/`                  the bundle: weights, classes, preprocessing, what new images are compared with,
                              how the validation images were judged
    `evidence/val/`           of the validation images: predictions of baselines (`knn.csv`, `probe.csv`), the nearest
                              training images (`neighbours.csv`), a map (`map.csv`), where the evidence lies
                              (`gradcam.npz`), and what is missing and why (`facts.json`)
    `predictions/`            `val.csv` and, with a labelled test split, `test.csv`; `mistakes_val.csv` and
                              `least_certain_val.csv`
    `figures/`                augmented images, learning curves, confusion matrix, the most confident mistakes; as SVG
                              the charts of the report
    `tta/`                    for each kind of test-time augmentation that `resnet-tl validate RUN --tta KIND` measured:
                              `KIND/predictions/val.csv` and `KIND/summary.json`
    `folds/1`, `folds/2` …    of a run of folds, each a run with a model of its own; `predictions/val.csv` are then
                              those that the fold made which had not seen the image
    ========================  =====================================================================
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.recipe_file = self.path / "recipe.yaml"
        self.environment_file = self.path / "environment.json"
        self.metrics_file = self.path / "metrics.csv"
        self.report_file = self.path / "report.html"
        self.checkpoints = self.path / "checkpoints"
        # What `fit --resume` goes on from; there is none before the first epoch, or some minutes of it, are over.
        self.last_checkpoint = self.checkpoints / "last.ckpt"

    def __repr__(self) -> str:
        from resnet_tl.notebook import run_line

        return run_line(self)

    def _repr_html_(self) -> str:
        from resnet_tl.notebook import run_page

        return run_page(self)

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """An existing run; UserError when the folder is not one."""
        run = cls(path)
        if not (run.path / "recipe.yaml").is_file():
            reason = "it has no recipe.yaml" if run.path.exists() else "there is no such folder"
            if (run.path / "model.json").is_file() or is_bundle_zip(run.path):
                reason = "it is a model bundle alone, without the images and predictions that a run has"
            if (run.path / "sweep.json").is_file():
                reason = f"it is a sweep; give one of its trials, such as {run.path / 'trials' / '1'}"
            runs = [file.parent.name for file in run.path.parent.glob("*/recipe.yaml")]
            raise UserError(f"{path} is not a run: {reason}.{nearest(run.path.name, runs)}")
        return run

    @classmethod
    def create(cls, root: str | Path, name: str) -> Run:
        """A new folder `root/name-1`, or the next free number."""
        root = Path(root)
        number = 1
        while True:
            try:
                (root / f"{name}-{number}").mkdir(parents=True)
                return cls(root / f"{name}-{number}")
            except FileExistsError:
                number += 1

    @classmethod
    def create_at(cls, path: str | Path) -> Run:
        """A new folder of a given name; UserError when there is something in it."""
        path = Path(path)
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file; a run needs a folder of its own: choose another --run.")
        left = list(path.iterdir()) if path.is_dir() else []
        if any(file.name != ".lock" and not _PART.fullmatch(file.name) for file in left):  # of one that was killed
            raise UserError(f"{path} is not empty; a run needs a folder of its own: choose another --run.")
        path.mkdir(parents=True, exist_ok=True)
        return cls(path)

    @cached_property
    def folds(self) -> list[Run]:
        """The runs of a run of folds, in their order; none of any other run."""
        data = self.recipe.get("data", {})
        count = 0 if data.get("fold") or data.get("final") else data.get("folds") or 0
        return [self.fold(number) for number in range(1, count + 1)]

    def fold(self, number: int) -> Run:
        """One of a run of folds, from 1."""
        return Run(self.path / "folds" / str(number))

    @property
    def final_of(self) -> dict[str, Any]:
        """Of the run that this one repeats on train and validation images: `run`, `metrics`, `accuracy`; else empty."""
        return self.summary.get("final_of", {}) if self.is_complete else {}

    @property
    def is_complete(self) -> bool:
        """Whether its fit has come to its end; the summary is written last."""
        return (self.path / "summary.json").is_file()

    def lock(self) -> FileLock:
        """Held while a process trains the run; UserError when another one does."""
        from filelock import FileLock, Timeout

        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=LOCK_PATIENCE)
        except Timeout:
            raise UserError(
                f"{self.path} is being trained by another process; wait for its end, or stop it (where you know that "
                f"there is none, remove {self.path / '.lock'})."
            ) from None
        except (OSError, NotImplementedError):  # without locks; what cannot be written is reported elsewhere
            pass
        return lock

    def clean(self) -> None:
        """Removes what a process that was killed while it wrote has left."""
        for file in self.path.rglob(".*.part*"):
            if _PART.fullmatch(file.name):
                file.unlink()

    def predictions_file(self, split: str) -> Path:
        return self.path / "predictions" / f"{split}.csv"

    @property
    def evidence(self) -> Path:
        """The folder of what a fit leaves about its validation images besides their predictions."""
        return self.path / "evidence" / "val"

    def figure(self, name: str) -> Path:
        return self.path / "figures" / f"{name}.png"

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """The resolved recipe."""
        return load_recipe(self.recipe_file)

    @property
    def environment(self) -> dict[str, Any]:
        """What the run depended on besides its recipe, and how fast it predicts there."""
        return self._facts("environment.json", "its training did not begin")

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Best epoch, monitored metric, and the metrics of the bundle on each evaluated split."""
        go_on = f"resnet-tl fit --resume {quote(str(self.path))}"
        return self._facts("summary.json", f"its training did not end ({go_on} goes on with it)")

    @cached_property
    def data_facts(self) -> dict[str, Any]:
        """Where the images came from, counts for each class, and their fingerprint."""
        return self._facts("data/facts.json", "its training did not begin")

    @cached_property
    def history(self) -> pd.DataFrame:
        """`metrics.csv`: one row for each epoch."""
        import pandas as pd

        file = self._written("metrics.csv", "its first epoch did not end")
        try:
            history = pd.read_csv(file)
            history["epoch"]
        except KeyError as error:
            raise UserError(f"{file} is damaged: it has no column {error}.") from None
        except ValueError as error:
            raise UserError(f"{file} is damaged: {error}.") from None
        return history

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """One row for each evaluated split, `val` and perhaps `test`: `images`, `accuracy`, and what else was measured.

        Shares are from 0 to 1; between `accuracy_low` and `accuracy_high` lies its 95 % interval.
        """
        import pandas as pd

        rows = {}
        for split, accuracy in self.accuracies.items():
            interval = {"accuracy": accuracy.share, "accuracy_low": accuracy.low, "accuracy_high": accuracy.high}
            rows[split] = {"images": accuracy.images, **interval, **self.summary["metrics"][split]}
        return pd.DataFrame.from_dict(rows, orient="index")

    @cached_property
    def accuracies(self) -> dict[str, Accuracy]:
        """The accuracy on each evaluated split, with its interval and what it does not cover; from the predictions."""
        from resnet_tl.evaluation.accuracy import Accuracy

        return {split: Accuracy.of(self.predictions(split)) for split in self.summary["metrics"]}

    def predictions(self, split: str = "val") -> pd.DataFrame:
        """The prediction table of a split."""
        from resnet_tl.evaluation.predictions import read_predictions

        file = self.predictions_file(split)
        if not file.is_file():
            why = ""
            if self.is_complete and split in self.summary.get("metrics", {}):
                command = {"val": "validate", "test": "test"}[split]
                why = f" any more; resnet-tl {command} {quote(str(self.path))} -o {quote(str(file))} writes them again"
            elif split == "val" and self.is_complete and (parent := self.final_of):
                why = f", for it was trained on those images too; take the run that it repeats, {parent['run']}"
            raise UserError(f"{self.path} has no predictions for the split '{split}'{why}.")
        return read_predictions(file)

    def under_tta(self, kind: str) -> Run:
        """Where the numbers under a kind of test-time augmentation are: a Run of `predictions/` and `summary.json`."""
        return Run(self.path / "tta" / kind)

    def keep_under_tta(self, kind: str, split: str, table: pd.DataFrame) -> None:
        """Writes the predictions and numbers of a split under test-time augmentation, beside those without it."""
        from resnet_tl.evaluation.accuracy import Accuracy
        from resnet_tl.evaluation.metrics import compute_metrics
        from resnet_tl.evaluation.predictions import write_predictions

        kept, facts = self.under_tta(kind), self.tta_summary(kind)
        write_predictions(table, kept.predictions_file(split))
        metrics = {name: value for name, value in compute_metrics(table).items() if math.isfinite(value)}
        for name, fact in (("metrics", metrics), ("accuracy", Accuracy.of(table).facts())):
            facts.setdefault(name, {})[split] = fact
        facts["bundle_digests"] = self._digests()
        write_text(kept.path / "summary.json", json.dumps(facts, indent=2) + "\n")

    def tta_summary(self, kind: str) -> dict[str, Any]:
        """What was measured of the present model under test-time augmentation, as in `summary`; empty where nothing."""
        kept = self.under_tta(kind)
        facts = kept.summary if kept.is_complete else {}
        return facts if facts.get("bundle_digests") == self._digests() else {}

    def _digests(self) -> list[str]:
        from resnet_tl.bundle import Bundle

        return [Bundle.open(path).digest for path in bundles_of(self.path)]

    def mistakes(self, split: str = "val") -> pd.DataFrame:
        """The images of a split that were judged wrongly, those judged most surely first; see `evaluation.mistakes`."""
        from resnet_tl.evaluation.mistakes import mistakes

        return mistakes(self.predictions(split))

    @cached_property
    def bundle(self) -> Bundle:
        """The model bundle."""
        from resnet_tl.bundle import Bundle

        return Bundle.open(self.path)

    def _facts(self, name: str, otherwise: str) -> dict[str, Any]:
        """What a JSON file of the run says; UserError when there is none, or it is damaged."""
        file = self._written(name, otherwise)
        try:
            facts = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(facts, dict):
                raise ValueError("it holds no facts by name")
        except (ValueError, RecursionError) as error:
            raise UserError(f"{file} is damaged: {error}.") from None
        return facts

    def _written(self, name: str, otherwise: str) -> Path:
        """A file of the run; UserError when the fit did not come that far."""
        if not (self.path / name).is_file():
            raise UserError(f"{self.path} has no {name}: {otherwise}.")
        return self.path / name


def bundles_of(path: str | Path) -> list[Path]:
    """The models that predict together: those of a run of folds, in their order; else the one of a run, or the bundle.

    UserError for a run of which not all folds are trained.
    """
    path = Path(path)
    folds = sorted((path / "folds").glob("*/"), key=lambda fold: (len(fold.name), fold.name))
    if folds and not Run(path).is_complete:
        raise UserError(
            f"{path} has no model yet, for not all of its folds are trained; go on with: resnet-tl fit --resume "
            f"{quote(str(path))}"
        )
    return [_bundle_in(fold) for fold in folds or [path]]


def _bundle_in(path: Path) -> Path:
    return path / "model" if (path / "model" / "model.json").is_file() else path


def interrupted_run(folder: str | Path | None, recipes: Sequence[Path]) -> Run | None:
    """The run that a job of SLURM has begun which is run again; None for a job that runs the first time.

    Where its folder is not given, it is the newest one in `runs` that was begun in the same job by the same command.
    """
    if not int(os.environ.get("SLURM_RESTART_COUNT") or 0):
        return None
    runs = [Run(folder)] if folder else [Run(file.parent) for file in Path("runs").glob("*/environment.json")]
    same = identity(recipes)
    own = [run for run in runs if run.environment_file.is_file() and same.items() <= run.environment.items()]
    return max(own, key=lambda run: run.environment_file.stat().st_mtime, default=None)


def identity(recipes: Sequence[Path]) -> dict[str, Any]:
    """What a command that is given again shares with the run that it has begun; its job is None outside of SLURM."""
    digests = {path.stem: file_digest(path) for path in recipes}
    return {"job": os.environ.get("SLURM_JOB_ID"), "command": ["resnet-tl", *sys.argv[1:]], "recipes": digests}


def check_root(root: str | Path) -> None:
    """Raises UserError when runs cannot be written below `root`."""
    root = Path(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "it is a file" if root.is_file() else error.strerror
        raise UserError(f"Runs cannot be written to {root}: {reason}; choose another --run.") from None
    if not os.access(root, os.W_OK | os.X_OK):
        raise UserError(f"Runs cannot be written to {root}: permission denied; choose another --run.")
