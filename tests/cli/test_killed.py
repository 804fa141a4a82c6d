"""Real processes that are killed or told to stop, and the run that goes on as if nothing had happened."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest

FLAGS = ("--recipe", "train_everything", "--trainer.max_epochs", "4", "--data.batch_size", "3", "--model.mixup", "0.4")
ONE = ("--trainer.devices", "1")
TWO = ("--trainer.accelerator", "cpu", "--trainer.devices", "2")
needs_two_cores = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a process for each core is the most")


def start(*words: object) -> subprocess.Popen:
    """The command in a process group of its own, as a shell starts it."""
    command = [sys.executable, "-m", "resnet_tl", "fit", *map(str, words)]
    with Path("log.txt").open("a") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def finish(*words: object) -> None:
    assert start(*words).wait(timeout=300) == 0, Path("log.txt").read_text()[-3000:]


def processes_of(run: Path) -> list[int]:
    """The process numbers of those that write a run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(run).encode() in words:
            found.append(int(folder.name))
    return sorted(found)


def remains(run: Path) -> dict[str, object]:
    names = (
        "summary.json",
        "freezing.json",
        "predictions/val.csv",
        "model/weights.safetensors",
        "model/reference.safetensors",
        "model/validation.safetensors",
    )
    return {name: (run / name).read_bytes() for name in names} | {
        "metrics": pd.read_csv(run / "metrics.csv").drop(columns="seconds").to_csv()
    }


@pytest.fixture(scope="module")
def whole(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, object]]:
    """`whole(*devices)`: what remains of a run that nothing interrupts."""
    known: dict[tuple[str, ...], dict[str, object]] = {}

    def run(*devices: str) -> dict[str, object]:
        if devices not in known:
            folder = tmp_path_factory.mktemp("whole") / "run"
            finish(*FLAGS, *devices, "--data.root", blobs, "--run", folder)
            known[devices] = remains(folder)
        return known[devices]

    return run


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "killed"


def wait_for(process: subprocess.Popen, file: Path) -> None:
    """Until a fit has come to its training."""
    ends = time.monotonic() + 200
    while not file.exists():
        assert process.poll() is None, Path("log.txt").read_text()[-3000:]
        assert time.monotonic() < ends, "nothing happens"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("kills", "flags"),
    [
        (1, ONE),
        pytest.param(6, ONE, marks=pytest.mark.slow),
        pytest.param(4, (*ONE, "--data.workers", "2"), marks=pytest.mark.slow),
        pytest.param(3, TWO, marks=[pytest.mark.slow, needs_two_cores]),
    ],
    ids=["once", "six times", "with workers", "two processes"],
)
def test_a_run_that_is_killed_goes_on(run: Path, blobs: Path, whole, kills: int, flags: tuple[str, ...]):
    moments = random.Random(str(flags))
    process = start(*FLAGS, *flags, "--data.root", blobs, "--run", run, "--checkpoint_every", "0s")
    for _ in range(kills):
        wait_for(process, run / "checkpoints" / "last.ckpt")
        time.sleep(moments.uniform(0, 2))
        victims = [process.pid, *ranks_of(process).values()]  # each of the latter in a session of its own
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        process.wait()
        process = start("--resume", run, "--checkpoint_every", "0s")
    assert process.wait(timeout=300) == 0, Path("log.txt").read_text()[-3000:]

    assert remains(run) == whole(*flags[: 2 if flags[0] == ONE[0] else 4])


@pytest.mark.slow
@pytest.mark.parametrize("devices", [ONE, pytest.param(TWO, marks=needs_two_cores)], ids=["one process", "two"])
def test_a_run_of_folds_that_is_killed_in_the_third_goes_on(run: Path, blobs: Path, devices: tuple[str, ...]):
    flags = (*FLAGS, *devices, "--folds", 3, "--data.root", blobs)
    finish(*flags, "--run", run.with_name("whole"))
    process = start(*flags, "--run", run, "--checkpoint_every", "0s")
    wait_for(process, run / "folds" / "3" / "checkpoints" / "last.ckpt")
    for victim in [process.pid, *ranks_of(process).values()]:
        os.kill(victim, signal.SIGKILL)
    process.wait()
    before = (run / "folds" / "2" / "summary.json").stat().st_mtime_ns
    finish("--resume", run)

    assert (run / "folds" / "2" / "summary.json").stat().st_mtime_ns == before
    for name in ("summary.json", "predictions/val.csv", "predictions/test.csv"):
        assert (run / name).read_bytes() == (run.with_name("whole") / name).read_bytes(), name
    for fold in ("1", "2", "3"):
        assert remains(run / "folds" / fold) == remains(run.with_name("whole") / "folds" / fold)


@pytest.mark.slow
@needs_two_cores
@pytest.mark.parametrize(
    ("whom", "name", "code", "flags"),
    [
        ("launcher", "SIGTERM", 143, ("--data.workers", "1")),
        ("launcher", "SIGINT", 130, ()),
        ("the first", "SIGTERM", 143, ()),
        ("the second", "SIGINT", 130, ()),
        ("all", "SIGINT", 130, ()),
    ],
)
def test_two_processes_stop_at_the_same_step(
    run: Path, blobs: Path, whole, whom: str, name: str, code: int, flags: tuple[str, ...]
):
    process = start(*FLAGS, *TWO, *flags, "--data.root", blobs, "--run", run)
    wait_for(process, run / "checkpoints" / "last.ckpt")
    ranks = ranks_of(process)
    assert sorted(ranks) == [0, 1]
    victims = {"launcher": [process.pid], "the first": [ranks[0]], "the second": [ranks[1]]}
    for victim in victims.get(whom, [process.pid, *ranks.values()]):
        os.kill(victim, signal.Signals[name])

    assert process.wait(timeout=60) == code, Path("log.txt").read_text()[-3000:]
    assert processes_of(run) == []
    said = [line for line in Path("log.txt").read_text().splitlines() if line.startswith("resnet-tl: ")]
    cause = "Ctrl-C" if name == "SIGINT" else name
    assert said == [f"resnet-tl: stopped by {cause}; go on with: resnet-tl fit --resume {run.name}"]
    finish("--resume", run)
    assert remains(run) == whole(*TWO)


@needs_two_cores
@pytest.mark.slow
def test_a_launcher_that_is_stopped_while_its_processes_start_ends_them(run: Path, blobs: Path):
    process = start(*FLAGS, *TWO, "--data.root", blobs, "--run", run)
    while len(ranks_of(process)) < 2:
        assert process.poll() is None, Path("log.txt").read_text()[-3000:]
        time.sleep(0.01)
    process.terminate()

    assert process.wait(timeout=60) == 143
    assert processes_of(run) == []
    assert Path("log.txt").read_text().endswith("resnet-tl: stopped by SIGTERM before the training began\n")


def ranks_of(launcher: subprocess.Popen) -> dict[int, int]:
    """Rank -> process number of those that the launcher has started."""
    found: dict[int, int] = {}
    with suppress(OSError):  # it has just ended
        for child in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split():
            settings = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
            found |= {int(word.removeprefix(b"RANK=")): int(child) for word in settings if word.startswith(b"RANK=")}
    return found
