"""The page's files, and what they ask of a server besides `/predict`."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_tl import report
from resnet_tl.serving.explanation import Explainer
from resnet_tl.serving.page import FOLDER
from resnet_tl.serving.predictor_engine import PredictorEngine
from tests.serving.running import Running, form_of, photo, running
from tests.serving.small_run import CLASSES, drawn, make_run

FILES = sorted(file.name for file in FOLDER.iterdir())
RAW = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def run_server(tmp_path_factory: pytest.TempPathFactory):
    engine = PredictorEngine(make_run(tmp_path_factory.mktemp("served")).path, "cpu")
    with running(engine) as server:
        yield server


def file_of(image: Image.Image) -> bytes:
    content = BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize("name", FILES)
def test_a_file_names_no_other_host_and_has_no_code_in_its_markup(name: str):
    text = (FOLDER / name).read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")

    assert "//" not in re.sub(r"(^|\s)// .*", "", text)
    assert not re.search(r"\son\w+=|\bstyle=|javascript:|innerHTML|eval\(|<script>", text)


def test_the_colours_are_those_of_the_reports():
    def colours(style: str) -> list[str]:
        return re.findall(r":root \{[^}]*\}", style)[:2]  # light and dark

    of_reports = Path(report.__file__).with_name("templates") / "page.css"

    assert colours((FOLDER / "page.css").read_text()) == colours(of_reports.read_text())


def test_every_file_is_served_under_the_policy(server: Running):
    kinds = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    for name in FILES:
        reply = server.get("/" if name == "index.html" else f"/page/{name}")
        assert reply.status == 200
        assert reply.content == (FOLDER / name).read_bytes()
        assert reply.headers["content-type"].partition(";")[0] == kinds[name.rpartition(".")[2]]
        assert reply.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")


@pytest.mark.parametrize(
    "path", ["/page/", "/page/../page.py", "/page/%2e%2e/page.py", "/page//etc/passwd", "/page/index"]
)
def test_no_other_file_is_served(server: Running, path: str):
    assert server.get(f"/page/{path}").status == 404


def test_only_the_files_need_no_token(engine, serve):
    server = serve(engine, token="secret")

    assert server.get("/").status == 200
    assert server.get("/page/page.js").status == 200
    assert server.get("/facts").status == 401
    assert server.ask("POST", "/explain", photo(), RAW).status == 401
    assert server.get("/facts", Authorization="Bearer secret").status == 200


def test_the_facts_are_what_the_page_has_to_know(run_server: Running):
    facts = run_server.get("/facts").json

    assert facts["model"] == "photos-1"
    assert facts["classes"] == list(CLASSES)
    assert facts["explains"] is True
    assert facts["max_bytes"] == 20_000_000
    assert facts["strange_up_to"] == pytest.approx(1 / 37)


def test_explain_answers_for_the_class_that_predict_gives(run_server: Running):
    for colour in range(3):
        content = file_of(drawn(colour, 70))
        said = run_server.predict(content, RAW).json["predictions"][0]["predicted"]

        found = run_server.ask("POST", "/explain", content, RAW).json

        assert found["class"] == said == CLASSES[colour]
        assert found["heat"].startswith("data:image/png;base64,")
        assert [near["class"] for near in found["nearest"]] == [said] * 6


def test_explain_takes_one_usable_image(run_server: Running):
    body, headers = form_of({"a.jpg": photo(0), "b.jpg": photo(1)})
    two = run_server.ask("POST", "/explain", body, headers)
    none = run_server.ask("POST", "/explain", b"no image at all", RAW)
    empty = run_server.ask("POST", "/explain", b"", RAW)

    assert (two.status, two.error) == (413, "One image at a time is explained.")
    assert none.status == 422
    assert none.error.startswith("The file is not an image")
    assert empty.status == 400
    assert run_server.queue.places == run_server.app.state.settings.max_waiting


def test_no_more_explanations_are_decoded_at_once_than_the_server_has_threads_for_it(serve, run_server, monkeypatch):
    now, most = 0, 0

    def describe(self: Explainer, found: object) -> dict:
        nonlocal now, most
        now += 1
        most = max(most, now)
        time.sleep(0.1)
        now -= 1
        return {}

    monkeypatch.setattr(Explainer, "describe", describe)
    small = serve(run_server.app.state.engine, decode_threads=1)
    with ThreadPoolExecutor(4) as clients:
        asked = [clients.submit(small.ask, "POST", "/explain", photo(seed), RAW) for seed in range(4)]
        assert [one.result().status for one in asked] == [200] * 4
    assert most == 1


def test_explain_has_the_limits_of_predict(engine, serve):
    large = file_of(Image.fromarray(np.zeros((1200, 1000), np.uint8)))

    pixels = serve(engine, max_pixels=1_000_000).ask("POST", "/explain", large, RAW)
    size = serve(engine, max_image_bytes=1000).ask("POST", "/explain", large, RAW)

    assert (pixels.status, pixels.error) == (422, "The image has more than 1 megapixel, the limit.")
    assert size.status == 413
