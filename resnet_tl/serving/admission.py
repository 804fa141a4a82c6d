"""What is checked of a request before anything of its body is parsed, and the headers that every answer has."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resnet_tl.data.reading.folders.structure import counted
from resnet_tl.serving.metrics import Metrics
from resnet_tl.serving.settings import MB, Refused, Settings
from resnet_tl.serving.uploads import check_content_type, is_form

log = logging.getLogger(__name__)

PUBLIC = ("/", "/healthz", "/readyz")
"""Paths that need no token: whether the server is alive, and the page, which asks for the token."""
PUBLIC_FOLDER = "/page/"
MAX_HEADER_BYTES = 16_384
"""Of the path and all headers of a request; uvicorn keeps to it only where they come in several pieces."""
SECURITY_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
"""Of every answer: what it loads comes from this server, and no other page frames, reads or guesses it."""


class Admission:
    """The middleware through which every request comes; it answers what it refuses.

    In this order: the host and origin, the token, the type and length of the body, the number of requests at once.
    While the body arrives its bytes and its time are counted.
    """

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics, paths: Iterable[str]) -> None:
        self.app = app
        self.settings = settings
        self.metrics = metrics
        self.paths = frozenset(paths)
        self.requests = 0
        self.held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 0
        self.metrics.accepted += 1

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = {name for name, _ in message["headers"]}
                added = ((name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items())
                message["headers"] = [*message["headers"], *(pair for pair in added if pair[0] not in given)]
            await send(message)

        async def answer(status: int, sentence: str, retry_after: int | None = None) -> None:
            headers = {} if retry_after is None else {"retry-after": str(retry_after)}
            if status == 401:
                headers["www-authenticate"] = "Bearer"
            await JSONResponse({"error": sentence}, status, headers)(scope, receive, send_with_headers)

        try:
            await self._admit(scope, receive, send_with_headers)
        except Refused as refusal:
            if status:
                raise
            self.metrics.rejected.labels(refusal.reason).inc()
            await answer(refusal.status, str(refusal), refusal.retry_after)
        except ClientDisconnect:
            self.metrics.rejected.labels("gone").inc()
        except asyncio.CancelledError:
            self.metrics.unanswered += 1
            if not status:
                await answer(503, "The server is stopping; the answer was not there in time.")
        except Exception:
            log.exception("a request failed")
            if not status:
                await answer(500, "The server failed at this request; its log has the reason.")
        finally:
            path = scope["path"] if scope["path"] in self.paths else "other"
            self.metrics.requests.labels(path, str(status or 499)).inc()  # 499: the client has gone

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _headers_of(scope)
        self._check_host(headers)
        self._check_token(scope["path"], headers)
        if scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        check_content_type(headers.get("content-type", ""))
        self._check_length(headers)
        if self.requests >= self.settings.max_requests:
            sentence = (
                f"The server is at work on {counted(self.requests, 'request')}, the limit; try again in a moment."
            )
            raise Refused(503, "requests", sentence, retry_after=1)
        body = _Body(self, receive)
        self.requests += 1
        start = time.perf_counter()
        try:
            with self.metrics.in_flight.track_inprogress():
                await self.app(scope, body.receive, send)
        finally:
            self.requests -= 1
            self.held_bytes -= body.arrived
            self.metrics.request_seconds.observe(time.perf_counter() - start)

    def _check_host(self, headers: dict[str, str]) -> None:
        """Refuses what a page of another site may send: by a name of its own for this machine, or across origins.

        Where a token is needed, which no such page has, a proxy on this machine may pass another name on.
        """
        host = headers.get("host", "")
        is_ours = _name_of(host) in ("localhost", "127.0.0.1", "::1", self.settings.host)
        if self.settings.is_loopback and not self.settings.token and not is_ours:
            raise Refused(421, "host", "This server answers as localhost or 127.0.0.1 only.")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            raise Refused(403, "origin", "A page of another site may not use this server.")

    def _check_token(self, path: str, headers: dict[str, str]) -> None:
        if not self.settings.token or path in PUBLIC or path.startswith(PUBLIC_FOLDER):
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        is_right = hmac.compare_digest(token.strip().encode("latin-1"), self.settings.token.encode())
        if scheme.lower() != "bearer" or not is_right:
            raise Refused(401, "token", "A token is needed: send the header Authorization: Bearer TOKEN.")

    def _check_length(self, headers: dict[str, str]) -> None:
        limit = (
            self.settings.max_body_bytes if is_form(headers.get("content-type", "")) else self.settings.max_image_bytes
        )
        if int(headers.get("content-length", 0)) > limit:
            raise _too_long(limit)


class _Body:
    """Counts the bytes and the time of a body while it arrives."""

    def __init__(self, admission: Admission, receive: Receive) -> None:
        self.admission = admission
        self.settings = admission.settings
        self._receive = receive
        self.arrived = 0
        self.is_whole = False
        self.deadline = asyncio.get_running_loop().time() + self.settings.body_seconds

    async def receive(self) -> Message:
        """ASGI's, with Refused for what is beyond a limit."""
        if self.is_whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self.deadline):
                message = await self._receive()
        except TimeoutError:
            sentence = f"The body was not there within {self.settings.body_seconds:g} s, the limit."
            raise Refused(408, "slow_body", sentence) from None
        number = len(message.get("body", b""))
        self.arrived += number
        self.admission.held_bytes += number
        self.is_whole = not message.get("more_body", False)
        if self.arrived > self.settings.max_body_bytes:
            raise _too_long(self.settings.max_body_bytes)
        if self.admission.held_bytes > self.settings.max_held_bytes:
            raise Refused(503, "held_bytes", "The server holds all the bytes that it may; try again.", retry_after=1)
        return message


def _too_long(limit: int) -> Refused:
    return Refused(413, "bytes", f"The body has more than {limit / MB:g} MB, the limit.")


def _headers_of(scope: Scope) -> dict[str, str]:
    """By name; Refused where they are too long, or one that decides is there twice."""
    headers: dict[str, str] = {}
    length = sum(len(name) + len(value) for name, value in scope["headers"])
    if length + len(scope["raw_path"]) + len(scope["query_string"]) > MAX_HEADER_BYTES:
        raise Refused(431, "headers", f"The path and headers have more than {MAX_HEADER_BYTES:,} bytes, the limit.")
    for raw_name, value in scope["headers"]:
        name = raw_name.decode("latin-1").lower()
        if name in headers and name in ("host", "origin", "authorization", "content-type", "content-length"):
            raise Refused(400, "headers", f"The header {name} is there twice.")
        headers[name] = value.decode("latin-1")
    return headers


def _name_of(host: str) -> str:
    """`[::1]:8000` -> `::1`."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
