"""One of two processes fails: all end within seconds, with one message, and each one's stack trace in a file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

FLAGS = (
    "--trainer.max_epochs",
    "3",
    "--data.batch_size",
    "4",
    "--trainer.accelerator",
    "cpu",
    "--trainer.devices",
    "2",
)
HERE = Path(__file__).parent
CASES = [
    # moment, rank, kind, exit code
    ("training", 1, "error", 1),
    ("training", 0, "error", 1),
    ("training", 1, "kill", 1),
    ("training", 0, "kill", -9),
    ("training", 1, "user", 2),
    ("training", 1, "memory", 2),
    ("setup", 1, "error", 1),
    ("filling", 1, "error", 1),
    ("filling", 0, "kill", -9),
    ("validation", 0, "error", 1),
    ("validation", 1, "kill", 1),
    ("testing", 1, "error", 1),
    ("setup", 1, "stop", 143),
    ("setup", 0, "stop", 143),
    ("filling", 1, "stop", 143),
    ("filling", 0, "stop", 143),
    ("evaluation", 1, "stop", 143),
    ("evaluation", 0, "stop", 143),
]

pytestmark = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a process for each core is the most")


@pytest.mark.parametrize(
    ("moment", "rank", "kind", "code"),
    [pytest.param(*case, marks=[] if number == 0 else pytest.mark.slow) for number, case in enumerate(CASES)],
)
def test_one_process_fails_and_all_end(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, rank: int, kind: str, code: int
):
    monkeypatch.setenv("RESNET_TL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", f"{HERE}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    recipe = "freeze_backbone" if moment == "filling" else "train_everything"
    callback = ("--trainer.callbacks", "faults.Fault", f"--trainer.callbacks.rank={rank}")
    callback += (f"--trainer.callbacks.moment={moment}", f"--trainer.callbacks.kind={kind}")
    words = ("fit", "--recipe", recipe, "--data.root", blobs, "--run", "run", *FLAGS, *callback)
    if moment == "filling":
        words += ("--model.activation_cache", "on")
    with Path(tmp_path, "err").open("w") as err:
        command = [sys.executable, "-m", "resnet_tl", *map(str, words)]
        done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=err, timeout=200, check=False)
    ended = time.time()

    text = Path(tmp_path, "err").read_text()
    assert done.returncode == code, text
    assert ended - float(Path(tmp_path, "broken_at").read_text()) < 15
    if code != -9:
        assert re.fullmatch(r"resnet-tl: .*\n", text), text
    assert "Traceback" not in text
    traces = sorted(file.name for file in (tmp_path / "run").glob("errors/*.txt"))
    assert kind in ("kill", "stop") or f"rank-{rank}.txt" in traces
    assert (kind == "stop") == ("stopped by SIGTERM" in text)
    time.sleep(1.0)
    assert not subprocess.run(["pgrep", "-f", f"{blobs}.*--run"], capture_output=True, check=False).stdout


def test_a_users_mistake_is_told_once_before_other_processes_start(tmp_path: Path):
    words = ("fit", "--recipe", "freeze_backbone", "--data.root", "nowhere", *FLAGS)
    done = subprocess.run(
        [sys.executable, "-m", "resnet_tl", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert done.stderr.count("resnet-tl:") == 1
    assert done.stderr.count("\n") == 1
