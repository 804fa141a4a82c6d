from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from resnet_tl.data import threads as threads_module
from resnet_tl.data.threads import CHUNK, for_each, usable_cores


@pytest.fixture(params=[1, 5])
def cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads_module, "usable_cores", lambda: request.param)


@pytest.mark.parametrize("number", [0, 1, CHUNK, 5 * CHUNK + 3])
def test_every_row_is_worked_on_once(number: int, cores: None) -> None:
    done: list[int] = []
    for_each(np.arange(number) * 2, done.append)
    assert sorted(done) == list(range(0, 2 * number, 2))


def test_the_work_is_shared_by_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads_module, "usable_cores", lambda: 2)
    both = threading.Barrier(2, timeout=10)
    for_each(np.arange(2 * CHUNK), lambda row: both.wait() if row % CHUNK == 0 else None)


def test_the_first_error_is_raised_and_the_rest_is_left(cores: None) -> None:
    done: list[int] = []

    def work(row: int) -> None:
        if row == 3:
            raise KeyError(row)
        time.sleep(0.001)
        done.append(row)

    with pytest.raises(KeyError):
        for_each(np.arange(100 * CHUNK), work)
    assert len(done) < 50 * CHUNK


def test_there_is_a_core_to_use() -> None:
    assert usable_cores() >= 1
