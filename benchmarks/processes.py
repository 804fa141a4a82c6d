"""Runs a command as a fresh process and measures the whole of it: wall time, CPU time, peak memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

INTERVAL = 0.5
"""Seconds between two looks at the memory of a process tree: often enough for a plateau, too seldom to cost time."""


@dataclass(frozen=True)
class Cost:
    """What a process and its children cost.

    Args:
        wall: seconds from start to end.
        cpu: seconds in user and system mode, of children too.
        memory: bytes. The larger of two: the peak resident memory of the largest single process, which the system
            keeps exactly, and the highest sum seen over all processes at one time, in which a page that several share
            is divided among them (proportional set size; Linux only).
        load: the machine's one-minute load average before the start; near 0 on a quiet machine.
    """

    wall: float
    cpu: float
    memory: int
    load: float


class CommandFailed(SystemExit):
    """A measured command ended with an error; the benchmark ends too, with what the command said."""


def measure(command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None) -> Cost:
    """Runs a command to its end; what it prints goes to `log`.

    Raises:
        CommandFailed: it did not end with 0; the message has the last lines of what it printed.
    """
    load = os.getloadavg()[0]
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,  # its children are found by their session
        )
        watch = _MemoryWatch(process.pid)
        try:
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - started
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            watch.stop()
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        tail = log.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise CommandFailed(f"{' '.join(map(str, command))} ended with {process.returncode}:\n{tail}")
    largest = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Cost(wall, usage.ru_utime + usage.ru_stime, max(largest, watch.peak), load)


class _MemoryWatch:
    """Looks at the memory of a session's processes until it is stopped."""

    def __init__(self, session: int) -> None:
        self.session = session
        self.peak = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stopped.wait(INTERVAL):
            self.peak = max(self.peak, sum(map(_proportional, _members(self.session))))


def _members(session: int) -> list[Path]:
    folders = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # After the name in brackets, which may hold spaces: state, parent, group, session.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[3]) == session:
            folders.append(folder)
    return folders


def _proportional(folder: Path) -> int:
    try:
        for line in (folder / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
