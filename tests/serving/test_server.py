"""The whole command in a process of its own: its first lines, its end under load, and its exit codes."""

from __future__ import annotations

import http.client
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.serving.running import CLASSES, photo

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")


class Process:
    """`resnet-tl serve` with what it has printed."""

    def __init__(self, *words: object, **environment: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "resnet_tl", "serve", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        )
        self.lines: list[str] = []
        assert self.popen.stdout
        while line := self.popen.stdout.readline():
            self.lines.append(line.rstrip())
            if found := re.search(r"A page is at http://127\.0\.0\.1:(\d+)/", line):
                self.port = int(found[1])
                break
        else:
            raise AssertionError(self.lines)

    def end(self, *signals: signal.Signals, between: float = 0) -> tuple[int, str]:
        """The exit code and what was printed last, after some signals."""
        for number in signals:
            self.popen.send_signal(number)
            time.sleep(between)
        rest, _ = self.popen.communicate(timeout=30)
        return self.popen.returncode, rest


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def begin(*words: object, **environment: str) -> Process:
        started.append(Process(*words, **environment))
        return started[-1]

    yield begin
    for process in started:
        process.popen.kill()
        process.popen.communicate()


def test_the_first_line_works_as_typed_and_every_accepted_request_is_answered(model: Path, start, tmp_path: Path):
    """Under load; by clients that connect again for each request, so that none is cut off between two of them."""
    process = start(model, "--port", 0, "--min_confidence", 0.5)
    assert process.lines[0].startswith("Serving small (3 classes: ")
    command = process.lines[0].partition("): ")[2]
    assert command == f"curl --data-binary @photo.jpg http://127.0.0.1:{process.port}/predict"
    (tmp_path / "photo.jpg").write_bytes(photo())
    done = subprocess.run(["sh", "-c", f"{command} -s"], cwd=tmp_path, capture_output=True, text=True)
    assert any(f'"predicted":"{name}"' in done.stdout for name in CLASSES), done.stdout
    answered, refused, broken = [], [], []
    is_over = threading.Event()

    def client(seed: int) -> None:
        content = photo(seed, size=(900, 700))
        while not is_over.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=20)
            try:
                connection.connect()
                connection.request("POST", "/predict", content)
            except OSError as error:
                refused.append(error)  # not accepted
                return
            try:
                answer = connection.getresponse()
                answered.append((answer.status, len(answer.read())))
            except OSError as error:
                broken.append(error)
            finally:
                connection.close()

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    while len(answered) < 30:
        time.sleep(0.01)
    code, said = process.end(signal.SIGTERM)
    is_over.set()
    for thread in threads:
        thread.join(20)

    assert code == 0
    assert said.splitlines()[-1] == f"Stopped; {1 + len(answered)} requests came, and all were answered."
    assert {status for status, _ in answered} == {200}
    # A connection that the system had taken up when the server closed its door was never the server's.
    assert all(isinstance(error, ConnectionResetError | http.client.RemoteDisconnected) for error in broken)
    assert len(broken) <= len(threads)


@pytest.mark.slow
def test_with_a_token_the_first_line_sends_it(model: Path, start, tmp_path: Path):
    (tmp_path / "my token").write_text("0123456789abcdef\n")
    (tmp_path / "photo.jpg").write_bytes(photo())
    process = start(model, "--port", 0, "--host", "0.0.0.0", "--token_file", tmp_path / "my token")

    command = process.lines[0].partition("): ")[2]
    assert shlex.split(command)[1] == "--oauth2-bearer"
    assert "0123456789abcdef" not in "".join(process.lines)
    done = subprocess.run(["sh", "-c", f"{command} -s"], cwd=tmp_path, capture_output=True, text=True)
    assert '"predictions":' in done.stdout
    command = command.replace("--oauth2-bearer", "-s -A")
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.startswith('{"error":"A token is needed')


@pytest.mark.slow
def test_a_second_signal_ends_at_once_while_the_first_waits(model: Path, start):
    """For a body that is still to come; but not one that comes in the same second, which a launcher passes on."""
    process = start(model, "--port", 0)
    connection = http.client.HTTPConnection("127.0.0.1", process.port)
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Length", "1000")
    connection.endheaders(b"begun")
    time.sleep(0.3)
    begin = time.monotonic()
    code, said = process.end(signal.SIGTERM, signal.SIGTERM, signal.SIGTERM, between=0.6)

    assert code == 143
    assert said == "resnet-tl: stopped by SIGTERM at once\n"
    assert time.monotonic() - begin < 10
    connection.close()


@pytest.mark.slow
def test_what_cannot_be_answered_in_time_is_said_at_the_end(model: Path, start):
    process = start(model, "--port", 0, "--time_limit", 1)
    connection = http.client.HTTPConnection("127.0.0.1", process.port)
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Length", "1000")
    connection.endheaders(b"begun")
    time.sleep(0.3)
    code, said = process.end(signal.SIGINT)

    answer = connection.getresponse()
    assert answer.status == 503
    assert answer.read() == b'{"error":"The server is stopping; the answer was not there in time."}'
    assert code == 130
    assert said == "resnet-tl: stopped by Ctrl-C, and one request was not answered in time\n"
    connection.close()
