"""What a server answers, over a real socket, by a real network."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_tl.bundle import Bundle, write_bundle
from resnet_tl.evaluation.predictions import probabilities
from resnet_tl.export.deployed import Deployed
from resnet_tl.export.facts import Facts
from resnet_tl.export.onnx_graph import tensor_graph, with_facts
from resnet_tl.export.raw_images import raw_graph
from resnet_tl.inference.predictor import Predictor
from resnet_tl.serving.answers import NoPrediction, Prediction, Predictions
from resnet_tl.serving.engine import engine_of
from resnet_tl.serving.predictor_engine import PredictorEngine
from tests.serving.running import CLASSES, Running, form_of, photo

FORM = "application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
def exported(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The model as ONNX files, by the kind of their input."""
    folder, bundle = tmp_path_factory.mktemp("exported"), Bundle.open(model)
    network = tensor_graph(Deployed(bundle, bundle.load_network()))
    for kind, graph in (("raw", raw_graph(network, bundle.preprocessing)), ("tensor", network)):
        (folder / f"{kind}.onnx").write_bytes(with_facts(graph, Facts.of(bundle, kind)).SerializeToString())
    return {kind: folder / f"{kind}.onnx" for kind in ("raw", "tensor")}


def shares_of(entry: dict) -> list[float]:
    """In the order of the classes."""
    found = {one["class"]: one["probability"] for one in entry["top"]}
    return [found[name] for name in CLASSES]


def test_an_image_gets_the_numbers_of_the_predictor(server: Running, model: Path):
    content = photo(1, size=(200, 90))
    expected = Predictor(model, "cpu").predict([content])

    answer = server.predict(content, {"Content-Type": "image/jpeg"})

    assert answer.status == 200
    (entry,) = answer.json["predictions"]
    assert shares_of(entry) == probabilities(expected)[0].tolist()
    assert entry["predicted"] == expected["predicted"][0] == entry["top"][0]["class"]
    assert entry["probability"] == max(shares_of(entry)) == entry["top"][0]["probability"]
    assert entry["familiarity"] == pytest.approx(expected["familiarity"][0])
    assert answer.json["model"] == {
        "name": "small",
        "network": "resnet8",
        "digest": json.loads((model / "model.json").read_text())["digest"],
    }


@pytest.mark.parametrize("content_type", ["image/png", "image/x-anything", "application/octet-stream", FORM, None])
def test_a_raw_body_is_an_image_whatever_a_client_calls_it(content_type: str | None, server: Running):
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = server.predict(photo(kind="PNG"), headers)

    assert answer.status == 200
    assert answer.json["predictions"][0]["name"] == "image"


def test_a_form_has_an_entry_for_each_image_in_order(server: Running):
    one_by_one = [server.predict(photo(seed)).json["predictions"][0] for seed in range(3)]

    answer = server.predict(*form_of({f"photo {seed}.jpg": photo(seed) for seed in range(3)}))

    entries = answer.json["predictions"]
    assert [entry.pop("name") for entry in entries] == ["photo 0.jpg", "photo 1.jpg", "photo 2.jpg"]
    assert entries == [{key: value for key, value in one.items() if key != "name"} for one in one_by_one]


def test_a_bad_image_alone_is_refused_and_among_several_has_its_own_sentence(server: Running):
    alone = server.predict(b"GIF89a nothing")
    among = server.predict(*form_of({"a.jpg": photo(), "b.gif": b"GIF89a nothing", "c.jpg": photo()}))

    assert alone.status == 422
    assert among.status == 200
    entries = among.json["predictions"]
    assert entries[1] == {"name": "b.gif", "error": alone.error}
    assert entries[0]["predicted"] == entries[2]["predicted"]


def test_names_come_back_as_text_without_folders_and_control_characters(server: Running):
    names = ["../../etc/p<b>ß.jpg", "C:\\photos\\a.jpg", "a\x1b[2J.jpg", ""]
    answer = server.predict(*form_of({name: photo() for name in names}))

    assert [entry["name"] for entry in answer.json["predictions"]] == ["p<b>ß.jpg", "a.jpg", "a[2J.jpg", "image"]


