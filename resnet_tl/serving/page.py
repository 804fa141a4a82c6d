"""The page of a server: a few fixed files that fetch nothing from elsewhere, what they ask of the server, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import Response

FOLDER = Path(__file__).with_name("static")
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def add_page(app: FastAPI, engine: Any, settings: Any) -> None:
    """Adds the page at `/` and its files; nothing of them says what the model is, so that they need no token."""
    files = {file.name: (file.read_bytes(), KINDS[file.suffix]) for file in FOLDER.iterdir()}

    def answer(name: str) -> Response:
        content, kind = files[name]
        return Response(content, media_type=kind, headers=HEADERS)

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        return answer("index.html")

    for name in files.keys() - {"index.html"}:
        app.add_api_route(f"/page/{name}", lambda name=name: answer(name), include_in_schema=False)
