"""Starting the processes of a fit by torchrun: the images are read before, and one sentence says how all have ended."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import lightning as L

from resnet_tl import failures, stopping
from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.errors import UserError
from resnet_tl.training.classifier import ImageClassifier

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure


def starts_processes(trainer: L.Trainer) -> bool:
    """Whether it needs processes that neither torchrun nor SLURM has started; UserError for those on other machines."""
    cluster = getattr(trainer.strategy, "cluster_environment", None)
    if trainer.world_size == 1 or cluster is None or cluster.creates_processes_externally:
        return False
    if trainer.num_nodes > 1:
        raise UserError(
            f"trainer.num_nodes is {trainer.num_nodes}: start the command on each machine by torchrun --nnodes "
            f"{trainer.num_nodes} or by srun (docs/several_processes.md)."
        )
    return True


def check_input(trainer: L.Trainer, model: ImageClassifier, data: ImageDataModule) -> None:
    """Reads the images and builds the network; UserError for what does not go together."""
    data.trainer = trainer
    data.prepare_data()
    data.setup("fit")
    model.build(data)
    data.train_dataloader()  # which refuses more processes than there are images for
    data.teardown("fit")


def launch(processes: int) -> None:
    """Runs this command once more in each of the processes of this machine, and waits for their end.

    Signals are passed on by us, not by torch, which would send them to the processes that load images as well, kill
    what has not ended after some seconds, and end a job of `nohup` when its terminal is closed. SystemExit where one of
    them failed or was stopped, of which the user has read.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs  # which a fit by one process does without
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    words = [word.replace("$", "$$") for word in sys.argv[1:]]  # torch fills in templates
    with TemporaryDirectory(prefix="resnet-tl-") as folder:
        signals = Path(folder, "signals")
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id="resnet-tl",
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
            signals_to_handle="SIGQUIT",
        )
        os.environ[failures.LAUNCHER] = f"{os.getpid()} {signals}"
        logging.disable()  # of what torch logs while it ends the processes
        try:
            with stopping.passed_on(signals):
                elastic_launch(config, sys.executable)("-u", "-m", "resnet_tl", *words)
        except ChildFailedError as error:
            text, code = explain(error.failures, processes)
            if text:
                failures.say(text)
            raise SystemExit(code) from None
        finally:
            logging.disable(logging.NOTSET)
            del os.environ[failures.LAUNCHER]


def explain(failed: dict[int, ProcessFailure], processes: int) -> tuple[str, int]:
    """The sentence and the exit code of what made all processes end; `failed` in the order in which torch noticed it.

    An error or the death of a process comes before a signal that has stopped it, since the others get one then; and
    that before a lost connection.
    """
    ends = []
    for rank, failure in failed.items():
        code, said = failure.exitcode, failure.message
        if isinstance(said, dict):
            name, _, text = said["message"].partition(": ")
            ends.append(({"LostConnection": 2, "Stopped": 1}.get(name, 0), text, code))
        elif code > 128:
            ends.append((1, "", code))  # it was stopped while it waited in vain, and has said so
        elif -code in (signal.SIGINT, signal.SIGTERM):
            ends.append((1, f"{stopping.Stopped(-code)} before the training began", 128 - code))
        else:
            how = f"was killed by {failure.signal_name()}" if code < 0 else f"ended with code {code}"
            ends.append((0, f"process {rank} of {processes} {how}", max(1, code)))
    _, text, code = min(ends, key=lambda end: end[0])
    known = [said.partition(failures.GO_ON)[2] for _, said, _ in ends]
    if text.startswith("process ") and failures.GO_ON not in text and any(known):
        text += failures.GO_ON + max(known)
    return text, code


def leave_signals(trainer: L.Trainer) -> None:
    """Keeps Lightning from handling signals.

    At SIGTERM its handler, set again by each fit and evaluation, broadcasts among processes that do something else.
    Lightning 2.6 has no public way to leave it out.
    """
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