def test_top_says_how_many_classes_are_listed(server: Running):
    for top, listed in ((1, 1), (2, 2), (99, 3)):
        assert len(server.predict(photo(), query=f"?top={top}").json["predictions"][0]["top"]) == listed
    for wrong in ("0", "-1", "x", "", "%C2%B2", "9" * 5000):
        answer = server.predict(photo(), query=f"?top={wrong}")
        assert answer.status == 422
        assert "top must be a whole number" in answer.error


def test_what_is_unfamiliar_or_unsure_is_said(server: Running, engine: PredictorEngine, model: Path):
    entries = [server.predict(photo(seed)).json["predictions"][0] for seed in range(5)]
    assert engine.strange_up_to is not None
    for entry in entries:
        assert entry["looks_like_nothing_known"] == (entry["familiarity"] <= engine.strange_up_to)
        assert entry["not_sure"] == (entry["probability"] < engine.is_sure_from)

    unsure = engine_of(model, "cpu", min_confidence=0.999)
    assert unsure.is_sure_from == 0.999
    assert unsure.said == ()
    said = r"below 0\.\d+ are marked as not sure; \d\d\.\d % of .* are surer, and of these 9\d\.\d % are correct\."
    assert re.search(said, engine.said[0])


def test_an_onnx_file_says_nothing_of_familiarity_but_what_its_model_says_of_sureness(
    exported: dict[str, Path], engine: PredictorEngine, serve
):
    onnx = engine_of(exported["raw"])
    answer = serve(onnx).predict(photo())

    (entry,) = answer.json["predictions"]
    assert entry["familiarity"] is None
    assert entry["looks_like_nothing_known"] is None
    assert entry["not_sure"] is (entry["probability"] < engine.is_sure_from)
    assert (onnx.is_sure_from, onnx.said) == (engine.is_sure_from, engine.said)
    assert engine_of(exported["raw"], min_confidence=0.999).is_sure_from == 0.999


def test_where_nothing_is_known_of_sureness_nothing_is_claimed(model: Path, tmp_path: Path, serve):
    bundle = Bundle.open(model)
    write_bundle(Bundle(tmp_path / "small", bundle.network, CLASSES, bundle.preprocessing), bundle.load_network())
    assert Facts.of(Bundle.open(tmp_path / "small"), "raw").sureness == {}
    server = serve(engine_of(tmp_path / "small", "cpu"))

    assert server.predict(photo()).json["predictions"][0]["not_sure"] is None
    assert "not known, so none is marked" in server.get("/facts").json["said"][0]


@pytest.mark.parametrize("kind", ["raw", "tensor"])
def test_an_onnx_file_is_served_with_the_numbers_of_the_model(kind: str, exported: dict[str, Path], model: Path, serve):
    images = {f"{seed}.png": photo(seed, "PNG", (50 + seed, 44)) for seed in range(4)}
    expected = probabilities(Predictor(model, "cpu").predict(list(images.values())))

    answer = serve(engine_of(exported[kind])).predict(*form_of(images))

    shares = [shares_of(entry) for entry in answer.json["predictions"]]
    np.testing.assert_allclose(shares, expected, atol=0.02 if kind == "raw" else 1e-4)


def test_an_onnx_file_does_not_say_why(exported: dict[str, Path], serve):
    server = serve(engine_of(exported["tensor"]))

    answer = server.ask("POST", "/explain", photo(), {"Content-Type": "image/jpeg"})

    sentence = "An ONNX file does not say why: serve the run for Grad-CAM and the nearest training images."
    assert (answer.status, answer.error) == (404, sentence)
    facts = server.get("/facts").json
    assert (facts["explains"], facts["said"][1:]) == (False, [sentence])


