"""What is seen of a command while it works: lines, and in a terminal a live bar below them for each long piece of work.

Everything goes through one console, so that nothing is written into a live bar. A Python program that uses the package
sees nothing of it: the command line asks for it by `shown`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from resnet_tl import failures
from resnet_tl.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

PATIENCE = 1.5
"""Seconds that a piece of work may last unseen."""
REDRAWN_EVERY = 0.1


class Screen:
    """Lines and live bars on one console; safe to call from threads.

    By default on standard output, on which without a terminal a line is a line, however long; or on standard error,
    `beside` an output that is not a log.
    """

    def __init__(self, console: Console | None = None, *, beside: bool = False) -> None:
        self._console = console
        self._beside = beside
        self._bars: Progress | None = None
        self._lock = RLock()

    @cached_property
    def console(self) -> Console:
        """The console that everything is written to."""
        from rich.console import Console

        # The cell of a notebook keeps what is written, whatever a program believes to have overwritten there.
        is_terminal = (sys.stderr if self._beside else sys.stdout).isatty() and "JPY_PARENT_PID" not in os.environ
        plain: Any = {"highlight": False, "markup": False, "emoji": False}
        width = None if is_terminal else 1000
        return self._console or Console(stderr=self._beside, width=width, force_terminal=is_terminal, **plain)

    @property
    def is_terminal(self) -> bool:
        """Whether there are live bars."""
        return self.console.is_terminal

    def print(self, what: Any = "", is_command: bool = False) -> None:
        """A line of text, or what rich can draw; a name in a text cannot steer the terminal.

        A line is folded between words, but a command stays one, so that it can be copied from the terminal, and text
        of several lines, such as a table, stays as it is.
        """
        what = printable(what) if isinstance(what, str) else what
        is_line = is_command or not self.is_terminal or (isinstance(what, str) and "\n" in what)
        self.console.print(what, markup=False, emoji=False, highlight=False, soft_wrap=is_line)

    def begin(self, what: str, total: float | None) -> TaskID:
        """A new live bar, of which `what` says what is done; in a terminal alone."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        with self._lock:
            if self._bars is None:
                self._bars = Progress(
                    TextColumn("{task.description}", markup=False),
                    BarColumn(bar_width=16),
                    TextColumn("{task.fields[text]}", markup=False),
                    TimeRemainingColumn(compact=True),
                    console=self.console,
                    transient=True,
                )
                self._bars.start()
            return self._bars.add_task(what, total=total, text="")

    def update(self, task: TaskID, **fields: Any) -> None:
        """Shows how far a bar is: `completed`, `text`, `description`."""
        if self._bars is not None:
            self._bars.update(task, **fields)

    def end(self, task: TaskID) -> None:
        """Removes a bar; the last one gives the terminal back as it was."""
        with self._lock:
            if self._bars is None:
                return
            self._bars.remove_task(task)
            if not self._bars.tasks:
                self._bars.stop()
                self._bars = None

    @contextmanager
    def counted(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """Shows work on `total` images once it has lasted some time; gives what is called after each few of them."""
        started = drawn = time.monotonic()
        done, task, is_said = 0, None, False

        def advance(images: int) -> None:
            nonlocal done, drawn, task, is_said
            with self._lock:
                done += images
                now = time.monotonic()
                if now - started < PATIENCE or now - drawn < REDRAWN_EVERY or done == total:
                    return
                drawn, text = now, f"{done:,} of {total:,} images"
                if self.is_terminal:
                    task = self.begin(what, total) if task is None else task
                    self.update(task, completed=done, text=text)
                elif not is_said:
                    is_said = True
                    self.print(f"{what}: {text} after {now - started:.0f} s")
                    self.console.file.flush()

        try:
            yield advance
        finally:
            if task is not None:
                self.end(task)


_screen: Screen | None = None


@contextmanager
def shown(screen: Screen | None = None) -> Iterator[Screen]:
    """What the package does inside the block is shown on a screen."""
    global _screen
    before, _screen = _screen, screen or Screen()
    try:
        yield _screen
    finally:
        _screen = before


def current() -> Screen:
    """The screen that is in use; outside of `shown` a new one."""
    return _screen or Screen()


@contextmanager
def counted(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """`Screen.counted` on the screen in use; where there is none, or another process shows it, nothing is shown."""
    if _screen is None or failures.rank:
        yield lambda images: None
        return
    with _screen.counted(what, total) as advance:
        yield advance


def shortest(path: Path) -> str:
    """How a path is shown: relative to the working folder when that is below it, else absolute."""
    absolute, here = path.resolve(), Path.cwd().resolve()
    return absolute.relative_to(here).as_posix() if absolute.is_relative_to(here) else str(path)
