from __future__ import annotations

import os
import signal
import subprocess
import sys

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


def test_the_warning_of_a_batch_system_counts_in_a_job_alone(monkeypatch: pytest.MonkeyPatch):
    before = signal.getsignal(signal.SIGUSR1)
    stopping.install()
    assert signal.getsignal(signal.SIGUSR1) is before

    monkeypatch.setenv("SLURM_JOB_ID", "1")
    with stopping.handled(), pytest.raises(stopping.Stopped, match="SIGUSR1"):
        signal.raise_signal(signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) is before


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
