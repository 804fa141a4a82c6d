"""What strangers send to a server: each is refused with a 4xx and a sentence, and nothing else happens."""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import tempfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from resnet_tl.serving.predictor_engine import PredictorEngine
from tests.serving.running import Running, engine, eventually, form_of, model, photo, running, spoken

__all__ = ["engine", "model"]  # fixtures

sys.path.insert(0, str(Path(__file__).parent))
from mutations import mutate, peak_megabytes, seeds

HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def server(engine: PredictorEngine) -> Iterator[Running]:
    with running(engine, max_image_bytes=2_000_000, max_body_bytes=5_000_000) as found:
        yield found


@pytest.fixture(autouse=True)
def _nothing_else_happens(server: Running) -> Iterator[None]:
    """The server is alive, all its places are free, and no file is left in the folder for temporary ones."""
    before = set(os.listdir(tempfile.gettempdir()))
    yield
    assert server.predict(photo()).status == 200
    assert server.queue.places == server.app.state.settings.max_waiting
    assert set(os.listdir(tempfile.gettempdir())) - before == set()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_that_claims(width: int, height: int, lines: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "size",
    [(50_000, 50_000), (2**31 - 1, 2**31 - 1), (1, 2**30), (8_000, 7_000)],
    ids=lambda size: "x".join(map(str, size)),
)
def test_a_file_of_few_bytes_that_claims_many_pixels(size: tuple[int, int], server: Running) -> None:
    before = peak_megabytes()
    bomb = png_that_claims(*size, lines=bytes(1_000_000))
    assert len(bomb) < 2_000
    for path, content, headers in (
        ("/predict", bomb, {}),
        ("/predict", *form_of({"a.png": bomb})),
        ("/explain", bomb, {}),
    ):
        answer = server.ask("POST", path, content, headers)
        assert answer.status == 422
        assert "megapixels, the limit" in answer.error or "cannot be" in answer.error or "damaged" in answer.error
    assert peak_megabytes() - before < 50


def test_what_is_no_image(server: Running, exploits: dict[str, bytes], poison: bytes, untouched: None) -> None:
    texts = [b"<html>", b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>", b"%PDF-1.7",
             b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run", b"#define x_width 9", b"\0" * 5000,
             b"PK\3\4" + bytes(99), b"II*\0" + b"\xff" * 99, b"{}", b"path,label\n/etc/passwd,cat\n", b"-", b"\n"]  # fmt: skip
    for content in (*texts, poison, *exploits.values()):
        for path in ("/predict", "/explain"):
            answer = server.ask("POST", path, content)
            assert answer.status == 422, content[:20]
            assert "root:" not in answer.error


def test_mutated_images_are_judged_or_refused_and_memory_stays_flat(server: Running) -> None:
    files, generator = seeds(), np.random.default_rng(7)
    contents = [mutate(files[number % len(files)], files, generator) or b"?" for number in range(400)]
    server.predict(*form_of({str(number): content for number, content in enumerate(files[:20])}))
    before = peak_megabytes()
    with ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(server.predict, contents))

    assert {answer.status for answer in answers} == {200, 422}
    for answer in answers:
        assert answer.status == 200 or answer.error
    assert peak_megabytes() - before < 1500  # a mutated header may claim as many pixels as are allowed


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--edge",
        b"--edge--\r\n",
        b"--edge\r\n\r\n\r\n--edge--\r\n",
        b"--other\r\nContent-Disposition: form-data; filename=a\r\n\r\nx\r\n--other--\r\n",
        b"--edge\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--edge--\r\n",
        b"--edge\r\nContent-Disposition: attachment; filename=a\r\n\r\nx\r\n--edge--\r\n",
        b"--edge\r\nContent-Disposition: form-data; filename=a\r\n\r\nx",
        b"--edge\r\nContent-Disposition: form-data; filename=a\r\n" + b"X-A: b\r\n" * 1000 + b"\r\nx\r\n--edge--\r\n",
        b"--edge\r\nContent-Disposition: form-data; filename=a" + b"a" * 100_000 + b"\r\n\r\nx\r\n--edge--\r\n",
        b"--edge\r\nContent-Disposition: " + b"form-data; filename=" + b'"\\' * 2000 + b"\r\n\r\nx\r\n--edge--\r\n",
        b"--edge\r\n\0: \0\r\n\r\nx\r\n--edge--\r\n",
        b"--edge\r\n" * 10_000,
        b"\r\n" * 1_000_000,
        b"\r\n--edg" * 300_000,
        b"x" * 4_000_000,
    ],
    ids=lambda body: f"{body[:40]!r}-{len(body)}",
)
def test_forms_that_make_no_sense(body: bytes, server: Running) -> None:
    answer = server.predict(body, {"Content-Type": "multipart/form-data; boundary=edge"})
    assert answer.status in (400, 413, 422)
    assert answer.error


