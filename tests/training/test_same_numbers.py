"""On 1, 2 and 3 processes: the same weights have the same table and numbers, and training gives the same weights."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

# Depthwise and 1 x 1 convolutions, and exponentials, are what torch computes otherwise for another number of images.
NETWORKS = ["resnet20", "resnet18", "mobilenetv3_small_050", "efficientnet_lite0", "densenet121"]


@pytest.fixture(scope="session")
def flat(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of classes alone, so that each process makes the split itself."""
    root = tmp_path_factory.mktemp("flat")
    for file in sorted(blobs.rglob("*.png")):
        place = root / file.parent.name / f"{file.parent.parent.name}{file.name}"
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(file.read_bytes())
    return root


def start(script: str, *words: object) -> None:
    ours = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
    environment = {key: value for key, value in os.environ.items() if key not in ours}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    command = [sys.executable, Path(__file__).with_name(script), *words]
    subprocess.run(list(map(str, command)), env=environment, check=True, capture_output=True, timeout=300)


def results(flat: Path, out: Path, processes: int, *settings: object) -> set[bytes]:
    """What the ranks have written: one table, and one set of numbers."""
    name = "-".join(map(str, (processes, *settings)))
    start("ddp_evaluate.py", flat, out / name, processes, *settings)
    files = sorted((out / name).iterdir())
    assert len(files) == 1 + processes
    return {file.read_bytes() for file in files}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["head", "last_stages", "all"])
@pytest.mark.parametrize("network", NETWORKS)
def test_tables_metrics_and_splits_are_equal(flat: Path, tmp_path: Path, network: str, mode: str):
    one = results(flat, tmp_path, 1, network, mode, 5, 1)

    assert len(one) == 2
    for processes, batch_size, threads in [(2, 5, 1), (3, 4, 1), (1, 32, 2)]:
        assert results(flat, tmp_path, processes, network, mode, batch_size, threads) == one, (processes, batch_size)


@pytest.mark.slow
@pytest.mark.parametrize("class_weights", ["equal", "balanced"])
@pytest.mark.parametrize(
    ("images", "shares"), [(24, [(1, 12), (2, 6), (3, 4)]), (23, [(1, 12), (2, 6), (3, 4)]), (21, [(1, 10), (2, 5)])]
)
def test_training_is_equal_up_to_rounding(
    blobs: Path, tmp_path: Path, images: int, shares: list[tuple[int, int]], class_weights: str
):
    """Frozen BatchNorm, nothing drawn, an equal global batch; the last one need not divide, nor classes be even."""
    root = shutil.copytree(blobs, tmp_path / "images")
    for file in sorted((root / "train" / "red").iterdir())[: 24 - images]:
        file.unlink()
    weights = []
    for processes, batch_size in shares:
        file = tmp_path / f"{processes}.safetensors"
        start("ddp_train.py", root, file, processes, batch_size, class_weights)
        weights.append(load_file(file))

    for other in weights[1:]:
        for key, tensor in weights[0].items():
            torch.testing.assert_close(other[key], tensor, rtol=1e-3, atol=1e-4)
