"""The heavy imports of a command: said before they begin, and not slowed down by Python's garbage collector."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from resnet_tl import __version__, failures

LINE = f"resnet-tl {__version__}: loading PyTorch"


@contextmanager
def loading(is_log: bool = False) -> Iterator[None]:
    """For a block that imports torch, which takes many seconds where the disk is cold.

    It is a line of output for a command whose output is a log; of another one a terminal shows it as long as it lasts.

    The garbage collector would search half a million objects of modules, of which nothing is ever garbage, time and
    again; nor does it search them when the process ends. Measured for `fit`: 5.4 s of imports become 4.1 s, and 1.7 s
    between the last line and the end of the process become 0.3 s.
    """
    is_live = not is_log and sys.stderr.isatty()
    if is_log and not failures.rank:
        print(f"{LINE} in {failures.world} processes" if failures.world > 1 else LINE, flush=True)
    if is_live:
        print(LINE, end="", file=sys.stderr, flush=True)
    was_enabled = gc.isenabled()
    gc.disable()
    atexit.register(gc.freeze)
    try:
        yield
    finally:
        if is_live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        if was_enabled:
            gc.enable()
