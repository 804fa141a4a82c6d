"""The server process: its socket, its first lines, and its end, at which every accepted request is answered."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from io import BytesIO
from types import FrameType

import uvicorn
from fastapi import FastAPI
from PIL import Image

from resnet_tl.errors import UserError, reason_of
from resnet_tl.serving.admission import MAX_HEADER_BYTES
from resnet_tl.serving.connections import BoundedConnection
from resnet_tl.serving.settings import Settings
from resnet_tl.stopping import AT_ONCE, Stopped

MARGIN = 5.0
"""Seconds that the end of a server may take beyond the time limit of an answer."""


def listening(settings: Settings) -> socket.socket:
    """A socket on the address and port, taken before anything slow begins; UserError where it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:  # the latter: no name of any machine
        why = error.strerror if isinstance(error, OSError) else "it is no name"
        raise UserError(f"--host is {settings.host}, which is no address of this machine: {why}.") from None
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind(address)
        made.listen()
    except OSError as error:
        made.close()
        raise UserError(
            f"--port {settings.port} of {settings.host} cannot be had ({(error.strerror or '').lower()}); give another "
            "--port, or 0 for a free one."
        ) from None
    return made


def url_of(settings: Settings, port: int) -> str:
    """Where a client of this machine finds the server."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def server_of(app: FastAPI, settings: Settings, announce: Callable[[], None]) -> Server:
    """The server of an application, not yet running; `announce` is called when it takes requests."""
    config = uvicorn.Config(
        app,
        http=type("Connection", (BoundedConnection,), {"settings": settings}),
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # what strangers send is no warning
    return Server(config, app, announce)


def run(app: FastAPI, settings: Settings, listener: socket.socket, announce: Callable[[], None]) -> None:
    """Serves until a signal comes, then answers what was accepted.

    Raises:
        Stopped: some requests could not be answered within the time limit.
    """
    server = server_of(app, settings, announce)
    server.run(sockets=[listener])
    if not (unanswered := app.state.metrics.unanswered):
        return
    number = "one request was" if unanswered == 1 else f"{unanswered} requests were"
    stop = Stopped(server.first_signal, f", and {number} not answered in time")
    if app.state.queue.places == settings.max_waiting:
        raise stop
    print(f"resnet-tl: {stop}", file=sys.stderr, flush=True)  # a thread is at work, for which Python would wait
    os._exit(stop.exit_code)


def blank_image() -> bytes:
    """The file of a small black image."""
    buffer = BytesIO()
    Image.new("RGB", (32, 32)).save(buffer, "PNG")
    return buffer.getvalue()


class Server(uvicorn.Server):
    """uvicorn's, with an end of our own: the first signal lets it finish, a second one ends it at once."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self.app = app
        self.announce = announce
        self.first_signal = int(signal.SIGTERM)
        self.came = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Takes requests once a first image has been judged; UserError where it cannot be."""
        try:
            await self.app.state.queue.start(blank_image())
        except Exception as error:  # whatever a network of anyone's raises
            self.app.state.queue.stop()
            raise UserError(f"The model cannot judge an image: {reason_of(error)}.") from error
        await super().startup(sockets)
        self.announce()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Waits for what was accepted; what is not answered after the time limit is told so."""

        def give_up() -> None:
            for task in list(self.server_state.tasks):
                task.cancel()

        def hang_up() -> None:
            for connection in list(self.server_state.connections):
                connection.transport.abort()

        loop, limit = asyncio.get_running_loop(), self.app.state.settings.answer_seconds + MARGIN
        timers = [loop.call_later(limit, give_up), loop.call_later(limit + 1, hang_up)]
        await super().shutdown(sockets)
        for timer in timers:
            timer.cancel()
        self.app.state.queue.stop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Of the first signal and of further ones; one that comes within a second is the same, passed on twice."""
        if not self.should_exit:
            self.should_exit, self.first_signal, self.came = True, sig, time.monotonic()
            self.app.state.queue.is_ending = True
        elif time.monotonic() - self.came > AT_ONCE:
            stop = Stopped(sig)
            print(f"resnet-tl: {stop} at once", file=sys.stderr, flush=True)
            os._exit(stop.exit_code)
