"""Runs on disk, without a training: what a page reads of them, with small drawn images."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from resnet_tl.evaluation.accuracy import Accuracy
from resnet_tl.evaluation.metrics import compute_metrics
from resnet_tl.evaluation.mistakes import least_certain, mistakes
from resnet_tl.evaluation.predictions import prediction_table, write_predictions
from resnet_tl.files import as_cell
from resnet_tl.run import Run

MakeRun = Callable[..., Run]


def predictions(
    root: Path, classes: Sequence[str], images: int, wrong: int, split: str = "val", seed: int = 0
) -> pd.DataFrame:
    """A table of which the first rows are wrong, each image taken for the next class."""
    generator = np.random.default_rng(seed)
    labels = np.arange(images) % len(classes)
    said = np.where(np.arange(images) < wrong, (labels + 1) % len(classes), labels)
    logits = generator.normal(size=(images, len(classes)))
    logits[np.arange(images), said] = logits.max(axis=1) + generator.uniform(0.5, 4, images)
    ids = [f"{split}/{number:04}.jpg" for number in range(images)]
    return prediction_table(ids, [str(root / name) for name in ids], labels, logits, classes)


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """`make_run(classes=..., images=..., wrong=...)`: a finished run and its drawn images."""

    def make(
        name: str = "photos-1",
        *,
        classes: Sequence[str] = ("ants", "bees", "wasps"),
        images: int = 60,
        wrong: int = 9,
        splits: Sequence[str] = ("val",),
        drawn: int | None = None,
        seed: int = 0,
        **summary: Any,
    ) -> Run:
        root, folder = tmp_path / "photos", tmp_path / name
        facts: dict[str, Any] = {"metrics": {}, "accuracy": {}}
        for split in splits:
            table = predictions(root, classes, images, wrong, split, seed)
            write_predictions(table, folder / "predictions" / f"{split}.csv")
            facts["metrics"][split] = compute_metrics(table)
            facts["accuracy"][split] = Accuracy.of(table).facts()
        for split in ("train", *splits):
            (root / split).mkdir(parents=True, exist_ok=True)
            for number in range(images if drawn is None else drawn):
                shade = (40 + 3 * number % 200, 120, 200 - 2 * number % 200)
                Image.new("RGB", (48, 32), shade).save(root / split / f"{number:04}.jpg")
        facts |= {"best_epoch": 2, "monitor": "val_loss", "monitor_mode": "min"}
        facts["network"] = {"name": "resnet20", "parameters": 269_397, "multiply_adds": 91_238_720}
        write_json(folder / "summary.json", facts | summary)
        settings = {"seed": seed, "model": {"mode": "all"}, "data": {"image_size": 32}}
        (folder / "recipe.yaml").write_text(yaml.safe_dump(settings))
        write_json(folder / "environment.json", {"seconds": {"training": 3.0, "files": 1.0}, "advice": "Train less."})
        of = dict.fromkeys(classes, images // len(classes))
        counts = dict.fromkeys(("train", *splits), of)
        about = {"root": str(root), "layout": "split folders", "classes": list(classes), "counts": counts}
        write_json(folder / "data" / "facts.json", about | {"short_side_median": 32, "skipped": 0, "fingerprint": "f2"})
        index = [
            (f"{split}/{row:04}.jpg", classes[row % len(classes)], split) for split in counts for row in range(images)
        ]
        pd.DataFrame(index, columns=["path", "label", "split"]).map(as_cell).to_csv(folder / "data" / "index.csv")
        history = {"epoch": [1, 2, 3], "phase": ["head", "head", "all"], "train_loss": [1.0, 0.6, 0.3]}
        history |= {"train_accuracy": [0.5, 0.8, 0.9], "val_loss": [0.9, 0.5, 0.6], "val_accuracy": [0.6, 0.9, 0.85]}
        pd.DataFrame(history).to_csv(folder / "metrics.csv", index=False)
        proof = {"phase": 0, "mode": "head", "frozen": ["stage1", "stem"], "sha256": "5b2c607f8fad6137"}
        write_json(folder / "freezing.json", [proof])
        crop = {"size": 32, "storage_size": 32, "crop_size": 24}
        network = {"name": "resnet20"}
        bundle = {"format": 1, "network": network, "classes": list(classes), "preprocessing": crop}
        bundle["preprocessing"] = crop | {"mean": [0.5] * 3, "std": [0.5] * 3}
        write_json(folder / "model" / "model.json", bundle)
        return Run.open(folder)

    return make


def write_json(file: Path, facts: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(facts), encoding="utf-8")


def add_evidence(run: Run, better: int = 0) -> None:
    """Baselines of which the better one has so many mistakes more than the model, neighbours, a map, heat maps."""
    table, folder = run.predictions(), run.path / "evidence" / "val"
    root, classes = Path(run.data_facts["root"]), run.data_facts["classes"]
    wrong = len(mistakes(table))
    for name, more in (("probe", better), ("knn", better + 6)):
        write_predictions(predictions(root, classes, len(table), wrong + more), folder / f"{name}.csv")
    generator = np.random.default_rng(0)
    places = generator.normal(size=(len(table), 2))
    pd.DataFrame({"id": table["id"], "x": places[:, 0], "y": places[:, 1]}).to_csv(folder / "map.csv", index=False)
    near = [(one, rank) for one in table["id"] for rank in (1, 2, 3)]
    rows = [(one, rank, f"train/{rank:04}.jpg", classes[rank % len(classes)], 0.1 * rank) for one, rank in near]
    columns = ["id", "rank", "path", "label", "distance"]
    pd.DataFrame(rows, columns=columns).map(as_cell).to_csv(folder / "neighbours.csv", index=False)
    chosen = list(dict.fromkeys([*mistakes(table).head(24)["id"], *least_certain(table).head(24)["id"]]))
    heat = generator.uniform(size=(len(chosen), 4, 4)).astype(np.float16)
    np.savez(folder / "gradcam.npz", id=np.array(chosen), map=heat)
