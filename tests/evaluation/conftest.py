"""Runs on disk, without a training: what a comparison reads of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from resnet_tl.evaluation.predictions import prediction_table, write_predictions
from resnet_tl.run import Run


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    """`make_run("lenet-1", is_right)`: a run that judged the images of two classes right where `is_right` says so."""

    def make(
        name, is_right, *, seed=0, network=None, ids=None, labels=None, classes=("cats", "dogs"), cost=None, data="abc"
    ) -> Run:
        folder = tmp_path / name
        is_right = np.asarray(is_right, dtype=bool)
        labels = np.arange(len(is_right)) % len(classes) if labels is None else np.asarray(labels)
        ids = [f"val/{number:04}.jpg" for number in range(len(is_right))] if ids is None else ids
        logits = np.random.default_rng(seed).normal(size=(len(is_right), len(classes)))
        predicted = np.where(is_right, labels, (labels + 1) % len(classes))
        logits[np.arange(len(is_right)), predicted] += 9
        write_predictions(prediction_table(ids, ids, labels, logits, classes), folder / "predictions" / "val.csv")
        recipe = {"seed": seed, "data": {"seed": seed}, "model": {"seed": seed, "network": network or name}}
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        (folder / "summary.json").write_text(
            json.dumps({"best_epoch": 2} | ({"network": cost["network"]} if cost else {}))
        )
        (folder / "data").mkdir()
        (folder / "data" / "facts.json").write_text(json.dumps({"fingerprint": data}))
        history = {"epoch": [1, 2, 3], "val_accuracy": [0.5, 0.7, 0.6], "val_loss": [0.9, 0.7, 0.8]}
        if cost:
            history["seconds"] = cost["seconds"]
        (folder / "environment.json").write_text(json.dumps({key: cost[key] for key in cost or () if "per" in key}))
        pd.DataFrame(history).to_csv(folder / "metrics.csv", index=False)
        return Run.open(folder)

    return make
