"""Two machines: one is killed, the other one ends, and the run goes on to what one machine with two processes gives."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

SCRIPT = Path(__file__).with_name("two_nodes.sh")
TWO = ("--trainer.max_epochs", "4", "--data.batch_size", "4", "--trainer.accelerator", "cpu", "--trainer.devices", "2")


def can_make_networks() -> bool:
    if not shutil.which("unshare") or not shutil.which("ip"):
        return False
    code = "mount -t tmpfs none /run && mkdir /run/netns && ip netns add n && ip link add v0 type veth peer name v1"
    return not subprocess.run(["unshare", "-rnm", "bash", "-c", code], capture_output=True, check=False).returncode


@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a process for each core is the most")
def test_one_of_two_machines_is_killed(blobs: Path, tmp_path: Path):
    if not can_make_networks():
        pytest.skip("network namespaces cannot be made here")

    command = ["unshare", "-rnm", "bash", str(SCRIPT), sys.executable, str(blobs)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)

    logs = [(tmp_path / f"log.{node}").read_text() for node in range(2)]
    assert done.stdout.splitlines() == ["first 1", "in time", "resumed 0", "resumed 0"], (done.stderr, *logs)
    said = [re.findall("^resnet-tl: (.*)$", log, re.MULTILINE) for log in logs]
    assert [len(lines) for lines in said] == [1, 1]
    assert re.match("process 0 of 2 lost the connection to another one: .*(closed|reset) by peer", said[0][0])
    assert said[1][0].startswith("process 1 of 2 ended, since its launcher is gone")
    assert all("go on with: resnet-tl fit --resume" in lines[0] for lines in said)
    words = ["fit", "--recipe", "train_everything", "--data.root", str(blobs), "--run", "whole", *TWO]
    subprocess.run([sys.executable, "-m", "resnet_tl", *words], cwd=tmp_path, check=True, capture_output=True)
    metrics = [pd.read_csv(tmp_path / run / "metrics.csv").drop(columns="seconds") for run in ("run", "whole")]
    pd.testing.assert_frame_equal(*metrics, check_exact=True)
    for name in ("predictions/val.csv", "model/weights.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
