"""Where the time of a fit goes: a stopwatch that always runs on one of a few parts.

Seconds of wall time of the main thread; on a GPU, work counts where it is waited for. What runs in another thread or
process costs the main thread only what it waits, and that counts where it waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Part = Literal[
    "start-up",  # imports, the parser, the network and its weights, all before the first step
    "pixels",  # decoding, and filling the pixel cache
    "activations",  # the frozen prefix, computed once per image and view
    "input",  # waiting for batches
    "training",  # forward, backward and optimizer step
    "validation",
    "evidence",  # baselines, neighbours and a map of the validation images
    "files",  # checkpoints, tables and figures
    "rest",
]

NAMES: dict[Part, str] = {
    "start-up": "start-up",
    "pixels": "decoding of images",
    "activations": "frozen stages",
    "input": "waiting for batches",
    "training": "forward, backward, step",
    "validation": "validation",
    "evidence": "baselines, neighbours, map",
    "files": "checkpoints, tables, figures",
    "rest": "rest",
}
"""What a part is called where it is shown."""


class Stopwatch:
    """Seconds by part; what no span measures counts for the phase."""

    def __init__(self, phase: Part = "rest") -> None:
        self.begin(phase)

    def begin(self, phase: Part) -> None:
        """Sets it to zero, as at the start of a command."""
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
begin, phase, measure, seconds = _watch.begin, _watch.phase, _watch.measure, _watch.seconds
"""Those of the process's own stopwatch."""
