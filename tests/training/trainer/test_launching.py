from __future__ import annotations

import signal
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure, get_error_handler

from resnet_tl.errors import UserError
from resnet_tl.failures import Failed, LostConnection, is_loss
from resnet_tl.stopping import Stopped
from resnet_tl.training.trainer.launching import explain

ADVICE = "; go on with: resnet-tl fit --resume run"
LOST = LostConnection(f"process 0 of 3 lost the connection to another one: closed{ADVICE}")
FAILED = Failed(f"process 1 of 3 failed: ValueError: no{ADVICE}")
STOPPED = Stopped(signal.SIGTERM, ADVICE)


def ended(folder: Path, monkeypatch: pytest.MonkeyPatch, rank: int, code: int, error: BaseException | None):
    """What torch knows of a process that ended with a code, and has recorded an error or not."""
    file = folder / f"{rank}.json"
    if error:
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(file))
        get_error_handler().record_exception(error)
    return ProcessFailure(rank, 4711, code, str(file))


@pytest.mark.parametrize(
    ("processes", "text", "code"),
    [
        ([(0, 1, LOST), (1, 1, FAILED)], str(FAILED), 1),
        ([(0, 1, LOST), (2, 2, UserError("too: much\nof it"))], "too: much\nof it", 2),
        ([(0, 1, LOST), (1, -9, None)], f"process 1 of 3 was killed by SIGKILL{ADVICE}", 1),
        ([(2, -11, None)], "process 2 of 3 was killed by SIGSEGV", 1),
        ([(1, 3, None), (0, 143, STOPPED)], f"process 1 of 3 ended with code 3{ADVICE}", 3),
        ([(0, 143, STOPPED), (1, -9, None)], f"process 1 of 3 was killed by SIGKILL{ADVICE}", 1),
        ([(1, 1, LOST), (0, 143, STOPPED)], str(STOPPED), 143),
        ([(0, 1, LOST), (1, 1, LOST)], str(LOST), 1),
        ([(0, -2, None)], "stopped by Ctrl-C before the training began", 130),
        ([(0, 143, None)], "", 143),  # of which it has said so itself
    ],
)
def test_one_sentence_says_why_all_ended(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    processes: list[tuple[int, int, BaseException | None]],
    text: str,
    code: int,
):
    failed = {rank: ended(tmp_path, monkeypatch, rank, code, error) for rank, code, error in processes}

    assert explain(failed, 3) == (text, code)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4711"), True),
        (RuntimeError("Read error [127.0.0.1]:4711: Connection reset by peer"), True),
        (RuntimeError("ncclRemoteError: A call failed possibly due to a network error"), True),
        (RuntimeError("Failed to recv, got 0 bytes. Connection was likely closed."), True),
        (RuntimeError("NCCL error: unhandled cuda error, NCCL version 2.27.5"), False),
        (RuntimeError("NCCL Error 2: out of memory while a communicator was made"), False),
        (RuntimeError("Timed out waiting 1800000ms for recv operation to complete"), False),
        (ValueError("Connection closed by peer"), False),
    ],
)
def test_only_a_connection_that_was_closed_is_a_lost_one(error: Exception, expected: bool):
    assert is_loss(error) == expected
