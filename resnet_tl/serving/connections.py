"""Connections that may not wait for ever: no request, half a request, an answer that nobody reads, an endless body.

uvicorn has no limit of its own for these. What is used of its `H11Protocol` was read in uvicorn 0.54: `connections`,
`cycle.response_complete`, `send_400_response` and the methods of asyncio's protocols.
"""

from __future__ import annotations

import asyncio
from typing import cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from resnet_tl.serving.admission import SECURITY_HEADERS
from resnet_tl.serving.settings import Settings

MAX_CONNECTIONS = 512
REQUEST_SECONDS = 10.0
"""In which the headers of a request must have arrived, the first and every further one of a connection."""


class BoundedConnection(H11Protocol):
    """One connection of a client; a server has a subclass with its `settings`."""

    settings: Settings
    request_seconds = REQUEST_SECONDS
    max_connections = MAX_CONNECTIONS

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))
        self._is_refused = False
        self._discarded = 0
        self._seen: object = None
        self._timer: asyncio.TimerHandle | None = None
        if len(self.connections) > self.max_connections:
            self.transport.abort()
        else:
            self._look()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is not h11.SEND_BODY:  # else what is refused is still read
            self._look()  # the headers of the next request must come from now on

    def data_received(self, data: bytes) -> None:
        is_answered = self.cycle is not None and self.cycle.response_complete
        if self._is_refused or (is_answered and self.conn.their_state is h11.SEND_BODY):
            # Read on, for a client that sends before it reads would not see why, but not for ever.
            self._discarded += len(data)
            if self._discarded > 2 * self.settings.max_body_bytes:
                self.transport.abort()
        if not self._is_refused and not self.transport.is_closing():
            super().data_received(data)

    def _look(self) -> None:
        """Ends a connection on which nothing has come to an end since the last look."""
        if self._timer:
            self._timer.cancel()
        if self.transport.is_closing():
            return
        is_waiting = self._is_refused or self.cycle is None or self.cycle.response_complete
        state = (self.cycle, is_waiting)
        if state == self._seen:
            self.transport.abort()
            return
        self._seen = state
        # Its body and its computing have limits of their own; what is left is the answer, which must be read.
        most = self.settings.body_seconds + self.settings.answer_seconds
        self._timer = self.loop.call_later(self.request_seconds + (0 if is_waiting else most), self._look)

    def shutdown(self) -> None:
        """At the end of the server."""
        if self._is_refused:
            self.transport.abort()
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """For what is no HTTP; in the form of all other refusals."""
        self._is_refused = True
        if self.cycle is not None and not self.cycle.response_complete:  # of a body that stops making sense
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        body = b'{"error":"The request is not well-formed HTTP, or its headers are too long."}'
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        headers += SECURITY_HEADERS.items()
        events = (h11.Response(status_code=400, headers=headers, reason=b"Bad Request"), h11.Data(body))
        self.transport.write(b"".join(self.conn.send(event) or b"" for event in (*events, h11.EndOfMessage())))
        self.transport.write_eof()
