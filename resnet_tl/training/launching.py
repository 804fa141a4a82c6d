"""Starting the processes of a fit: the images are checked before there are others, and none outlives the others."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from signal import Signals
from typing import Any

import lightning as L
from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from resnet_tl import failures
from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.training.classifier import ImageClassifier
from resnet_tl.training.processes import check_processes
from resnet_tl.training.rendezvous import connect

LOOKS_EVERY = 0.3
"""Seconds between two looks at the other processes."""


def watch_processes(trainer: L.Trainer, model: ImageClassifier, data: ImageDataModule) -> None:
    """Lets a trainer that has not started its processes start and watch them as this file says."""
    # At SIGTERM Lightning's handler, set anew by each evaluation, broadcasts among processes that do something else.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    failures.rank = trainer.global_rank
    strategy = trainer.strategy
    if isinstance(strategy, DDPStrategy) and isinstance(strategy.launcher, _SubprocessScriptLauncher):
        assert strategy.cluster_environment is not None
        check = lambda: check_input(trainer, model, data)  # noqa: E731
        strategy._launcher = Launcher(check, strategy.cluster_environment, strategy.num_processes, strategy.num_nodes)
        lightnings = strategy.setup_distributed  # which makes a process group unless there is one

        def setup_distributed() -> None:
            connect(strategy)
            lightnings()

        strategy.setup_distributed = setup_distributed  # type: ignore[method-assign]


def check_input(trainer: L.Trainer, model: ImageClassifier, data: ImageDataModule) -> None:
    """Reads the images, builds the network and refuses what does not go together.

    Raises:
        UserError: what the user gave does not work.
    """
    data.trainer = trainer
    data.prepare_data()
    data.setup("fit")
    model.build(data)
    check_processes(trainer)
    data.train_dataloader()  # which refuses more processes than there are images for
    data.teardown("fit")


class Launcher(_SubprocessScriptLauncher):
    """Lightning's, which runs the same command again for each further process; with another way to watch them.

    Lightning looks every 5 seconds, kills all at the first error with no word about it, and lets the others live when
    the first process is killed.

    Args:
        check: is called before others are started.
        settings: Lightning's.
    """

    def __init__(self, check: Callable[[], None], *settings: Any) -> None:
        super().__init__(*settings)
        self.check = check

    def launch(self, function: Callable, *args: Any, trainer: L.Trainer | None = None, **kwargs: Any) -> Any:
        assert trainer is not None
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            self.check()
            os.environ[failures.FIRST] = str(os.getpid())
            failures.forget()
            self._call_children_scripts()
            failures.world = self.num_processes * self.num_nodes
            _Watch(lambda: self._fault(self.procs), self.procs).start()
        elif failures.has_parent() and not self.procs:
            _Watch(self._lost_parent, []).start()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)

    def _fault(self, children: list[subprocess.Popen]) -> int | None:
        """The code to end with, once a child has failed."""
        for local_rank, child in enumerate(children, start=1):
            code = child.poll()
            if code:
                how = f"was killed by {Signals(-code).name}" if code < 0 else f"ended with code {code}"
                # One that was stopped before it could tell so ends as a shell reports it.
                return failures.tell(how, code if code > 128 else 1, of=failures.rank + local_rank)
        return None

    def _lost_parent(self) -> int | None:
        if os.getppid() == int(os.environ[failures.FIRST]):
            return None
        local_rank = int(os.environ["LOCAL_RANK"])
        return failures.tell("was killed", 1, of=failures.rank - local_rank)


class _Watch(threading.Thread):
    """Ends this process and its children when one of them, or its parent, is gone."""

    def __init__(self, fault: Callable[[], int | None], children: list[subprocess.Popen]) -> None:
        super().__init__(name="watch-processes", daemon=True)
        self.fault = fault
        self.children = children
        self.main = threading.main_thread()

    def run(self) -> None:
        while (code := self.fault()) is None:
            time.sleep(LOOKS_EVERY)
        # By themselves: a process that waits for another has noticed by now, and writes down where it stood.
        ends = time.monotonic() + failures.PATIENCE
        while time.monotonic() < ends:
            time.sleep(0.05)
        for child in self.children:
            if child.poll() is None:
                child.kill()
        frame = sys._current_frames().get(self.main.ident or 0)
        failures.keep_trace("".join(traceback.format_stack(frame)))
        failures.end(code)
