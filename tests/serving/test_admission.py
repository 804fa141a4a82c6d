"""What is refused before a body is parsed, and what is counted while it arrives."""

from __future__ import annotations

import socket
import struct
import time
import zlib

import pytest

from resnet_tl.data.pixels.decode import MAX_PIXELS, BadImage
from resnet_tl.errors import UserError
from resnet_tl.serving.predictor_engine import PredictorEngine
from resnet_tl.serving.settings import Settings
from resnet_tl.serving.uploads import check_pixels
from tests.serving.running import Reply, Running, eventually, form_of, photo, running, spoken

TOKEN = "0123456789abcdef"
POST = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def guarded(engine: PredictorEngine):
    with running(engine, token=TOKEN) as found:
        yield found


def test_without_the_token_nothing_but_health_and_the_page_is_answered(guarded: Running):
    for wrong in (None, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", TOKEN, "Bearer", f"Basic {TOKEN}", "Bearer \xdf"):
        answer = guarded.predict(photo(), {"Authorization": wrong} if wrong else {"X-Token": TOKEN})
        assert answer.status == 401, wrong
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert TOKEN not in answer.error
    for path in ("/metrics", "/openapi.json", "/nothing", "/healthz/../metrics", "//metrics", "/page"):
        assert guarded.get(path).status == 401, path
    assert guarded.get("/healthz").status == guarded.get("/readyz").status == 200
    assert guarded.get("/page/nothing.js").status == 404


def test_the_token_opens_the_server(guarded: Running):
    assert guarded.predict(photo(), {"Authorization": f"Bearer {TOKEN}"}).status == 200
    assert guarded.get("/metrics", Authorization=f"bearer {TOKEN}").status == 200


def test_a_wrong_token_is_refused_before_the_body_is_there(guarded: Running):
    said = spoken(guarded, POST + b"Content-Length: 1000000\r\nConnection: close\r\n\r\n")

    assert said.startswith(b"HTTP/1.1 401")


def test_another_address_than_loopback_needs_a_token():
    for host in ("0.0.0.0", "::", "192.168.1.1", "example.org", ""):
        with pytest.raises(UserError, match="a token is needed"):
            Settings(host=host)
        assert Settings(host=host, token=TOKEN).token == TOKEN
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        assert Settings(host=host).token is None
    assert TOKEN not in repr(Settings(token=TOKEN))


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[::1", "10.0.0.1"]
)
def test_a_name_that_somebody_else_has_given_to_this_machine_is_refused(host: str, server: Running):
    """DNS rebinding: a page of evil.example lets its name lead to 127.0.0.1 and would be of one origin with us."""
    assert server.get("/healthz", Host=host).status == 421


def test_with_a_token_a_proxy_on_this_machine_may_pass_its_own_name_on(guarded: Running):
    asked = {"Host": "models.example", "Origin": "https://models.example"}
    assert guarded.predict(photo(), asked | {"Authorization": f"Bearer {TOKEN}"}).status == 200
    assert guarded.predict(photo(), asked).status == 401


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000"])
def test_the_names_of_this_machine_are_taken(host: str, server: Running):
    assert server.get("/healthz", Host=host).status == 200


def test_a_page_of_another_site_may_not_post(server: Running):
    own = f"127.0.0.1:{server.port}"
    for origin, status in (
        (f"http://{own}", 200),
        ("http://evil.example", 403),
        ("null", 403),
        ("http://127.0.0.1:1", 403),
    ):
        answer = server.predict(photo(), {"Origin": origin, "Host": own})
        assert answer.status == status, origin


@pytest.mark.parametrize("content_type", ["text/html", "application/json", "multipart/mixed; boundary=x", "image"])
def test_other_content_types_are_refused_unread(content_type: str, server: Running):
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: 99\r\n"

    assert spoken(server, head.encode() + b"Connection: close\r\n\r\n").startswith(b"HTTP/1.1 415")


@pytest.mark.parametrize("boundary", ["", "; boundary=", f"; boundary={'x' * 71}"])
def test_a_form_needs_a_boundary(boundary: str, server: Running):
    assert server.predict(b"--x", {"Content-Type": f"multipart/form-data{boundary}"}).status == 400


def test_a_header_that_decides_may_not_be_there_twice(server: Running):
    head = POST + b"Content-Type: image/png\r\nContent-Type: text/html\r\n"
    said = spoken(server, head + b"Content-Length: 0\r\nConnection: close\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 400")
    assert b"content-type is there twice" in said


def test_a_body_that_is_too_long_is_refused_by_its_header(engine: PredictorEngine, serve):
    small = serve(engine, max_image_bytes=10_000, max_body_bytes=50_000)

    for kind, length, status in (("image/png", 10_001, 413), ("multipart/form-data; boundary=x", 50_001, 413)):
        head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n"
        assert spoken(small, head.encode() + b"Connection: close\r\n\r\n").startswith(f"HTTP/1.1 {status}".encode())
    assert small.predict(photo(kind="PNG")).status == 200
    assert small.rejected("bytes") == 2


def test_a_body_of_unknown_length_is_counted_while_it_arrives(engine: PredictorEngine, serve):
    """Chunked, with no Content-Length to lie about."""
    small = serve(engine, max_image_bytes=100_000, max_body_bytes=200_000)

    def chunks(number: int):
        for _ in range(number):
            yield b"x" * 10_000

    assert small.predict(iter([photo()[:100], photo()[100:]])).status == 200
    assert small.predict(chunks(11)).status == 413
    body, headers = form_of({f"{number}": b"x" * 60_000 for number in range(4)})
    assert small.predict((body[start : start + 9999] for start in range(0, len(body), 9999)), headers).status == 413


def test_images_beyond_their_number_or_size_are_refused(engine: PredictorEngine, serve):
    small = serve(engine, max_images=3, max_image_bytes=5_000, max_pixels=10_000)

    def status(*images: bytes) -> Reply:
        return small.predict(*form_of({str(number): image for number, image in enumerate(images)}))

    assert status(photo(), photo(), photo()).status == 200
    assert status(photo(), photo(), photo(), photo()).error == "The request has more than 3 images, the limit."
    assert status(photo(), b"x" * 5_001).error == "An image has more than 0.005 MB, the limit."
    assert small.predict(photo(size=(101, 100))).error == "The image has more than 0.01 megapixels, the limit."
    assert small.predict(photo(size=(100, 100))).status == 200
    assert small.rejected("images") == 1


def test_a_bomb_is_told_the_lower_limit_which_is_mostly_that_of_the_server():
    """Pillow refuses to open what has more pixels than `decode` takes."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    parts = [
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (header, b"IDAT")
    ]
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(parts)
    for allowed, said in ((50_000_000, 50), (400_000_000, MAX_PIXELS // 10**6)):
        with pytest.raises(BadImage, match=f"has more than {said} megapixels, the limit"):
            check_pixels(bomb, Settings(max_pixels=allowed))


def test_no_more_requests_at_once_than_the_limit(engine: PredictorEngine, serve):
    small = serve(engine, max_requests=2)
    head = POST + b"Content-Length: 100\r\n\r\n"
    clients = [socket.create_connection(("127.0.0.1", small.port)) for _ in range(2)]
    for client in clients:
        client.sendall(head)
    assert eventually(lambda: small.get("/metrics").content.count(b"requests_in_flight 2.0") == 1)

    answer = small.predict(photo())
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "1"
    assert "2 requests, the limit" in answer.error
    assert small.get("/healthz").status == 200

    for client in clients:
        client.close()
    assert eventually(lambda: small.predict(photo()).status == 200)


def test_no_more_bytes_are_held_than_the_limit(engine: PredictorEngine, serve):
    small = serve(engine, max_held_bytes=150_000)
    with socket.create_connection(("127.0.0.1", small.port)) as client:
        client.sendall(POST + b"Content-Length: 100001\r\n\r\n" + b"x" * 100_000)
        assert eventually(lambda: small.predict(b"x" * 60_000).status == 503)
        assert small.rejected("held_bytes") >= 1
    assert eventually(lambda: small.predict(b"x" * 60_000).status == 422)


def test_a_body_that_comes_too_slowly_is_refused(engine: PredictorEngine, serve):
    small = serve(engine, body_seconds=0.5)
    start = time.monotonic()
    said = spoken(small, POST + b"Content-Length: 100\r\nConnection: close\r\n\r\nabc")

    assert said.startswith(b"HTTP/1.1 408")
    assert b"within 0.5 s" in said
    assert time.monotonic() - start < 6
    assert small.rejected("slow_body") == 1
