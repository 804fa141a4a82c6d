"""Where the processes of a fit meet before they connect: the wait can be stopped, and only those of one start meet.

torchrun keeps one store over all its restarts, in which the new processes find the addresses of the dead ones
(https://github.com/pytorch/pytorch/issues/135712); and its count of restarts differs from machine to machine.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import socket
import sys
import time
import uuid
from collections.abc import Callable
from datetime import timedelta

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch.distributed import PrefixStore, Store, TCPStore

from resnet_tl.errors import UserError

LONGEST_WAIT = timedelta(hours=1)
"""For a process that is busy alone, such as one that writes a bundle to a slow disk; torch's are 10 or 30 minutes."""
TELLS_AFTER = 10.0
"""Seconds of waiting after which a line says for whom."""

log = logging.getLogger(__name__)
_met: Store | None = None  # under torchrun, which has started all processes before this program begins


def meet_by_torchrun() -> None:
    """Meets the processes that torchrun has started with this one; then all know whether it has done so before."""
    global _met
    environment = os.environ
    world = int(environment.get("WORLD_SIZE") or 1)
    if "TORCHELASTIC_RUN_ID" not in environment or world == 1:
        return
    rank, address, port = int(environment["RANK"]), environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
    _met, restarts = meet(address, port, rank, world, _serves(rank), int(environment["TORCHELASTIC_RESTART_COUNT"]))
    environment["TORCHELASTIC_RESTART_COUNT"] = str(restarts)


def connect(strategy: DDPStrategy) -> None:
    """Meets the other processes, unless that is done, and makes the process group.

    Raises:
        UserError: the port is taken, or one of them did not come.
    """
    if torch.distributed.is_initialized():  # for the training, which a validation follows
        return
    cluster = strategy.cluster_environment
    assert cluster is not None
    strategy.set_world_ranks()
    rank, world = strategy.global_rank, strategy.world_size
    store = _met or meet(cluster.main_address, cluster.main_port, rank, world, _serves(rank))[0]
    device = strategy.root_device
    backend = strategy._get_process_group_backend()
    torch.distributed.init_process_group(
        backend,
        store=store,
        rank=rank,
        world_size=world,
        timeout=LONGEST_WAIT,
        device_id=None if device.type == "cpu" else device,
    )
    if backend == "nccl":
        atexit.register(_leave)


def meet(address: str, port: int, rank: int, world: int, serves: bool, restarts: int = 0) -> tuple[Store, int]:
    """Waits until all processes of this start are there.

    Each gives itself a name; process 0 waits for the names and publishes the list. Who does not find its own name in it
    has met the list of an earlier start, and asks again.

    Args:
        address: of the machine of process 0, or of torchrun there.
        port: there.
        rank: this process among all.
        world: how many there are.
        serves: whether this process holds the store.
        restarts: how often this process believes to have been started before.

    Returns:
        The store, for this start alone; how often there was a start before, by the one that has seen most.
    """
    store = _open(address, port, rank, serves)
    name = uuid.uuid4().hex
    if rank == 0:
        own = [name, max(restarts, store.add("resnet-tl/starts", 1) - 1)]
        store.set("resnet-tl", name)
        missing = list(range(1, world))
        wait = _Wait(lambda: f"process {', '.join(map(str, missing))} of {world}")
        while missing := [other for other in missing if not store.check([f"{name}/{other}"])]:
            wait.on()
        come = [own, *(json.loads(store.get(f"{name}/{other}")) for other in range(1, world))]
        store.set(f"{name}/all", json.dumps(come))
        return PrefixStore(name, store), max(count for _, count in come)
    wait = _Wait(lambda: f"process 0 of {world}, on {address}")
    while True:
        wait.on()
        if store.check(["resnet-tl"]):
            start = store.get("resnet-tl").decode()
            store.set(f"{start}/{rank}", json.dumps([name, restarts]))
            if store.check([f"{start}/all"]):
                come = json.loads(store.get(f"{start}/all"))
                if name in [other for other, _ in come]:
                    return PrefixStore(start, store), max(count for _, count in come)


def _serves(rank: int) -> bool:
    """Whether this process is to hold the store; torchrun does so in most cases."""
    return rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"


def _leave() -> None:
    """What NCCL warns of when it is left out."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _open(address: str, port: int, rank: int, serves: bool) -> Store:
    """The store that process 0 or torchrun holds."""
    if not serves:
        wait = _Wait(lambda: f"process 0, on {address} port {port}")
        while not _answers(address, port):  # torch's own attempts cannot be interrupted
            wait.on()
    try:
        return TCPStore(
            address,
            port,
            is_master=serves,
            timeout=LONGEST_WAIT,
            wait_for_workers=False,
            multi_tenant=True,
            use_libuv=sys.platform != "win32",
        )
    except RuntimeError as error:
        if "EADDRINUSE" in str(error) or "in use" in str(error):
            raise UserError(
                f"Port {port} of {address} is taken by another program: give another one by MASTER_PORT."
            ) from None
        raise


def _answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=2).close()
    except OSError:
        return False
    return True


class _Wait:
    """A pause between two looks, in which signals are heard.

    Args:
        whom: is waited for; in words.
    """

    def __init__(self, whom: Callable[[], str]) -> None:
        self.whom = whom
        self.began = time.monotonic()
        self.told = False

    def on(self) -> None:
        """Sleeps a little; UserError when it has taken too long."""
        time.sleep(0.05)
        waited = time.monotonic() - self.began
        if waited > TELLS_AFTER and not self.told:
            log.info(f"waits for {self.whom()}")
            self.told = True
        if waited > LONGEST_WAIT.total_seconds():
            raise UserError(
                f"Waited an hour for {self.whom()}; start it too, with the same MASTER_ADDR and MASTER_PORT."
            )
