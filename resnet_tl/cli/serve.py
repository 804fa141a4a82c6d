"""`resnet-tl serve RUN|BUNDLE|MODEL.onnx`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from resnet_tl.cli.arguments import CommandParser, positive
from resnet_tl.cli.loading import loading
from resnet_tl.errors import UserError, listed, printable

if TYPE_CHECKING:
    from resnet_tl.serving.engine import Engine

ENVIRONMENT = "RESNET_TL_TOKEN"
EXAMPLES = """\
examples:
  resnet-tl serve runs/freeze_backbone-1
  resnet-tl serve runs/freeze_backbone-1 --port 9000 --min_confidence 0.8
  resnet-tl serve model.onnx --host 0.0.0.0 --token_file token.txt

then, in another terminal:
  curl --data-binary @photo.jpg http://127.0.0.1:8000/predict
  curl -F image=@one.jpg -F image=@two.png http://127.0.0.1:8000/predict

Ctrl-C or SIGTERM answers what was accepted and ends with exit code 0; a second one ends at once.
"""


def main(argv: list[str]) -> None:
    """Serves a model until a signal comes."""
    parser = CommandParser(
        prog="resnet-tl serve",
        description="Serve a model by HTTP: POST /predict, a page at /, /healthz, /readyz, /metrics, /openapi.json.",
        epilog=EXAMPLES,
    )
    model = "a run such as runs/freeze_backbone-1, a model bundle or its zip, or an exported ONNX file"
    parser.add_argument("model", metavar="RUN|BUNDLE|MODEL.onnx", type=Path, help=model)
    host = "address to listen on; default: 127.0.0.1, this machine alone; any other needs a token"
    parser.add_argument("--host", default="127.0.0.1", help=host)
    parser.add_argument("--port", type=_port, default=8000, help="default: 8000; 0 takes a free one")
    token = f"a file with the token that clients must send; default: the environment variable {ENVIRONMENT}"
    parser.add_argument("--token_file", type=Path, metavar="FILE", help=token)
    sure = "answers below it are called not sure; default: by the validation images, which the start says"
    parser.add_argument("--min_confidence", type=float, metavar="SHARE", help=sure)
    parser.add_argument("--device", help="such as cpu or cuda; default: the fastest at hand")
    limits = parser.add_argument_group("limits")
    for name, default, text in (
        ("--max_megabytes", 20, "megabytes of one image file"),
        ("--max_megapixels", 50, "megapixels of one image"),
        ("--max_images", 32, "images of one request"),
        ("--max_requests", 64, "requests at once"),
        ("--max_waiting", 128, "images at once that are decoded or wait for the network"),
        ("--time_limit", 30, "seconds in which a request is answered, once it has arrived"),
    ):
        limits.add_argument(name, type=positive, default=default, metavar="NUMBER", help=f"{text}; default: {default}")
    arguments = parser.parse_args(argv)

    from resnet_tl.serving.engine import check_serve_extra, engine_of
    from resnet_tl.serving.settings import MB, Settings

    check_serve_extra()
    body = max(64, arguments.max_megabytes + 1) * MB
    settings = Settings(
        host=arguments.host,
        port=arguments.port,
        token=_token(arguments.token_file),
        max_image_bytes=arguments.max_megabytes * MB,
        max_body_bytes=body,
        max_held_bytes=max(512 * MB, body),
        max_pixels=arguments.max_megapixels * 1_000_000,
        max_images=arguments.max_images,
        max_requests=arguments.max_requests,
        max_waiting=max(arguments.max_waiting, arguments.max_images),
        answer_seconds=arguments.time_limit,
    )
    with loading():
        from resnet_tl.serving.server import listening, run, url_of
    with listening(settings) as listener:
        with loading():
            engine = engine_of(arguments.model, arguments.device, arguments.min_confidence)

            from resnet_tl.serving.app import create_app

        url = url_of(settings, listener.getsockname()[1])
        said = first_lines(engine, url, _curl_option(arguments.token_file) if settings.token else "")
        app = create_app(engine, settings)
        run(app, settings, listener, lambda: print("\n".join(map(printable, said)), flush=True))
    number = app.state.metrics.accepted
    came = "1 request came, and was answered" if number == 1 else f"{number:,} requests came, and all were answered"
    print(f"Stopped; {came}.")


def first_lines(engine: Engine, url: str, option: str) -> list[str]:
    """What is served, and the command that tries it; what is worth saying of it; where the page is."""
    names = f"{len(engine.classes)} classes: {listed(engine.classes, 5)}"
    first = f"Serving {engine.name} ({names}): curl {option}--data-binary @photo.jpg {url}/predict"
    return [first, *engine.said, f"A page is at {url}/; Ctrl-C ends the server."]


def _curl_option(token_file: Path | None) -> str:
    """What sends the token, which is not shown; of this option curl hides it in the list of processes as well."""
    token = f"$(cat {quote(str(token_file))})" if token_file else f"${ENVIRONMENT}"
    return f'--oauth2-bearer "{token}" '


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is no port; it must be a number of 0 to 65535")
    return int(text)


def _token(file: Path | None) -> str | None:
    """The token of a file, or of the environment; UserError for one that anybody could guess or nobody send."""
    if file is not None:
        try:
            token, source = file.read_text().strip(), str(file)
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise UserError(f"--token_file is {file}, which cannot be read: {why}.") from None
    else:
        token, source = os.environ.get(ENVIRONMENT, "").strip(), ENVIRONMENT
        if ENVIRONMENT not in os.environ:
            return None
    if len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token:
        raise UserError(
            f"{source} holds no token: it must be 16 or more printable ASCII characters without spaces, such as "
            "`openssl rand -hex 32` gives."
        )
    return token
