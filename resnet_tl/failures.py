"""An error in one of several processes: one message for all of them, each one's stack trace in a file, and an end."""

from __future__ import annotations

import getpass
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote
from typing import NoReturn

from resnet_tl.errors import UserError
from resnet_tl.stopping import Stopped

FIRST = "RESNET_TL_FIRST"
"""The process number of the one that started the others of its machine; they inherit the variable."""
PATIENCE = 3.0
"""Seconds in which the process that failed has told so, and in which the others end by themselves."""
# What gloo, NCCL and their store say where another process is gone.
LOST = ("closed by peer", "reset by peer", "broken pipe", "recvbytes", "sendbytes", "recvvalue", "timed out", "nccl")

rank = int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or os.environ.get("LOCAL_RANK") or 0)
"""This process among all; set anew where a trainer knows better."""
world = int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_NTASKS") or 1)
"""How many there are; set anew when a trainer starts others."""
run: Path | None = None
"""The run's folder, once there is one."""


@contextmanager
def told_once() -> Iterator[None]:
    """Ends this process, when it is one of several, by what the first of them to fail has told.

    Alone, or before others were started, it does nothing. It does not return to a caller after an error: what a library
    does at the end of a process may wait for those that are gone.
    """
    try:
        yield
    except (Exception, Stopped) as error:
        is_agreed = isinstance(error, Stopped) and error.together
        if not is_one_of_several() or is_agreed or isinstance(error, BrokenPipeError):
            raise
        end_by(error)


def is_one_of_several() -> bool:
    """Whether other processes do the same work."""
    return world > 1


def has_parent() -> bool:
    """Whether another process of this machine has started this one and watches it."""
    return os.environ.get(FIRST, str(os.getpid())) != str(os.getpid())


def end_by(error: BaseException) -> NoReturn:
    """Writes the stack trace, tells of the error unless another one came first, and ends this process."""
    if isinstance(error, Stopped):
        end(tell(str(error), error.exit_code, is_plain=True))
    kept = keep_trace("".join(traceback.format_exception(error)))
    code = 2 if isinstance(error, UserError) else 1
    if is_loss(error):
        _wait(lambda: _claimed_code() is not None)
        text = "lost the connection to another process, which was killed or whose machine is gone"
    elif isinstance(error, UserError):
        text = str(error)
    else:
        text = f"failed: {type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    end(tell(text, code, is_plain=isinstance(error, UserError), trace=None if kept else error))


def tell(
    text: str, code: int, is_plain: bool = False, of: int | None = None, trace: BaseException | None = None
) -> int:
    """Prints one line, unless another process of this machine has told of an error.

    Args:
        text: what happened; continues "process 1 of 2", unless it `is_plain`.
        code: with which all processes shall end.
        is_plain: it needs no more words.
        of: the process that it is about; default: this one.
        trace: is printed after it.

    Returns:
        The code with which all shall end.
    """
    if not _claim(code):
        return _claimed_code() or code
    if not is_plain:
        text = f"process {rank if of is None else of} of {world} {text}"
        if run and (run / "errors").is_dir():
            text += f"; the stack traces are in {run / 'errors'}"
        if run and (run / "checkpoints" / "last.ckpt").is_file():
            text += f"; go on with: resnet-tl fit --resume {quote(str(run))}"
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K\x1b[?25h")  # a progress bar may have hidden the cursor
    if trace is not None and not is_plain:
        traceback.print_exception(trace)
    print(f"resnet-tl: {text}", file=sys.stderr, flush=True)
    return code


def keep_trace(text: str) -> bool:
    """Writes this process's stack trace into the run; False where there is none or it cannot be written."""
    if run is None:
        return False
    file = run / "errors" / f"rank-{rank}.txt"
    try:
        file.parent.mkdir(exist_ok=True)
        with file.open("a", encoding="utf-8") as opened:
            opened.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')}\n{text}\n")
    except OSError:
        return False
    return True


def end(code: int) -> NoReturn:
    """Ends this process here and now; connections close, so that others notice."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)


def is_loss(error: BaseException) -> bool:
    """Whether it only says that another process is gone."""
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in LOST)


def forget() -> None:
    """Before others are started: what an earlier process of the same number told."""
    with suppress(OSError):
        _claim_file().unlink()


def _claim(code: int) -> bool:
    """Whether this process is the first of its machine to fail."""
    file = _claim_file()
    with suppress(OSError):
        if time.time() - file.stat().st_mtime > 600:  # of other processes, long ago
            file.unlink()
    try:
        handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return False
    except OSError:  # rather tell twice than not at all
        return True
    os.write(handle, str(code).encode())
    os.close(handle)
    return True


def _claimed_code() -> int | None:
    """With which code all end, once one has told so."""
    try:
        return int(_claim_file().read_text() or 1)
    except (OSError, ValueError):
        return None


def _claim_file() -> Path:
    """One for the processes of this machine: torchrun or srun is the parent of all, else the first one is."""
    first = os.environ.get(FIRST) or os.getppid()
    restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return Path(tempfile.gettempdir()) / f"resnet-tl-{getpass.getuser()}-{first}-{restarts}.failed"


def _wait(is_done: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE
    while not is_done() and time.monotonic() < ends:
        time.sleep(0.05)
