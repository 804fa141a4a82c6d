from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from torch.distributed import Store, TCPStore

from resnet_tl.errors import UserError
from resnet_tl.training import rendezvous
from resnet_tl.training.rendezvous import meet

ALONE = """
import logging, sys
from resnet_tl import stopping
from resnet_tl.training import rendezvous
rendezvous.TELLS_AFTER = 0.1
logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stdout)
rank, port = int(sys.argv[1]), int(sys.argv[2])
with stopping.handled():
    print("begins", flush=True)
    rendezvous.meet("127.0.0.1", port, rank, 3, rank == 0)
"""


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def torchruns_store(port: int) -> TCPStore:
    return TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False, multi_tenant=True)


def all_meet(port: int, counts: list[int], serves: bool = False) -> list[int]:
    """How often each believes to have been started, after all have proved that they share a store."""

    def start(rank: int) -> tuple[Store, int]:
        store, restarts = meet("127.0.0.1", port, rank, len(counts), serves and rank == 0, counts[rank])
        store.set(f"address of {rank}", str(number))
        for other in range(len(counts)):
            assert store.get(f"address of {other}") == str(number).encode()
        return store, restarts  # the one that holds the store serves the others until the end

    number = time.monotonic_ns()
    with ThreadPoolExecutor(len(counts)) as pool:
        # The first process comes last, when the others have seen what an earlier one has left.
        started = [pool.submit(start, rank) for rank in reversed(range(1, len(counts)))]
        time.sleep(0.3)
        started.append(pool.submit(start, 0))
        return [process.result(timeout=30)[1] for process in reversed(started)]


def test_the_first_start_is_known_to_be_one(port: int):
    assert all_meet(port, [0, 0, 0], serves=True) == [0, 0, 0]


def test_a_new_start_does_not_meet_the_dead_of_an_earlier_one(port: int, torchruns_store: TCPStore):
    assert [all_meet(port, [0, 0, 0])[0] for _ in range(3)] == [0, 1, 2]


def test_all_know_what_one_machine_has_counted(port: int):
    assert all_meet(port, [0, 2, 0], serves=True) == [2, 2, 2]


def test_a_process_that_died_while_it_waited_is_not_waited_for(port: int, torchruns_store: TCPStore):
    process = subprocess.Popen([sys.executable, "-c", ALONE, "1", str(port)], stdout=subprocess.PIPE, text=True)
    torchruns_store.set("resnet-tl", "a start whose first process died")
    while not torchruns_store.check(["a start whose first process died/1"]):
        time.sleep(0.05)
    process.kill()
    process.communicate()

    assert all_meet(port, [0, 0]) == [0, 0]


@pytest.mark.parametrize(("rank", "number"), [(0, signal.SIGINT), (1, signal.SIGTERM)])
def test_the_wait_says_for_whom_and_can_be_stopped(port: int, rank: int, number: signal.Signals):
    process = subprocess.Popen(
        [sys.executable, "-c", ALONE, str(rank), str(port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begins\n"
    expected = "waits for process 1, 2 of 3\n" if rank == 0 else f"waits for process 0, on 127.0.0.1 port {port}\n"
    assert process.stdout.readline() == expected

    process.send_signal(number)

    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "Stopped" in errors


def test_a_port_that_is_taken(port: int):
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(UserError, match=f"Port {port} of 127.0.0.1 is taken"),
    ):
        meet("127.0.0.1", port, 0, 2, True)


def test_torchrun_tells_nothing_where_it_started_one_process(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "1")
    rendezvous.meet_by_torchrun()
    assert rendezvous._met is None
    assert "TORCHELASTIC_RESTART_COUNT" not in os.environ
