"""The queue: batches of what waits, a bound on what may wait, time limits, and places that come back."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from resnet_tl.data.pixels.decode import BadImage
from resnet_tl.serving.predictor_engine import PredictorEngine
from tests.serving.running import eventually, form_of, photo


class Gated(PredictorEngine):
    """A model that computes only while its gate is open, and notes the sizes of its batches."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "cpu")
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[int] = []
        self.is_computing = threading.Event()

    def judge(self, prepared):
        self.is_computing.set()
        self.gate.wait(20)
        self.batches.append(len(prepared))
        return super().judge(prepared)


@pytest.fixture
def gated(model: Path) -> Iterator[Gated]:
    engine = Gated(model)
    yield engine
    engine.gate.set()


def shut(engine: Gated) -> None:
    engine.is_computing.clear()
    engine.gate.clear()


def test_what_waits_becomes_batches_and_each_image_gets_its_own_answer(gated: Gated, serve):
    server = serve(gated, batch_size=4)
    alone = [server.predict(photo(seed)).json["predictions"] for seed in range(10)]
    gated.batches.clear()
    shut(gated)
    with ThreadPoolExecutor(10) as clients:
        first = clients.submit(server.predict, photo(0))
        assert gated.is_computing.wait(5)
        others = [clients.submit(server.predict, photo(seed)) for seed in range(1, 10)]
        assert eventually(lambda: len(server.queue._ready) == 9)
        gated.gate.set()
        answers = [one.result().json["predictions"] for one in (first, *others)]

    assert gated.batches == [1, 4, 4, 1]
    assert answers == alone


def test_an_image_that_comes_alone_waits_for_no_other(gated: Gated, serve):
    server = serve(gated)
    gated.batches.clear()
    for seed in range(3):
        server.predict(photo(seed))
    assert gated.batches == [1, 1, 1]


def test_a_full_queue_refuses_and_says_when_to_come_again(gated: Gated, serve):
    server = serve(gated, max_waiting=3, batch_size=1)
    shut(gated)
    with ThreadPoolExecutor(3) as clients:
        accepted = [clients.submit(server.predict, photo(seed)) for seed in range(3)]
        assert eventually(lambda: server.queue.places == 0)

        refused, ready = server.predict(photo()), server.get("/readyz")
        gated.gate.set()
        assert [one.result().status for one in accepted] == [200] * 3

    assert refused.status == ready.status == 503
    assert refused.headers["Retry-After"] == ready.headers["Retry-After"] == "1"
    assert refused.error == "The queue is full; try again in a moment."
    assert server.rejected("queue_full") == 1
    assert server.queue.places == 3
    assert server.get("/readyz").status == 200


def test_a_form_takes_all_its_places_or_none(gated: Gated, serve):
    server = serve(gated, max_waiting=4)
    many = form_of({str(seed): photo(seed) for seed in range(5)})
    assert server.predict(*many).status == 503
    assert server.queue.places == 4
    assert server.predict(*form_of({str(seed): photo(seed) for seed in range(4)})).status == 200


def test_the_time_limit_tells_waiting_from_computing(gated: Gated, serve):
    server = serve(gated, answer_seconds=1, batch_size=1)
    shut(gated)
    with ThreadPoolExecutor(2) as clients:
        computing = clients.submit(server.predict, photo())
        assert gated.is_computing.wait(5)
        waiting = clients.submit(server.predict, photo())

        assert computing.result().status == 504
        assert "within 1 s, the limit" in computing.result().error
        assert waiting.result().status == 503
        assert waiting.result().headers["Retry-After"] == "5"
        assert "turn did not come" in waiting.result().error
    gated.gate.set()
    assert eventually(lambda: server.queue.places == server.app.state.settings.max_waiting)
    assert server.predict(photo()).status == 200


def test_a_client_that_goes_away_frees_its_place(gated: Gated, serve):
    server = serve(gated, max_waiting=4, batch_size=1)
    shut(gated)
    gated.batches.clear()

    def leaving() -> socket.socket:
        client = socket.create_connection(("127.0.0.1", server.port))
        head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(photo())}\r\n\r\n"
        client.sendall(head.encode() + photo())
        return client

    clients = [leaving() for _ in range(4)]
    assert eventually(lambda: server.queue.places == 0 and len(server.queue._ready) == 3)
    for client in clients:
        client.close()
    assert eventually(lambda: server.queue.places == 3)  # the one that is computed keeps its own
    assert not server.queue._ready
    gated.gate.set()
    assert eventually(lambda: server.queue.places == 4)
    assert gated.batches == [1]


def test_other_work_is_done_between_two_batches(gated: Gated, serve):
    """As the page's explanations are: in the same thread, with the same bound."""
    import asyncio

    server = serve(gated, max_waiting=2)
    threads: list[str] = []

    def work(prepared: Any) -> bool:
        threads.append(threading.current_thread().name)
        return bool(gated.judge([prepared])[0].sum())

    def asked(coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, server.queue._loop)

    assert asked(server.queue.run(work, photo())).result(5) is True
    assert threads == ["compute"]
    with pytest.raises(ZeroDivisionError):
        asked(server.queue.run(lambda prepared: 1 / 0, photo())).result(5)
    assert isinstance(asked(server.queue.run(work, b"no image")).result(5), BadImage)
    assert server.queue.places == 2


def test_many_clients_at_once_get_their_own_answers(model: Path, serve):
    server = serve(PredictorEngine(model, "cpu"), decode_threads=4)
    expected = {seed: server.predict(photo(seed)).json["predictions"] for seed in range(8)}

    def one(number: int) -> bool:
        return server.predict(photo(number % 8)).json["predictions"] == expected[number % 8]

    with ThreadPoolExecutor(16) as clients:
        assert all(clients.map(one, range(160)))
    assert server.queue.places == server.app.state.settings.max_waiting
