"""One of two processes fails, or their launcher: all end within seconds, with one sentence."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resnet_tl.cli.main import main

FLAGS = ("--trainer.max_epochs", "3", "--data.batch_size", "4", "--trainer.accelerator", "cpu")
TWO = ("--trainer.devices", "2")
HERE = Path(__file__).parents[1]
FAILED = "process {rank} of 2 failed: ValueError: a cosmic ray came by; the stack traces are in {run}/errors"
KILLED = "process {rank} of 2 was killed by SIGKILL"
USER = "a cosmic ray came by"
MEMORY = "The memory is too small for batches of 4 images: try --data.batch_size 2"
STOPPED = "stopped by SIGTERM"
CASES = [
    # moment, rank, kind, the others are asleep, exit code, what is said
    ("training", 1, "error", True, 1, FAILED),
    ("training", 0, "error", False, 1, FAILED),
    ("training", 1, "kill", True, 1, KILLED),
    ("training", 0, "kill", False, 1, KILLED),
    ("training", 1, "user", False, 2, USER),
    ("training", 0, "memory", False, 2, MEMORY),
    ("setup", 1, "error", False, 1, FAILED),
    ("filling", 1, "error", False, 1, FAILED),
    ("filling", 0, "kill", False, 1, KILLED),
    ("validation", 0, "error", True, 1, FAILED),
    ("validation", 1, "kill", False, 1, KILLED),
    ("testing", 1, "error", False, 1, FAILED),
    ("setup", 1, "stop", False, 143, STOPPED),
    ("filling", 0, "stop", False, 143, STOPPED),
    ("evaluation", 1, "stop", False, 143, STOPPED),
    ("evaluation", 0, "stop", False, 143, STOPPED),
]

needs_two_cores = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a process for each core is the most")


def start(blobs: Path, folder: Path, *words: object, by: tuple[str, ...] = (), err: str = "err") -> subprocess.Popen:
    """The command in a folder of its own, which its errors are written to."""
    environment = os.environ | {
        "RESNET_TL_CACHE": str(folder / "cache"),
        "PYTHONPATH": f"{HERE}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    }
    command = [sys.executable, "-m", *by, "resnet_tl", "fit", "--data.root", str(blobs), "--run", "run", *FLAGS, *TWO]
    with (folder / err).open("w") as file:
        return subprocess.Popen(
            [*command, *map(str, words)], cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=file
        )


def fault(moment: str, rank: int, kind: str, asleep: bool) -> list[str]:
    words = ["--trainer.callbacks", "faults.Fault"]
    settings = {"rank": rank, "moment": moment, "kind": kind, "asleep": str(asleep).lower()}
    return words + [f"--trainer.callbacks.{name}={value}" for name, value in settings.items()]


def processes_of(images: Path) -> bytes:
    return subprocess.run(["pgrep", "-f", f"{images}.*--run"], capture_output=True, check=False).stdout


@needs_two_cores
@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "rank", "kind", "asleep", "code", "said"),
    [pytest.param(*case, id="-".join(map(str, case[:3]))) for case in CASES],
)
def test_one_process_fails_and_all_end(
    blobs: Path, tmp_path: Path, moment: str, rank: int, kind: str, asleep: bool, code: int, said: str
):
    recipe = "freeze_backbone" if moment == "filling" else "train_everything"
    words = ("--recipe", recipe, "--model.activation_cache", "on" if moment == "filling" else "auto")
    process = start(blobs, tmp_path, *words, *fault(moment, rank, kind, asleep))
    returned = process.wait(timeout=200)
    ended = time.time()

    text = (tmp_path / "err").read_text()
    assert returned == code, text
    assert ended - float((tmp_path / "broken_at").read_text()) < 15
    assert re.fullmatch(r"resnet-tl: .*\n", text), text
    assert text.startswith(f"resnet-tl: {said.format(rank=rank, run=tmp_path / 'run')}")
    file = "recipe.yaml" if kind == "stop" else "checkpoints/last.ckpt"
    goes_on = kind in ("error", "kill", "stop") and (tmp_path / "run" / file).exists()
    assert ("go on with: resnet-tl fit --resume" in text) == goes_on
    traces = sorted(file.name for file in (tmp_path / "run").glob("errors/*.txt"))
    assert kind != "error" or f"rank-{rank}.txt" in traces
    assert not processes_of(blobs)


@needs_two_cores
@pytest.mark.slow
def test_the_launcher_is_killed_and_its_processes_end(blobs: Path, tmp_path: Path):
    flags = ("--recipe", "train_everything", "--trainer.max_epochs", 1000)
    process = start(blobs, tmp_path, *flags)
    while not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists():
        assert process.poll() is None, (tmp_path / "err").read_text()
        time.sleep(0.1)
    process.kill()
    process.wait()
    ends = time.monotonic() + 10
    while processes_of(blobs) and time.monotonic() < ends:
        time.sleep(0.1)

    assert not processes_of(blobs)
    text = (tmp_path / "err").read_text()
    said = r"resnet-tl: process \d of 2 ended, since its launcher is gone; .*--resume \S+run\n"
    assert re.fullmatch(said, text), text


@pytest.mark.slow
@needs_two_cores
@pytest.mark.parametrize(("kind", "code"), [("error", 1), ("user", 2)])
def test_under_torchrun_one_process_says_what_happened(blobs: Path, tmp_path: Path, kind: str, code: int):
    by = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--")
    process = start(blobs, tmp_path, "--recipe", "train_everything", *fault("training", 1, kind, True), by=by)

    assert process.wait(timeout=200) != 0
    text = (tmp_path / "err").read_text()
    said = "resnet-tl: a cosmic ray came by\n" if kind == "user" else "resnet-tl: process 1 of 2 failed: ValueError: a"
    assert text.count("resnet-tl: ") == 1
    assert said in text
    assert f"exitcode  : {code} " in text
    assert time.time() - float((tmp_path / "broken_at").read_text()) < 15


@pytest.mark.slow
@needs_two_cores
def test_under_srun_the_others_say_how_they_noticed(blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        job = {"JOB_ID": "4711", "JOB_NAME": "fit", "NTASKS": "2", "NTASKS_PER_NODE": "2"}
        job |= {"NODELIST": "127.0.0.1", "NODEID": "0"}
        monkeypatch.setenv("MASTER_PORT", str(server.getsockname()[1]))
    processes = []
    for rank in ("0", "1"):
        for name, value in (job | {"PROCID": rank, "LOCALID": rank}).items():
            monkeypatch.setenv(f"SLURM_{name}", value)
        words = ("--recipe", "train_everything", *fault("training", 1, "error", False))
        processes.append(start(blobs, tmp_path, *words, err=f"err.{rank}"))

    assert [process.wait(timeout=200) for process in processes] == [1, 1]
    lines = [(tmp_path / f"err.{rank}").read_text() for rank in range(2)]
    assert lines[1].startswith("resnet-tl: process 1 of 2 failed: ValueError: a cosmic ray came by; ")
    lost = "resnet-tl: process 0 of 2 lost the connection to another one: .*(closed|reset) by peer.*; go on with: .*\n"
    assert re.fullmatch(lost, lines[0]), lines[0]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--data.root", "nowhere"), ".*nowhere.*"),
        (("--trainer.num_nodes", "2"), "trainer.num_nodes is 2: .*torchrun.*"),
        (("--trainer.sync_batchnorm", "true"), "trainer.sync_batchnorm is true, but torch shares .* on GPUs only.*"),
    ],
)
def test_a_users_mistake_is_reported_before_other_processes_start(
    blobs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    flags: tuple[str, str],
    said: str,
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)

    assert main(["fit", "--recipe", "freeze_backbone", "--data.root", str(blobs), *FLAGS, *TWO, *flags]) == 2
    assert re.fullmatch(f"resnet-tl: {said}\n", capfd.readouterr().err)
