"""The run directory: everything that one `fit` made, in one folder."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_tl.errors import UserError, nearest

if TYPE_CHECKING:
    import pandas as pd

    from resnet_tl.bundle import Bundle


class Run:
    """Names the files of a run and reads them.

    ========================  =====================================================================
    `recipe.yaml`             every setting, resolved; `resnet-tl fit --recipe RUN/recipe.yaml` repeats the run
    `environment.json`        versions, machine, command, digests of the recipes, where the time went
    `data/index.csv`          path, label, split and group of every image; `data/skipped.csv` those left out
    `metrics.csv`             one line for each epoch
    `summary.json`            best epoch and its metrics
    `checkpoints/`            `best.ckpt` and `last.ckpt`, Lightning's
    `model/`                  the bundle: weights, classes, preprocessing
    `predictions/`            `val.csv` and, with a labelled test split, `test.csv`
    `figures/`                augmented images, learning curves, confusion matrix
    ========================  =====================================================================
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """An existing run; UserError when the folder is not one."""
        run = cls(path)
        if not (run.path / "recipe.yaml").is_file():
            reason = "it has no recipe.yaml" if run.path.exists() else "there is no such folder"
            raise UserError(f"{path} is not a run: {reason}.{_nearest_folder(run.path)}")
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
        if path.is_dir() and any(path.iterdir()):
            raise UserError(f"{path} is not empty; a run needs a folder of its own: choose another --run.")
        path.mkdir(parents=True, exist_ok=True)
        return cls(path)

    @property
    def recipe_file(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def environment_file(self) -> Path:
        return self.path / "environment.json"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def predictions_file(self, split: str) -> Path:
        return self.path / "predictions" / f"{split}.csv"

    def figure(self, name: str) -> Path:
        return self.path / "figures" / f"{name}.png"

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """The resolved recipe."""
        import yaml

        return yaml.safe_load(self.recipe_file.read_text(encoding="utf-8"))

    @property
    def environment(self) -> dict[str, Any]:
        """What the run depended on besides its recipe, and how fast it predicts there."""
        return json.loads(self._written("environment.json", "its training did not begin").read_text(encoding="utf-8"))

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Best epoch, monitored metric, and the metrics of the bundle on each evaluated split."""
        return json.loads(self._written("summary.json", "its training did not end").read_text(encoding="utf-8"))

    @cached_property
    def data_facts(self) -> dict[str, Any]:
        """Where the images came from, counts for each class, and their fingerprint."""
        return json.loads(self._written("data/facts.json", "its training did not begin").read_text(encoding="utf-8"))

    @cached_property
    def history(self) -> pd.DataFrame:
        """`metrics.csv`: one row for each epoch."""
        import pandas as pd

        return pd.read_csv(self._written("metrics.csv", "its first epoch did not end"))

    def predictions(self, split: str = "val") -> pd.DataFrame:
        """The prediction table of a split."""
        from resnet_tl.evaluation.predictions import read_predictions

        file = self.predictions_file(split)
        if not file.is_file():
            mend = (
                "; give data.test_fraction, or labelled images in ROOT/test, when it is trained"
                if split == "test"
                else ""
            )
            raise UserError(f"{self.path} has no predictions for the split '{split}'{mend}.")
        return read_predictions(file)

    @cached_property
    def bundle(self) -> Bundle:
        """The model bundle."""
        from resnet_tl.bundle import Bundle

        return Bundle.open(self.path)

    def _written(self, name: str, otherwise: str) -> Path:
        """A file of the run; UserError when the fit did not come that far."""
        if not (self.path / name).is_file():
            raise UserError(f"{self.path} has no {name}: {otherwise}.")
        return self.path / name


def check_root(root: str | Path) -> None:
    """Raises UserError when runs cannot be written below `root`."""
    import os

    root = Path(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "it is a file" if root.is_file() else error.strerror
        raise UserError(f"Runs cannot be written to {root}: {reason}; choose another --run.") from None
    if not os.access(root, os.W_OK | os.X_OK):
        raise UserError(f"Runs cannot be written to {root}: permission denied; choose another --run.")


def _nearest_folder(path: Path) -> str:
    parent = path.parent
    if not parent.is_dir():
        return ""
    return nearest(path.name, [folder.name for folder in parent.iterdir() if (folder / "recipe.yaml").is_file()])
