"""What the end of a fit left besides its predictions: baselines, nearest training images, a map, heat maps.

All of it is optional, since a fit may have had no pretrained features, or an earlier version made the run.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from resnet_tl.errors import UserError
from resnet_tl.evaluation.predictions import read_predictions
from resnet_tl.files import from_cell
from resnet_tl.run import Run

T = TypeVar("T")
BASELINES = {"knn": "the nearest neighbours of pretrained features", "probe": "a linear probe of pretrained features"}
"""File -> what it is called in a sentence."""


@dataclass(frozen=True)
class Neighbour:
    """A training image that the model's features say is like another."""

    path: Path
    label: str
    distance: float


@dataclass
class Evidence:
    """The evidence of one split; what is not there is empty, and `notes` say what could not be read."""

    baselines: dict[str, pd.DataFrame] = field(default_factory=dict)  # a name in `BASELINES` -> its prediction table
    neighbours: dict[str, list[Neighbour]] = field(default_factory=dict)  # by the id of an image, the nearest first
    map: pd.DataFrame | None = None  # columns id, x, y
    heat: dict[str, np.ndarray] = field(default_factory=dict)  # id -> (h, w) from 0 to 1, over the centre crop
    missing: dict[str, str] = field(default_factory=dict)  # what the fit could not make, and why
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, run: Run, split: str) -> Evidence:
        """That of a run; of a run of folds what its folds say of their own validation images, but no map."""
        parts = [cls._of_one(fold, split) for fold in run.folds] if split == "val" else []
        if not parts:
            return cls._of_one(run, split)
        whole = cls()
        for name in BASELINES:
            tables = [part.baselines[name] for part in parts if name in part.baselines]
            if len(tables) == len(parts):
                whole.baselines[name] = pd.concat(tables, ignore_index=True)
        for part in parts:
            whole.neighbours |= part.neighbours
            whole.heat |= part.heat
            whole.missing |= part.missing
            whole.notes += part.notes
        return whole

    @classmethod
    def _of_one(cls, run: Run, split: str) -> Evidence:
        found, folder = cls(), run.path / "evidence" / split
        root = Path(run.data_facts["root"])

        def read(name: str, reader: Callable[[Path], T]) -> T | None:
            if not (folder / name).is_file():
                return None
            try:
                return reader(folder / name)
            except (UserError, ValueError, KeyError, OSError, zipfile.BadZipFile):
                found.notes.append(f"{folder / name} cannot be read, so that what it says is left out.")
                return None

        for name in BASELINES:
            table = read(f"{name}.csv", read_predictions)
            if table is not None:
                found.baselines[name] = table
        found.neighbours = read("neighbours.csv", lambda file: _neighbours(file, root)) or {}
        found.map = read("map.csv", _places)
        found.heat = read("gradcam.npz", _heat) or {}
        facts = read("facts.json", _facts) or {}
        found.missing = {
            name: str(fact["missing"]).rstrip(".")
            for name, fact in facts.items()
            if isinstance(fact, dict) and fact.get("missing")
        }
        return found


def _neighbours(file: Path, root: Path) -> dict[str, list[Neighbour]]:
    table = _table(file, ("id", "path", "label"))
    found: dict[str, list[Neighbour]] = {}
    for row in table.sort_values("rank", kind="stable").to_dict("records"):
        near = Neighbour(root / row["path"], row["label"], float(row["distance"]))  # an absolute path stays as it is
        found.setdefault(row["id"], []).append(near)
    return found


def _places(file: Path) -> pd.DataFrame | None:
    table = _table(file, ("id",))[["id", "x", "y"]]
    table = table.assign(**{axis: pd.to_numeric(table[axis], errors="coerce").astype(float) for axis in ("x", "y")})
    table = table[np.isfinite(table[["x", "y"]].to_numpy()).all(axis=1)]
    return table if len(table) else None


def _facts(file: Path) -> dict[str, Any]:
    facts = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(facts, dict):
        raise ValueError("it holds no facts by name")
    return facts


def _table(file: Path, texts: tuple[str, ...]) -> pd.DataFrame:
    table = pd.read_csv(file, dtype=dict.fromkeys(texts, str), keep_default_na=False, encoding="utf-8")
    return table.assign(**{name: table[name].map(from_cell) for name in texts})


def _heat(file: Path) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as arrays:
        ids, maps = arrays["id"], np.clip(np.nan_to_num(arrays["map"].astype(np.float32)), 0, 1)
    if maps.ndim != 3 or len(ids) != len(maps):
        raise ValueError(f"{maps.shape} is no list of {len(ids)} maps")
    return dict(zip(map(str, ids), maps, strict=True))
