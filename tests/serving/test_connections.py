"""Connections that wait for ever are ended: no request, half a request, an endless body, too many at once."""

from __future__ import annotations

import socket
import time

import pytest

from resnet_tl.serving.admission import MAX_HEADER_BYTES
from resnet_tl.serving.connections import BoundedConnection
from resnet_tl.serving.predictor_engine import PredictorEngine
from tests.serving.running import Running, eventually, photo, spoken


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedConnection, "request_seconds", 0.4)


def is_ended(client: socket.socket, seconds: float = 5) -> bool:
    client.settimeout(seconds)
    try:
        while client.recv(65536):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def is_cut_off(client: socket.socket, sent: bytes) -> bool:
    """Whether the server takes no more of these bytes."""
    try:
        client.sendall(sent)
    except ConnectionError:
        return True
    return False


@pytest.mark.parametrize("sent", [b"", b"POST /predict HT", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: b"])
def test_a_request_that_does_not_come_to_an_end_is_cut_off(sent: bytes, hasty: None, server: Running):
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(sent)
        assert is_ended(client)


@pytest.mark.slow
def test_headers_are_waited_for_as_long_as_is_said_after_an_answer_too(
    monkeypatch: pytest.MonkeyPatch, engine: PredictorEngine, serve
):
    """Not until the second look, at twice the time."""
    monkeypatch.setattr(BoundedConnection, "request_seconds", 2.0)
    for before in (b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", serve(engine).port)) as client:
            time.sleep(1.0 if before else 0.0)
            client.sendall(before)
            assert not before or client.recv(65536)
            client.sendall(b"GET /healthz HTTP/1.1\r\nX-A: b")
            start = time.monotonic()
            assert is_ended(client)
            assert 1.0 < time.monotonic() - start < 3.5


def test_a_header_a_byte_at_a_time_is_cut_off(hasty: None, server: Running):
    """Slowloris: each byte in time, the request never."""
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
        assert eventually(lambda: is_cut_off(client, b"X-A: b\r\n"))


def test_a_connection_that_is_used_stays_open(hasty: None, server: Running):
    import http.client

    client = http.client.HTTPConnection("127.0.0.1", server.port)
    client.connect()
    socket_of_it = client.sock
    for _ in range(12):
        client.request("GET", "/healthz")
        assert client.getresponse().read()
        time.sleep(0.1)
    assert client.sock is socket_of_it
    client.close()


def test_headers_that_are_too_long_are_refused_in_a_sentence(server: Running):
    for length, statuses in ((MAX_HEADER_BYTES - 1_000, {200}), (MAX_HEADER_BYTES, {431}), (1_000_000, {400, 431})):
        for answer in (server.get("/healthz", **{"X-Long": "a" * length}), server.get(f"/healthz?{'a' * length}")):
            assert answer.status in statuses
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.status == 200 or answer.error


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"\0" * 100, b"GET / HTTP/1.1\r\n\r\n"])
def test_what_is_no_http_is_refused(sent: bytes, server: Running):
    said = spoken(server, sent + b"\r\n\r\n", ends=True)
    assert said.startswith(b"HTTP/1.1 4")
    assert b'{"error":"' in said


def test_a_refused_body_is_read_to_its_end_but_not_for_ever(engine: PredictorEngine, serve):
    """So that a client that sends before it reads still sees why; what never ends is cut off."""
    small = serve(engine, max_image_bytes=1_000, max_body_bytes=1_000_000)
    assert small.predict(b"x" * 900_000).status == 413
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", small.port), timeout=5) as client:
        client.sendall(head)
        assert any(is_cut_off(client, b"x" * 100_000) for _ in range(100))


def test_no_more_connections_than_the_limit(monkeypatch: pytest.MonkeyPatch, engine: PredictorEngine, serve):
    monkeypatch.setattr(BoundedConnection, "max_connections", 3)
    small = serve(engine)
    clients = [socket.create_connection(("127.0.0.1", small.port)) for _ in range(3)]
    time.sleep(0.2)
    with socket.create_connection(("127.0.0.1", small.port)) as one_more:
        assert is_ended(one_more)
    for client in clients:
        client.close()

    def answers() -> bool:
        try:
            return small.predict(photo()).status == 200
        except ConnectionError:
            return False

    assert eventually(answers)
