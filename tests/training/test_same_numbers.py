"""The same weights have the same table and the same numbers on 1, 2 and 3 processes, in batches of any size."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("ddp_evaluate.py")
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


def results(flat: Path, out: Path, processes: int, *settings: object) -> set[bytes]:
    """What the ranks have written: one table, and one set of numbers."""
    name = "-".join(map(str, (processes, *settings)))
    ours = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
    environment = {key: value for key, value in os.environ.items() if key not in ours}
    environment["PYTHONPATH"] = str(SCRIPT.parents[2])
    command = [sys.executable, SCRIPT, flat, out / name, processes, *settings]
    subprocess.run(list(map(str, command)), env=environment, check=True, capture_output=True, timeout=300)
    files = sorted((out / name).iterdir())
    assert len(files) == 2 * processes
    return {file.read_bytes() for file in files}


@pytest.mark.parametrize(
    ("network", "mode"),
    [("resnet20", "head")]
    + [
        pytest.param(network, mode, marks=pytest.mark.slow)
        for network in NETWORKS
        for mode in ("head", "last_stages", "all")
        if (network, mode) != ("resnet20", "head")
    ],
)
def test_tables_metrics_and_splits_are_equal(flat: Path, tmp_path: Path, network: str, mode: str):
    one = results(flat, tmp_path, 1, network, mode, 5, 1)

    assert len(one) == 2
    for processes, batch_size, threads in [(2, 5, 1), (3, 4, 1), (1, 32, 2)]:
        assert results(flat, tmp_path, processes, network, mode, batch_size, threads) == one, (processes, batch_size)
