"""Thousands of mutated images: no crash, no hang, bounded memory; each is decoded or refused in one sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="limits are those of POSIX")


@pytest.mark.parametrize(
    ("count", "seed"), [(5_000, 0), *(pytest.param(25_000, seed, marks=pytest.mark.slow) for seed in range(1, 5))]
)
def test_mutated_images(count: int, seed: int) -> None:
    script = Path(__file__).with_name("mutations.py")
    done = subprocess.run(
        [sys.executable, script, str(count), str(seed)], capture_output=True, text=True, timeout=60 + count / 20
    )
    assert done.returncode == 0, done.stderr[-2000:]  # negative: a signal, so that a decoder has crashed
    told = json.loads(done.stdout)
    print(told)
    assert told.keys() <= {"decoded", "refused", "slowest", "peak_mb", "largest", "worst"}, told
    assert told["decoded"] + told["refused"] == count
    assert told["decoded"] > count / 20
    # A mutated header may ask for as many pixels as `MAX_PIXELS` allows; that takes its time, but no more memory.
    assert told["slowest"] < 60
    assert told["peak_mb"] < 3072
