"""Several gloo processes: the ranks stay alike through a phase change, and evaluation counts each image once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from resnet_tl import Predictor, cache
from resnet_tl.evaluation.metrics import compute_metrics
from resnet_tl.evaluation.predictions import read_predictions

SCRIPT = Path(__file__).with_name("ddp_fit.py")
REPOSITORY = SCRIPT.parents[2]

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")


@dataclass
class Rank:
    facts: dict[str, Any]
    weights: dict[str, torch.Tensor]


def start(script: Path, images: Path, out: Path, processes: int, *flags: str) -> None:
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
    environment = {key: value for key, value in os.environ.items() if key not in names}
    environment["PYTHONPATH"] = str(REPOSITORY)
    command = [sys.executable, str(script), str(images), str(out), str(processes), *flags]
    done = subprocess.run(command, cwd=out, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def run(images: Path, out: Path, processes: int) -> list[Rank]:
    start(SCRIPT, images, out, processes)
    return [
        Rank(
            json.loads((out / f"{rank}.json").read_text()),
            load_file(out / f"{rank}.safetensors"),
        )
        for rank in range(processes)
    ]


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.slow)], ids="{} processes".format)
def ranks(request: pytest.FixtureRequest, blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Rank]:
    """After `head` and then `all`; there are 13 validation images, which neither 2 nor 3 divide."""
    folder = tmp_path_factory.mktemp("ddp")
    ranks = run(blobs, folder, request.param)
    for rank in ranks:
        rank.facts["folder"] = folder
    return ranks


def differing(ranks: list[Rank]) -> list[str]:
    first = ranks[0].weights
    return [key for key in first if any(not torch.equal(first[key], rank.weights[key]) for rank in ranks[1:])]


def test_all_ranks_have_the_same_weights_after_head_and_then_all(ranks: list[Rank]):
    assert differing(ranks) == []


def test_the_backbones_gradients_are_synchronised_once_it_trains(ranks: list[Rank]):
    """Each rank has images of its own, and yet the optimizers of all get the same gradients."""
    rows = [rank.facts["rows"] for rank in ranks]
    assert all(not set(one[:8]) & set(other[:8]) for one, other in pairwise(rows))
    steps = ranks[0].facts["steps"]
    assert [len(step) > 0 for step in steps] == [False] * (len(steps) // 2) + [True] * (len(steps) // 2)
    assert any(value for step in steps for value in step)
    assert all(rank.facts["steps"] == steps for rank in ranks)


def test_the_first_wrapper_is_gone_with_its_hooks(ranks: list[Rank]):
    for rank in ranks:
        assert set(rank.facts["wrappers"]) == {1}


@pytest.fixture
def table(ranks: list[Rank]) -> pd.DataFrame:
    """What the first process has gathered."""
    return read_predictions(ranks[0].facts["folder"] / "val.csv")


def test_the_table_has_each_image_once_in_order(table: pd.DataFrame, blobs: Path):
    expected = sorted(path.relative_to(blobs).as_posix() for path in (blobs / "val").rglob("*.png"))
    assert len(expected) == 13
    assert table["id"].tolist() == expected


def test_metrics_are_equal_on_all_ranks_and_those_of_the_table(ranks: list[Rank], table: pd.DataFrame):
    for rank in ranks:
        assert rank.facts["metrics"] == compute_metrics(table)


def test_one_process_gives_the_same_numbers_with_the_same_weights(ranks: list[Rank], table: pd.DataFrame, blobs: Path):
    alone = Predictor(ranks[0].facts["folder"] / "bundle", device="cpu").predict(blobs / "val")

    columns = [column for column in table if column.startswith("prob_")]
    assert [Path(path).name for path in alone["path"]] == [Path(path).name for path in table["path"]]
    np.testing.assert_allclose(alone[columns], table[columns], rtol=0, atol=1e-5)
    labelled = alone.assign(label=table["label"])
    assert compute_metrics(labelled) == pytest.approx(ranks[0].facts["metrics"], abs=1e-5)


def test_the_proof_of_freezing_holds_on_every_rank_when_stages_are_frozen_again(ranks: list[Rank]):
    """Before, each rank had BatchNorm statistics of its own: the digest is taken after they were made equal."""
    assert [rank.facts["frozen again"] for rank in ranks] == [["stage1", "stage2", "stage3", "stem"]] * len(ranks)


@pytest.mark.slow
def test_all_ranks_fill_the_activation_cache_and_it_changes_nothing(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RESNET_TL_CACHE", str(tmp_path / "cache"))
    results = {}
    for cached in ("off", "on"):
        (tmp_path / cached).mkdir()
        start(SCRIPT.with_name("ddp_cached_fit.py"), blobs, tmp_path / cached, 2, cached)
        results[cached] = [
            (
                json.loads((tmp_path / cached / f"{rank}.json").read_text()),
                load_file(tmp_path / cached / f"{rank}.safetensors"),
            )
            for rank in range(2)
        ]

    assert [facts.pop("kinds") for facts, _ in results["off"]] == [["image"], ["image"]]
    assert [facts.pop("kinds") for facts, _ in results["on"]] == [["activation"], ["activation"]]
    assert (
        sum(entry.kind == "activations" for entry in cache.entries()) == 4
    )  # an epoch's view each, and the centre to evaluate
    for (facts, weights), (other_facts, other_weights) in zip(results["off"], results["on"], strict=True):
        assert facts == other_facts
        assert all(torch.equal(weights[key], other_weights[key]) for key in weights)
