"""A small model, photos of noise, and servers that really listen, in a thread of the test."""

from __future__ import annotations

import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from resnet_tl.bundle import Bundle, write_bundle
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.evaluation.uncertainty.familiarity import Reference
from resnet_tl.evaluation.uncertainty.judged import Judged
from resnet_tl.networks import create_network
from resnet_tl.serving.app import create_app
from resnet_tl.serving.engine import Engine
from resnet_tl.serving.predictor_engine import PredictorEngine
from resnet_tl.serving.server import listening, server_of
from resnet_tl.serving.settings import Settings

CLASSES = ("ant", "bee <b>", "cow, 'süß'")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a resnet8 with random weights, which knows some validation and training images."""
    torch.manual_seed(0)
    path, generator = tmp_path_factory.mktemp("served") / "small", np.random.default_rng(0)
    network = create_network("resnet8", num_classes=3)
    width = network.num_features
    features = generator.normal(size=(60, width)).astype(np.float32)
    reference = Reference.make(features, np.zeros(60, np.int64), np.arange(60), features[:30])
    shares = generator.dirichlet(np.ones(3), 200)
    labels = np.where(generator.random(200) < 0.8, shares.argmax(axis=1), 0)
    planned = Preprocessing(size=32, storage_size=40, crop_size=32)
    facts = Bundle(path, {"name": "resnet8"}, CLASSES, planned, reference={"neighbours": reference.neighbours})
    write_bundle(facts, network, Judged.of(labels, shares).arrays(), reference.arrays)
    return path


def photo(seed: int = 0, kind: str = "JPEG", size: tuple[int, int] = (60, 45)) -> bytes:
    """The file of an image of smooth noise."""
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize(size).save(buffer, kind)
    return buffer.getvalue()


def form_of(parts: Mapping[str, bytes], boundary: str = "edge") -> tuple[bytes, dict[str, str]]:
    """A multipart body of files by name, and its headers."""
    body = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        f"Content-Type: image/jpeg\r\n\r\n".encode()
        + content
        + b"\r\n"
        for name, content in parts.items()
    )
    return body + f"--{boundary}--\r\n".encode(), {"Content-Type": f"multipart/form-data; boundary={boundary}"}


class Reply:
    """What a server has answered."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self.content = answer.read()

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def error(self) -> str:
        """The sentence of a refusal, which must be one."""
        assert self.json.keys() == {"error"}
        text = self.json["error"]
        assert "\n" not in text
        assert text.endswith(".")
        assert not {"Traceback", "/tmp", ".py"} & set(text.split())
        return text


class Running:
    """A server that runs, and a client of it."""

    def __init__(self, app: Any, port: int) -> None:
        self.app = app
        self.port = port

    @property
    def queue(self) -> Any:
        return self.app.state.queue

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Reply:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            client.request(method, path, body, dict(headers or {}))
            return Reply(client.getresponse())
        finally:
            client.close()

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, None, headers)

    def predict(self, body: Any, headers: Mapping[str, str] | None = None, query: str = "") -> Reply:
        return self.ask("POST", f"/predict{query}", body, headers)

    def rejected(self, reason: str) -> float:
        """How many requests the metrics say were refused for a reason."""
        return self.app.state.metrics.registry.get_sample_value("resnet_tl_rejected_total", {"reason": reason}) or 0.0


@contextmanager
def running(engine: Engine, port: int = 0, **settings: Any) -> Iterator[Running]:
    """A server of an engine, with limits of one's own."""
    limits = Settings(port=port, **settings)
    app = create_app(engine, limits)
    with listening(limits) as listener:
        port, started = listener.getsockname()[1], threading.Event()
        server = server_of(app, limits, started.set)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        assert started.wait(20)
        try:
            yield Running(app, port)
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


@pytest.fixture(scope="session")
def engine(model: Path) -> PredictorEngine:
    return PredictorEngine(model, "cpu")


@pytest.fixture(scope="module")
def server(engine: PredictorEngine) -> Iterator[Running]:
    """One with the limits that are the defaults."""
    with running(engine) as found:
        yield found


@pytest.fixture
def serve() -> Iterator[Callable[..., Running]]:
    """`serve(engine, **limits)` starts one that ends with the test."""
    with ExitStack() as stack:
        yield lambda engine, **limits: stack.enter_context(running(engine, **limits))


def spoken(server: Running, text: bytes, *, ends: bool = False) -> bytes:
    """All that the server says to some bytes, the last ones or not, until it closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(text)
        if ends:
            client.shutdown(socket.SHUT_WR)
        said = b""
        try:
            while part := client.recv(65536):
                said += part
        except (TimeoutError, ConnectionResetError):
            pass
        return said


def eventually(condition: Callable[[], bool], seconds: float = 5) -> bool:
    """Whether it becomes true in time."""
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return found
