"""The server's routes: `/predict`, `/healthz`, `/readyz`, `/metrics`, `/openapi.json`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from resnet_tl import __version__
from resnet_tl.data.pixels.decode import BadImage
from resnet_tl.serving.admission import Admission
from resnet_tl.serving.answers import Failure, Predictions, entry
from resnet_tl.serving.engine import Engine
from resnet_tl.serving.metrics import CONTENT_TYPE, Metrics
from resnet_tl.serving.queue import BatchQueue
from resnet_tl.serving.settings import Refused, Settings
from resnet_tl.serving.uploads import Upload, read_uploads

Result = TypeVar("Result")
TOP = 5
PATHS = ("/", "/predict", "/explain", "/healthz", "/readyz", "/metrics", "/openapi.json")
"""As the metrics name them; all others are `other`."""
_IMAGE = {"schema": {"type": "string", "format": "binary"}}
_FORM = {"schema": {"type": "object", "properties": {"image": {"type": "array", "items": _IMAGE["schema"]}}}}
BODY = {"requestBody": {"required": True, "content": {"image/*": _IMAGE, "multipart/form-data": _FORM}}}
"""What OpenAPI says of a body with images."""
REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Failure, "description": "The body is empty or not well-formed."},
    401: {"model": Failure, "description": "The token is missing or wrong."},
    408: {"model": Failure, "description": "The body did not arrive in time."},
    413: {"model": Failure, "description": "A size or number is above its limit."},
    415: {"model": Failure, "description": "The content type is not one of an image or a form."},
    422: {"model": Failure, "description": "The one image cannot be used, or `top` is no number."},
    503: {"model": Failure, "description": "The server is busy; `Retry-After` says when to try again."},
    504: {"model": Failure, "description": "The answer was not there in time."},
}


def create_app(engine: Engine, settings: Settings) -> FastAPI:
    """The application; `app.state` has `engine`, `settings`, `queue` (`BatchQueue`) and `metrics`."""
    metrics = Metrics()
    queue = BatchQueue(engine, settings, metrics)

    app = FastAPI(
        title=f"resnet-tl: {engine.name}",
        version=__version__,
        summary=f"Classifies images as one of {len(engine.classes)} classes.",
        docs_url=None,  # which would load scripts from another host
        redoc_url=None,
        redirect_slashes=False,  # to http://, also behind a proxy with HTTPS
    )
    app.state.engine, app.state.settings, app.state.queue, app.state.metrics = engine, settings, queue, metrics
    app.add_middleware(Admission, settings=settings, metrics=metrics, paths=PATHS)

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> Response:
        said = {404: "There is nothing at this path.", 405: "This path does not take this method."}
        sentence = said.get(error.status_code, str(error.detail))
        return json_answer({"error": sentence}, error.status_code, dict(error.headers or {}))

    @app.post("/predict", responses={200: {"model": Predictions}, **REFUSALS}, openapi_extra=BODY)
    async def predict(request: Request, top: str = str(TOP)) -> Response:
        """Classifies one image, the body itself, or several, the files of a form."""
        if not top.isdecimal() or len(top) > 6 or int(top) < 1:
            raise Refused(422, "top", "The parameter top must be a whole number of 1 or more.")
        uploads = await uploads_of(request)
        answers = await unless_gone(request, queue.judge([upload.take() for upload in uploads]))
        for answer in answers:
            metrics.images.labels("bad" if isinstance(answer, BadImage) else "judged").inc()
        if len(answers) == 1 and isinstance(answers[0], BadImage):
            raise Refused(422, "image", str(answers[0]))
        named = zip(uploads, answers, strict=True)
        found = [entry(engine, upload.name, answer, int(top)) for upload, answer in named]
        return json_answer({"model": {"name": engine.name, **engine.facts}, "predictions": found})

    @app.get("/healthz", responses={200: {"description": "The server is alive."}})
    async def healthz() -> Response:
        """Whether the server is alive."""
        return json_answer({"status": "alive"})

    @app.get("/readyz", responses={503: {"model": Failure}})
    async def readyz() -> Response:
        """Whether the server takes images: not while its queue is full or it is stopping."""
        if queue.is_ending or queue.places == 0:
            why = "The server is stopping." if queue.is_ending else "The queue is full."
            return json_answer({"error": why}, 503, {"Retry-After": "1"})
        return json_answer({"status": "ready"})

    @app.get("/metrics", responses={200: {"content": {"text/plain": {}}}})
    async def prometheus() -> Response:
        """What the server counts, for Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    from resnet_tl.serving.page import add_page  # which uses what is below

    add_page(app, engine, settings)
    return app


async def uploads_of(request: Request) -> list[Upload]:
    """The images of a request's body; Refused beyond a limit."""
    return await read_uploads(request.stream(), request.headers.get("content-type", ""), request.app.state.settings)


async def unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """What `work` gives; it is given up where the client goes away before."""
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(request.receive())  # the body is read: the next that comes is its end
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Refused(499, "gone", "The client has gone.")
        return working.result()
    finally:
        gone.cancel()
        working.cancel()


def json_answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer of JSON, with names as they are."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text, status, headers, "application/json")