def test_health_readiness_and_metrics(server: Running):
    server.predict(photo())
    server.predict(b"no image")

    assert server.get("/healthz").json == {"status": "alive"}
    assert server.get("/readyz").json == {"status": "ready"}
    metrics = server.get("/metrics")
    assert metrics.headers["Content-Type"].startswith("text/plain")
    found = dict(line.rsplit(" ", 1) for line in metrics.content.decode().splitlines() if not line.startswith("#"))
    assert float(found['resnet_tl_requests_total{code="200",path="/predict"}']) >= 1
    assert float(found['resnet_tl_rejected_total{reason="image"}']) >= 1
    assert float(found['resnet_tl_images_total{outcome="judged"}']) >= 1
    assert float(found["resnet_tl_images_waiting"]) == 0
    for name in ("request_seconds", "decode_seconds", "compute_seconds", "batch_images"):
        assert float(found[f"resnet_tl_{name}_count"]) >= 1


def test_paths_of_strangers_do_not_become_names_of_metrics(server: Running):
    for number in range(20):
        server.get(f"/{number}")

    text = server.get("/metrics").content.decode()
    assert 'path="other"' in text
    assert 'path="/1"' not in text


def test_openapi_describes_what_is_answered(server: Running):
    described = server.get("/openapi.json").json

    assert described["info"]["title"] == "resnet-tl: small"
    operation = described["paths"]["/predict"]["post"]
    assert set(operation["requestBody"]["content"]) == {"image/*", "multipart/form-data"}
    assert {"200", "401", "413", "415", "422", "503"} <= operation["responses"].keys()
    for body, headers in (form_of({"a": photo(), "b": b"bad"}), (photo(), {})):
        answer = server.predict(body, headers)
        parsed = Predictions.model_validate(answer.json)
        kinds = [Prediction, NoPrediction] if headers else [Prediction]
        assert [type(one) for one in parsed.predictions] == kinds
        assert parsed.model_dump(by_alias=True) == answer.json


def test_nothing_is_loaded_from_another_host(server: Running):
    """FastAPI's own pages of its API would load scripts from a CDN; a redirect would leave HTTPS behind a proxy."""
    for path in ("/docs", "/redoc", "/docs/oauth2-redirect", "/predict/"):
        assert server.get(path).status == 404


def test_every_answer_has_the_security_headers(server: Running):
    answers = [
        server.predict(photo()),
        server.predict(b"no image"),
        server.get("/nothing"),
        server.get("/predict"),
        server.get("/healthz", Host="evil.example"),
        server.ask("BREW", "/predict", b"tea"),
    ]

    assert [answer.status for answer in answers] == [200, 422, 404, 405, 421, 405]
    for answer in answers:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Access-Control-Allow-Origin"] is None
        assert answer.headers["Server"] is None
        if answer.status >= 400:
            assert answer.error


def test_an_error_of_the_model_is_a_sentence_without_a_stack_trace(model: Path, serve, caplog):
    class Broken(PredictorEngine):
        is_broken = False

        def judge(self, prepared):
            if self.is_broken:
                raise RuntimeError("secret of /home/me")
            return super().judge(prepared)

    broken = Broken(model, "cpu")
    served = serve(broken)
    broken.is_broken = True
    answer = served.predict(photo())

    assert answer.status == 500
    assert "secret" not in answer.error
    assert "secret of /home/me" in caplog.text
    broken.is_broken = False
    assert served.predict(photo()).status == 200


@pytest.mark.parametrize("kind", ["L", "I;16", "RGBA", "P", "1"])
def test_images_of_every_mode_are_judged_as_the_predictor_judges_them(kind: str, server: Running, model: Path):
    values = np.random.default_rng(3).integers(0, 256, (40, 50), dtype=np.uint8)
    image = Image.fromarray(values.astype(np.uint16) * 256) if kind == "I;16" else Image.fromarray(values).convert(kind)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")

    (entry,) = server.predict(buffer.getvalue()).json["predictions"]

    expected = probabilities(Predictor(model, "cpu").predict([buffer.getvalue()]))[0]
    assert shares_of(entry) == expected.tolist()
    assert math.isclose(sum(shares_of(entry)), 1)
