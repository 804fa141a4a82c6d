"""The same bundle in processes that compute as other CPUs do: other vector instructions, other numbers of threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from resnet_tl.evaluation.predictions import probabilities, read_predictions
from resnet_tl.evaluation.repeated import TOLERANCE
from resnet_tl.inference.predictor import Predictor
from tests.inference.test_predictor import bundle_at

OLD_CPU = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}


@pytest.mark.parametrize(
    "machine",
    [
        {**OLD_CPU, "OMP_NUM_THREADS": "1"},
        pytest.param({"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}, marks=pytest.mark.slow),
        pytest.param({**OLD_CPU, "OMP_NUM_THREADS": "4"}, marks=pytest.mark.slow),
    ],
    ids=lambda machine: " ".join(machine.values()),
)
def test_a_bundle_gives_the_same_on_another_cpu(machine: dict[str, str], blobs: Path, tmp_path: Path) -> None:
    bundle = bundle_at(tmp_path / "bundle")
    here = Predictor(bundle.path, device="cpu").predict(blobs / "val")
    words = ["predict", str(bundle.path), str(blobs / "val"), "-o", "there.csv", "--batch_size", "7", "--device", "cpu"]
    subprocess.run(
        [sys.executable, "-m", "resnet_tl", *words], cwd=tmp_path, env=os.environ | machine, check=True, timeout=300
    )
    there = read_predictions(tmp_path / "there.csv")
    assert there["predicted"].tolist() == here["predicted"].tolist()
    assert np.abs(probabilities(there) - probabilities(here)).max() < TOLERANCE / 10
