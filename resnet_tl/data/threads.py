"""One function over many rows, in as many threads as this process may use cores."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np

from resnet_tl.terminal import counted

CHUNK = 16
"""Rows that a thread takes at a time: the bookkeeping of one row each would cost as much as hashing a small file."""


def usable_cores() -> int:
    """Cores that this process may use; a container or a job often has fewer than the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def for_each(rows: np.ndarray, work: Callable[[int], None], what: str = "looking at") -> None:
    """Calls `work` with each of `rows`, in no certain order, in as many threads as there are usable cores.

    A command shows how far it is as `what`. The first error of `work` is raised, and the rows that no thread has begun
    are left.
    """
    with counted(what, len(rows)) as advance:

        def work_on(chunk: np.ndarray) -> None:
            for row in chunk.tolist():
                work(row)
                advance(1)

        chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
        pool = ThreadPoolExecutor(usable_cores())
        try:
            for _ in pool.map(work_on, chunks):
                pass  # taking the results raises the errors
        finally:
            pool.shutdown(cancel_futures=True)


@cache
def one_core_each() -> Callable[[], None]:
    """What a thread that decodes does first: torch must not share its small steps out to the network's cores."""
    import torch
    from threadpoolctl import ThreadpoolController

    pools = ThreadpoolController().select(user_api="openmp")

    def begin() -> None:
        torch.get_num_threads()  # torch sets this thread's number once, when it is first asked: not after us
        pools.limit(limits=1)

    return begin
