"""The server's routes: `/predict`, `/healthz`, `/readyz`, `/metrics`, `/openapi.json`."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from resnet_tl import __version__
from resnet_tl.data.pixels.decode import BadImage
from resnet_tl.serving.admission import Admission
from resnet_tl.serving.answers import BODY, REFUSALS, Failure, Predictions, entry
from resnet_tl.serving.engine import Engine
from resnet_tl.serving.metrics import Metrics
from resnet_tl.serving.page import add_page
from resnet_tl.serving.queue import BatchQueue, unless_gone
from resnet_tl.serving.settings import Refused, Settings
from resnet_tl.serving.uploads import read_uploads

TOP = 5
PATHS = ("/", "/predict", "/explain", "/healthz", "/readyz", "/metrics", "/openapi.json")
"""As the metrics name them; all others are `other`."""


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
        return JSONResponse({"error": sentence}, error.status_code, dict(error.headers or {}))

    @app.post("/predict", responses={200: {"model": Predictions}, **REFUSALS}, openapi_extra=BODY)
    async def predict(request: Request, top: str = str(TOP)) -> Response:
        """Classifies one image, the body itself, or several, the files of a form."""
        if not top.isdecimal() or len(top) > 6 or int(top) < 1:
            raise Refused(422, "top", "The parameter top must be a whole number of 1 or more.")
        uploads = await read_uploads(request)
        answers = await unless_gone(request, queue.judge([upload.take() for upload in uploads]))
        for answer in answers:
            metrics.images.labels("bad" if isinstance(answer, BadImage) else "judged").inc()
        if len(answers) == 1 and isinstance(answers[0], BadImage):
            raise Refused(422, "image", str(answers[0]))
        named = zip(uploads, answers, strict=True)
        found = [entry(engine, upload.name, answer, int(top)) for upload, answer in named]
        return JSONResponse({"model": {"name": engine.name, **engine.facts}, "predictions": found})

    @app.get("/healthz", responses={200: {"description": "The server is alive."}})
    async def healthz() -> Response:
        """Whether the server is alive."""
        return JSONResponse({"status": "alive"})

    @app.get("/readyz", responses={503: {"model": Failure}})
    async def readyz() -> Response:
        """Whether the server takes images: not while its queue is full or it is stopping."""
        if queue.is_ending or queue.places == 0:
            why = "The server is stopping." if queue.is_ending else "The queue is full."
            return JSONResponse({"error": why}, 503, {"Retry-After": "1"})
        return JSONResponse({"status": "ready"})

    @app.get("/metrics", responses={200: {"content": {"text/plain": {}}}})
    async def prometheus() -> Response:
        """What the server counts, for Prometheus."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    add_page(app, engine, settings)
    return app