def test_a_form_of_very_many_small_parts(server: Running) -> None:
    body, headers = form_of({str(number): b"x" for number in range(20_000)})
    assert server.predict(body, headers).error == "The request has more than 32 images, the limit."


@pytest.mark.parametrize(
    "name", ["../../../../etc/passwd", "/etc/passwd", "C:\\a", "a\x00.jpg", "a" * 3000, "<script>", '"']
)
def test_names_that_lead_elsewhere_are_only_text(name: str, server: Running) -> None:
    """No file is written, so that no name can say where; it comes back as the last part of itself."""
    body, headers = form_of({name.replace('"', '\\"'): photo()})
    answer = server.predict(body, headers)
    assert answer.status == 200
    given = answer.json["predictions"][0]["name"]
    assert "/" not in given
    assert "\x00" not in given
    assert len(given) <= 255
    assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: -1\r\n",
        b"Content-Length: 1e9\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Content-Length: 99999999999999999999999999\r\n",
        b"Content-Length : 5\r\n",
        b"Content-Length: 5\r\n folded: x\r\nX\r\n",
        b"Content-Type: image/png\r\nContent-Type: image/jpeg\r\nContent-Length: 5\r\n",
        b"Host: other\r\nContent-Length: 5\r\n",
        b"Content-Type: multipart/form-data; boundary=\xff\xfe\r\nContent-Length: 5\r\n",
        b"Content-Type: multipart/form-data; boundary*=utf-8''x\r\nContent-Length: 5\r\n",
        b"Content-Encoding: gzip\r\nContent-Length: 5\r\n",
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\nContent-Length: 5\r\n",
        b"X-HTTP-Method-Override: DELETE\r\nX-Forwarded-For: 1\r\nContent-Length: 5\r\n",
    ],
)
def test_requests_that_two_parsers_could_read_in_two_ways(
    head: bytes, server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """Of each there is one answer, a 4xx; what stands behind it is no second request."""
    second = b"12345GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
    said = spoken(server, HEAD + head + b"Connection: close\r\n\r\n" + second)
    assert said.startswith(b"HTTP/1.1 4"), said
    assert not caplog.records
    assert said.count(b"HTTP/1.1 ") == 1
    body = said.partition(b"\r\n\r\n")[2]
    assert b"Traceback" not in said
    assert json.loads(body).keys() == {"error"}


@pytest.mark.parametrize(
    "path", ["/predict/../metrics", "/%2e%2e/etc/passwd", "/page/../../etc/passwd", "/page/%00", "/predict%0d%0aX:%20y"]
)
def test_paths_that_lead_elsewhere(path: str, server: Running) -> None:
    answer = server.get(path)
    assert answer.status in (400, 404, 405)
    assert b"root:" not in answer.content
    assert answer.headers["X"] is None


def test_bodies_that_break_off(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    """A hundred clients that promise more than they send and go; some come while too many are there."""

    def rejected() -> float:
        return server.rejected("gone") + server.rejected("requests")

    before = rejected()
    for number in range(100):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            promised = (b"Content-Length: 100000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nffff\r\n")[number % 2]
            client.sendall(HEAD + promised + photo()[: number * 10])
    assert eventually(lambda: rejected() == before + 100)
    assert not caplog.records  # no stack trace for what any client may do


@pytest.mark.parametrize(
    "content", [b"ffffffffffffffff\r\n", b"-1\r\n", b"zz\r\nx", b"5;" + b"x" * 100_000, b"5\r\nabcdefgh\r\n"]
)
def test_chunks_that_make_no_sense(content: bytes, server: Running) -> None:
    said = spoken(server, HEAD + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + content, ends=True)
    assert said == b"" or said.startswith(b"HTTP/1.1 4"), said
