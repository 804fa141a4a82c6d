from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resnet_tl import stopping


@pytest.fixture(autouse=True)
def handled():
    with stopping.handled():
        yield


def test_a_signal_ends_what_does_not_wait_at_once():
    with pytest.raises(stopping.Stopped, match="stopped by SIGTERM") as stopped:
        os.kill(os.getpid(), signal.SIGTERM)

    assert stopped.value.exit_code == 143


def test_while_training_waits_a_signal_is_only_noted():
    stopping.wait(True)

    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)  # a launcher passes on what it got

    assert stopping.requested() == signal.SIGINT
    with pytest.raises(stopping.Stopped, match="stopped by Ctrl-C"):
        stopping.check()


def test_a_second_ctrl_c_ends_the_waiting(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stopping, "AT_ONCE", 0.0)
    stopping.wait(True)
    signal.raise_signal(signal.SIGTERM)

    with pytest.raises(stopping.Stopped, match="stopped by SIGTERM"):
        signal.raise_signal(signal.SIGINT)


def test_a_signal_that_is_passed_on_does_not_break_into_the_end(monkeypatch: pytest.MonkeyPatch):
    for number in (signal.SIGINT, signal.SIGTERM):
        with stopping.handled():
            with pytest.raises(stopping.Stopped):
                signal.raise_signal(number)
            signal.raise_signal(number)  # while the newest checkpoint is written


def test_a_signal_whose_exception_was_lost_is_heard_the_next_time(monkeypatch: pytest.MonkeyPatch):
    class Lost:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(sys, "unraisablehook", lambda lost: None)
    Lost()
    with pytest.raises(stopping.Stopped, match="SIGTERM"):
        stopping.check()
    monkeypatch.setattr(stopping, "PATIENCE", 0.0)
    with pytest.raises(stopping.Stopped, match="SIGTERM"):
        signal.raise_signal(signal.SIGTERM)


def test_the_warning_of_a_batch_system_counts_in_a_job_alone(monkeypatch: pytest.MonkeyPatch):
    before = signal.getsignal(signal.SIGUSR1)
    stopping.install()
    assert signal.getsignal(signal.SIGUSR1) is before

    monkeypatch.setenv("SLURM_JOB_ID", "1")
    with stopping.handled(), pytest.raises(stopping.Stopped, match="SIGUSR1"):
        signal.raise_signal(signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) is before


def test_signals_that_are_passed_on_stop_nothing_here(tmp_path: Path):
    with stopping.passed_on(tmp_path / "signals"):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)

    assert (tmp_path / "signals").read_text().split() == ["2", "15"]
    assert stopping.requested() is None
    with pytest.raises(stopping.Stopped, match="Ctrl-C"):
        signal.raise_signal(signal.SIGINT)


def test_nothing_is_left_behind():
    outer = signal.getsignal(signal.SIGINT)
    with stopping.handled():
        stopping.wait(True)
        signal.raise_signal(signal.SIGTERM)

    assert stopping.requested() is None
    assert signal.getsignal(signal.SIGINT) is outer


def test_no_torch_is_needed_to_stop():
    code = "import sys, resnet_tl.stopping; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


LOCKED = """
import ctypes, sys
from resnet_tl import stopping
stopping.UNHEARD = 0.5
with stopping.handled():
    lock = ctypes.create_string_buffer(64)
    library = ctypes.CDLL(None)
    library.pthread_mutex_lock(lock)
    print("locked", flush=True)
    library.pthread_mutex_lock(lock)  # as a library waits for a process that is gone
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a mutex of zeros is Linux's")
@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
def test_a_signal_that_python_does_not_hear_ends_the_process(number: signal.Signals, name: str):
    process = subprocess.Popen(
        [sys.executable, "-c", LOCKED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    time.sleep(1)  # until it waits

    process.send_signal(number)

    _, errors = process.communicate(timeout=10)
    assert process.returncode == 128 + number
    assert errors == f"resnet-tl: stopped by {name} while it waited in vain\n"


def test_a_signal_that_is_noted_is_heard(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stopping, "UNHEARD", 0.1)
    stopping.wait(True)
    signal.raise_signal(signal.SIGTERM)
    time.sleep(0.5)  # the process still lives
    assert stopping.requested() == signal.SIGTERM


def test_what_is_loaded_is_not_interrupted():
    code = (
        "import signal; from resnet_tl import stopping\nwith stopping.handled(), stopping.untouched(): signal.pause()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    while process.poll() is None:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    assert process.returncode == -signal.SIGTERM
    assert process.communicate()[1] == b""


def test_a_forked_child_is_ended_by_its_parent_alone():
    child = os.fork()
    if not child:
        signal.raise_signal(signal.SIGINT)  # as Ctrl-C reaches all processes of a terminal
        signal.raise_signal(signal.SIGTERM)
        os._exit(1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
    assert stopping.requested() is None


def test_outside_of_the_command_a_stop_counts_for_one_fit():
    code = """
import signal
from resnet_tl import stopping
stopping.install()
stopping.wait(True)
signal.raise_signal(signal.SIGINT)
stopping.wait(False)
stopping.forget()
stopping.check()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_within_the_command_a_stop_is_not_forgotten():
    stopping.wait(True)
    signal.raise_signal(signal.SIGTERM)
    stopping.forget()
    assert stopping.requested() == signal.SIGTERM
