"""Ctrl-C, SIGTERM and a batch system's warning: while a fit trains they wait until its state can be saved."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

AT_ONCE = 1.0
"""Seconds after which a second Ctrl-C means: now. One that comes sooner is the same one, passed on by a launcher."""
PATIENCE = 10.0
"""Seconds after which another SIGTERM means: the first one was in vain. One that comes sooner ends nothing twice."""
UNHEARD = 60.0
"""Seconds in which Python must hear a signal: more than any step; where a library waits for the dead, it never does."""

_requested: tuple[signal.Signals, float] | None = None  # the first signal, and when it came
_waiting = False
_handles = False
_heard = 0.0  # when a signal last reached Python
_passed_to: Path | None = None


class Stopped(BaseException):
    """A signal has ended the work; no `except Exception` is to swallow it, as with KeyboardInterrupt.

    `advice` is what to type next; `together`: all processes of a fit stop at this same step.
    """

    def __init__(self, number: int, advice: str = "", together: bool = False) -> None:
        self.signal = signal.Signals(number)
        self.advice = advice
        self.together = together
        super().__init__(f"stopped by {'Ctrl-C' if number == signal.SIGINT else self.signal.name}{advice}")

    def _render_traceback_(self) -> list[str]:
        """What IPython prints in place of a stack trace."""
        return [str(self)]

    @property
    def exit_code(self) -> int:
        """As a shell reports it: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + self.signal


@contextmanager
def handled() -> Iterator[None]:
    """Takes the signals over; gives them back at the end."""
    global _requested, _waiting, _handles
    if not _in_main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _signals()}
    install()
    outer, _handles = _handles, True
    try:
        with _guarded():
            yield
    finally:
        _requested, _waiting, _handles = None, False, outer
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def before_training() -> Iterator[None]:
    """A Ctrl-C that nobody has taken over ends what a plain Trainer does as it ends the command.

    Lightning would end the whole program for it, and in a notebook deafen it to the next one.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(signal.SIGINT, " before the training began") from None


def install(signals: Sequence[signal.Signals] | None = None) -> None:
    """Takes the signals over, all or some; again after a library has done so."""
    if _in_main_thread():
        for number in _signals() if signals is None else signals:
            signal.signal(number, _on_signal)


@contextmanager
def untouched() -> Iterator[None]:
    """Lets a signal end the process as it ends any other: a library that is half loaded survives no exception."""
    if _in_main_thread():
        for number in _signals():
            signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        install()


@contextmanager
def passed_on(file: Path) -> Iterator[None]:
    """Writes the numbers of signals into a file, for the processes that do the work, and nothing else."""
    global _passed_to
    _passed_to = file
    try:
        yield
    finally:
        _passed_to = None


def wait(begins: bool) -> None:
    """Whether from now on a signal is only noted; otherwise it raises Stopped where it comes."""
    global _waiting
    _waiting = begins


def requested() -> int | None:
    """The number of the first signal that came; None while there was none."""
    return _requested[0] if _requested else None


def check() -> None:
    """Raises Stopped after a signal that waits, or whose exception was lost in a library's callback."""
    if number := requested():
        raise Stopped(number)


def forget() -> None:
    """After a fit that broke off outside of the command: the next one of this process is not to stop as well."""
    global _requested
    if not _handles:
        _requested = None


def _on_signal(number: int, frame: FrameType | None) -> None:
    global _heard, _requested
    _heard = now = time.monotonic()
    if _passed_to:
        with _passed_to.open("a") as file:
            file.write(f"{int(number)}\n")
        return
    if is_first := _requested is None:
        _requested = signal.Signals(number), now
    is_same = not is_first and now - _requested[1] < (AT_ONCE if number == signal.SIGINT else PATIENCE)
    if not is_same and not (_waiting and (is_first or number != signal.SIGINT)):
        raise Stopped(_requested[0])


@contextmanager
def _guarded() -> Iterator[None]:
    """Ends this process after a signal that Python does not get to hear."""
    if sys.platform == "win32":  # which wakes by sockets alone
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_guard, args=[reader], name="guard-signals", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)  # at which the thread ends


def _guard(reader: int) -> None:
    while number := os.read(reader, 1):
        came = time.monotonic()
        if number[0] not in _signals():
            continue
        while _heard < came - AT_ONCE and time.monotonic() < came + UNHEARD:
            time.sleep(0.1)
        if _heard < came - AT_ONCE:
            print(f"resnet-tl: {Stopped(number[0])} while it waited in vain", file=sys.stderr, flush=True)
            os._exit(128 + number[0])
    os.close(reader)


def _in_forked_child() -> None:
    """A process that loads images is ended by the one that forked it, and writes nothing into that one's guard."""
    if signal.getsignal(signal.SIGTERM) is _on_signal:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_forked_child)


def _signals() -> list[signal.Signals]:
    signals = [signal.SIGINT, signal.SIGTERM]
    if "SLURM_JOB_ID" in os.environ and sys.platform != "win32":  # `#SBATCH --signal=USR1@90`: the time is nearly up
        signals.append(signal.SIGUSR1)
    return signals


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
