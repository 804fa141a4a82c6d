"""One process of several: it ends when another one fails, and leaves its own error to the process that reports it."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import NoReturn

from resnet_tl import stopping
from resnet_tl.errors import UserError
from resnet_tl.stopping import Stopped

LAUNCHER = "RESNET_TL_LAUNCHER"
"""Set where `training/trainer/launching.py` has started this process: its process number, and its file of signals."""
LOOKS_EVERY = 0.2
PATIENCE = 7.0
"""Seconds in which a process ends by itself once another one has failed: it may be writing a checkpoint."""
GO_ON = "; go on with: resnet-tl fit --resume "
# What gloo, NCCL and torch's store say of a connection that another process has closed.
LOST = (
    "closed by peer",
    "closed by remote peer",
    "reset by peer",
    "broken pipe",
    "connection was likely closed",
    "ncclremoteerror",
    "communicator was aborted",
)

rank = int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0)
"""This process among all that torchrun or SLURM has started."""
local_rank = int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0)
world = int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_NTASKS") or 1)
run: Path | None = None
"""The run's folder, once there is one."""


class Failed(Exception):
    """An error, in the words in which it is reported."""


class LostConnection(Failed):
    """Another process is gone, and this one ends for it: reported if there is no other error."""


@contextmanager
def reported() -> Iterator[None]:
    """Ends this process, where it is one of several, by an error of its own or of another one."""
    if world == 1:
        yield
        return
    watch = _Watch()
    watch.start()
    try:
        yield
        watch.stop()
    except (SystemExit, BrokenPipeError) as end:  # the latter: the reader, such as `head`, has seen enough
        if not getattr(end, "code", 0):
            watch.stop()
        raise
    except (Exception, Stopped) as error:
        stopping.wait(True)  # torchrun's SIGTERM, which follows the first failure, is to break into nothing
        watch.over.set()
        if isinstance(error, Stopped) and error.together and rank:  # the first process says how all have ended
            watch.stop()
            _exit(0 if local_rank else error.exit_code)
        _end_by(error)


def is_loss(error: BaseException) -> bool:
    """Whether it surely says no more than that another process is gone."""
    is_closed = any(words in str(error).lower() for words in LOST)
    return isinstance(error, LostConnection) or (isinstance(error, RuntimeError) and is_closed)


def say(text: str) -> None:
    """Prints the sentence that a user reads of an error."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K\x1b[?25h")  # a progress bar may have hidden the cursor
    print(f"resnet-tl: {text}", file=sys.stderr, flush=True)


def _end_by(error: BaseException) -> NoReturn:
    """Records the error, and ends this process: what libraries do at the end may wait for those that are gone."""
    from torch.distributed.elastic.multiprocessing.errors import get_error_handler

    is_plain = isinstance(error, UserError | Stopped)
    is_kept = not is_plain and _keep_trace(error)
    if "--debug" in sys.argv or not (is_plain or is_kept or is_loss(error)):
        traceback.print_exception(error)
    record = error if is_plain else (LostConnection if is_loss(error) else Failed)(_sentence(error, is_kept))
    get_error_handler().record_exception(record)
    if _is_to_report(isinstance(record, LostConnection)):
        say(str(record))
    _exit(error.exit_code if isinstance(error, Stopped) else 2 if isinstance(error, UserError) else 1)


def _exit(code: int) -> NoReturn:
    for worker in multiprocessing.active_children():  # which load images, and would notice in five seconds
        worker.kill()
    sys.stdout.flush()
    os._exit(code)


def _sentence(error: BaseException, is_kept: bool) -> str:
    text = next(iter(str(error).strip().splitlines()), "")
    if not isinstance(error, LostConnection):
        how = "lost the connection to another one" if is_loss(error) else f"failed: {type(error).__name__}"
        text = f"process {rank} of {world} {how}: {text}"
    if is_kept:
        text += f"; the stack traces are in {run}/errors"
    if run and any((run / name).is_file() for name in ("checkpoints/last.ckpt", "folds/1/recipe.yaml")):
        text += f"{GO_ON}{quote(str(run))}"
    return text


def _keep_trace(error: BaseException) -> bool:
    """Writes into the run where all threads stand; False where there is no run or it cannot be written."""
    if run is None:
        return False
    try:
        (run / "errors").mkdir(exist_ok=True)
        with (run / "errors" / f"rank-{rank}.txt").open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')}\n{''.join(traceback.format_exception(error))}\n")
            file.flush()
            faulthandler.dump_traceback(file)
    except OSError:
        return False
    return True


def _is_to_report(is_loss: bool) -> bool:
    """Whether this process prints its sentence: the first of its machine does so, unless our launcher will."""
    folder = _folder()
    if LAUNCHER in os.environ or folder is None:
        return LAUNCHER not in os.environ
    time.sleep(2.0 if is_loss else 0.0)  # in which the one that failed reports it
    try:
        (folder.parent / "reported").touch(exist_ok=False)
    except OSError:
        return False
    return True


def _folder() -> Path | None:
    """Where torchrun expects this process's error; those of the others of this machine are beside it."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    return Path(file).parent if file else None


class _Watch(threading.Thread):
    """Ends this process when its launcher or another process is gone, and takes the signals of the launcher."""

    def __init__(self) -> None:
        super().__init__(name="watch-processes", daemon=True)
        parent, _, signals = os.environ.get(LAUNCHER, "").partition(" ")
        self.parent = int(parent or os.getppid())
        self.signals = Path(signals or os.devnull)
        self.taken = 0
        self.folder = _folder()
        self.over = threading.Event()
        if self.folder:
            (self.folder / "pid").write_text(str(os.getpid()))

    def stop(self) -> None:
        """This process ends as it should: the others may go on."""
        self.over.set()
        if self.folder:
            (self.folder / "pid").unlink(missing_ok=True)

    def run(self) -> None:
        while not self.over.wait(LOOKS_EVERY):
            self._take_signals()
            if os.getppid() != self.parent:
                os.environ.pop(LAUNCHER, None)  # which reports nothing any more
                _end_by(LostConnection(f"process {rank} of {world} ended, since its launcher is gone"))
            others = self.folder.parent.glob("*/pid") if self.folder and os.name == "posix" else []
            if any(map(_is_dead, others)) and not self.over.wait(PATIENCE):
                _end_by(LostConnection(f"process {rank} of {world} ended, since another one has failed"))

    def _take_signals(self) -> None:
        numbers = self.signals.read_text().split() if self.signals.exists() else []
        for number in numbers[self.taken :]:
            if self.taken or stopping.requested() is None:  # the first one may have reached all processes
                os.kill(os.getpid(), int(number))
            self.taken += 1


def _is_dead(pid: Path) -> bool:
    try:
        os.kill(int(pid.read_text()), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError):  # not there yet, or not any more
        pass
    return False
