from __future__ import annotations

import threading
import time

import pytest

from resnet_tl.timing import Stopwatch


@pytest.fixture
def clock(monkeypatch):
    """`clock(2)`: two seconds go by."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def tick(seconds: float) -> None:
        now[0] += seconds

    return tick


def test_a_span_inside_another_counts_for_itself_alone(clock):
    watch = Stopwatch("start-up")
    clock(1)
    with watch.measure("validation"):
        clock(2)
        with watch.measure("activations"):
            clock(4)
        clock(8)
    clock(16)

    assert watch.seconds() == {"start-up": 17, "validation": 10, "activations": 4}


def test_what_no_span_measures_counts_for_the_phase(clock):
    watch = Stopwatch("start-up")
    clock(1)
    watch.phase("input")
    clock(2)
    with watch.measure("files"):
        watch.phase("training")
        clock(4)
    clock(8)

    assert watch.seconds() == {"start-up": 1, "input": 2, "files": 4, "training": 8}


def test_a_span_ends_with_an_error(clock):
    watch = Stopwatch()
    with pytest.raises(ZeroDivisionError), watch.measure("pixels"):
        clock(1 / 0)
    clock(1)
    with watch.measure("pixels"):
        clock(1)
    clock(2)

    assert watch.seconds() == {"rest": 3, "pixels": 1}


def test_other_threads_do_not_count():
    watch = Stopwatch()

    def work() -> None:
        with watch.measure("pixels"):
            watch.phase("training")
            time.sleep(0.01)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert set(watch.seconds()) == {"rest"}
