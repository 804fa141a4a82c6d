"""Where the time of a fit goes: a stopwatch that always runs on one of a few parts.

Seconds of wall time of the main thread; on a GPU, work counts where it is waited for. What runs in another thread or
process costs the main thread only what it waits, and that counts where it waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

Part = Literal[
    "start-up",  # imports, the parser, the network and its weights, all before the first step
    "pixels",  # decoding, and filling the pixel cache
    "activations",  # the frozen prefix, computed once per image and view
    "input",  # waiting for batches
    "training",  # forward, backward and optimizer step
    "validation",
    "files",  # checkpoints, tables and figures
    "rest",
]


class Stopwatch:
    """Seconds by part; what no span measures counts for the phase."""

    def __init__(self, phase: Part = "rest") -> None:
        self._open: list[Part] = [phase]
        self._seconds: dict[Part, float] = {}
        self._since = time.perf_counter()

    def phase(self, part: Part) -> None:
        """From now on, what stands outside every `measure` counts for this part."""
        if threading.current_thread() is threading.main_thread():
            self._charge()
            self._open[0] = part

    @contextmanager
    def measure(self, part: Part) -> Iterator[None]:
        """Counts the seconds of a `with` block; those of a block inside it count for that one alone.

        Not across a `yield` of the measured code: the span would go on while others run.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._charge()
        self._open.append(part)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def seconds(self) -> dict[Part, float]:
        """Seconds so far by part, in the order in which the parts began; their sum is all time since the start."""
        self._charge()
        return dict(self._seconds)

    def _charge(self) -> None:
        now = time.perf_counter()
        self._seconds[self._open[-1]] = self._seconds.get(self._open[-1], 0.0) + now - self._since
        self._since = now


_watch = Stopwatch()


def begin(part: Part) -> None:
    """Sets the process's stopwatch to zero, as at the start of a command."""
    global _watch
    _watch = Stopwatch(part)


def phase(part: Part) -> None:
    """From now on, what stands outside every `measure` counts for this part."""
    _watch.phase(part)


def measure(part: Part) -> AbstractContextManager[None]:
    """Counts the seconds of a `with` block for a part.

    Example:
        >>> with measure("pixels"):
        ...     pass
    """
    return _watch.measure(part)


def seconds() -> dict[Part, float]:
    """Seconds since `begin` by part."""
    return _watch.seconds()
