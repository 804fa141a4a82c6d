"""The page of a server: fixed files that load nothing from elsewhere, and what they ask for besides `/predict`."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from resnet_tl.data.pixels.decode import BadImage
from resnet_tl.serving.answers import BODY, REFUSALS, Failure
from resnet_tl.serving.engine import Engine
from resnet_tl.serving.queue import unless_gone
from resnet_tl.serving.settings import Refused, Settings
from resnet_tl.serving.uploads import read_uploads

FOLDER = Path(__file__).with_name("static")
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
NOT_EXPLAINED = "An ONNX file does not say why: serve the run for Grad-CAM and the nearest training images."


def add_page(app: FastAPI, engine: Engine, settings: Settings) -> None:
    """Adds the page at `/`, its files below `/page/`, `/facts` and `/explain`.

    The files say nothing of the model, so that they need no token; `/facts` and `/explain` do as `/predict` does.
    """
    files = {file.name: (file.read_bytes(), KINDS[file.suffix]) for file in FOLDER.iterdir()}
    explainer, describing = engine.explainer(), asyncio.Semaphore(settings.decode_threads)

    def file_route(name: str, path: str) -> None:
        async def file() -> Response:
            return Response(content, media_type=kind)

        content, kind = files[name]
        app.add_api_route(path, file, include_in_schema=False)

    file_route("index.html", "/")
    for name in files.keys() - {"index.html"}:
        file_route(name, f"/page/{name}")

    @app.get("/facts", include_in_schema=False)
    async def facts() -> Response:
        """What the page has to know of the server."""
        said = [*engine.said, *([] if explainer else [NOT_EXPLAINED])]
        about = {"model": engine.name, "classes": engine.classes, "said": said, "explains": explainer is not None}
        marks = {"is_sure_from": engine.is_sure_from, "strange_up_to": engine.strange_up_to}
        limits = {"max_bytes": settings.max_image_bytes, "max_pixels": settings.max_pixels}
        return JSONResponse({**about, **marks, **limits})

    @app.post("/explain", responses={404: {"model": Failure}, **REFUSALS}, openapi_extra=BODY)
    async def explain(request: Request) -> Response:
        """Where in one image the evidence for its likeliest class lies (Grad-CAM), and the nearest training images."""
        if explainer is None:
            raise Refused(404, "explain", NOT_EXPLAINED)
        uploads = await read_uploads(request)
        if len(uploads) > 1:
            raise Refused(413, "images", "One image at a time is explained.")
        found = await unless_gone(request, app.state.queue.run(explainer.compute, uploads[0].take()))
        if isinstance(found, BadImage):
            raise Refused(422, "image", str(found))
        async with describing:  # which decodes
            return JSONResponse(await run_in_threadpool(explainer.describe, found))
