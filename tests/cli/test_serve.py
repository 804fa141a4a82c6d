"""What `resnet-tl serve` refuses, each in one sentence and before anything slow begins."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from fastapi import FastAPI

from resnet_tl.cli import serve
from resnet_tl.errors import UserError
from resnet_tl.serving.predictor_engine import PredictorEngine, _name_of
from resnet_tl.serving.settings import Settings
from tests.serving.running import model

__all__ = ["model"]


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESNET_TL_TOKEN", raising=False)


def refusal(*words: object) -> str:
    with pytest.raises(UserError) as caught:
        serve.main([str(word) for word in words])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_model(tmp_path: Path):
    assert "does not exist" in refusal(tmp_path / "none", "--port", 0)
    assert "cannot be read" in refusal(tmp_path / "none.onnx", "--port", 0)


def test_a_file_that_is_no_model(tmp_path: Path):
    (tmp_path / "a.onnx").write_bytes(b"no model")
    assert "is no ONNX file" in refusal(tmp_path / "a.onnx", "--port", 0)
    assert "run on the CPU" in refusal(tmp_path / "a.onnx", "--port", 0, "--device", "cuda")


def test_a_port_in_use(model: Path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = refusal(model, "--port", port)
    assert said == (
        f"--port {port} of 127.0.0.1 cannot be had (address already in use); give another --port, or 0 for a free one."
    )


def test_a_model_that_cannot_judge(model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """The first image, a blank one, is judged before any client's; it may take longer than an answer."""

    def judge(self: PredictorEngine, prepared: object) -> None:
        time.sleep(1.2)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(PredictorEngine, "judge", judge)
    said = refusal(model, "--port", 0, "--time_limit", 1)
    assert said == "The model cannot judge an image: out of memory."
    assert not caplog.records


def test_another_address_without_a_token(model: Path):
    assert "a token is needed" in refusal(model, "--host", "0.0.0.0")


def test_an_address_of_somebody_else(model: Path, tmp_path: Path):
    (tmp_path / "token").write_text("0123456789abcdef")
    assert "cannot be had" in refusal(model, "--host", "192.0.2.1", "--token_file", tmp_path / "token")
    for host in ("no.invalid", "no..name"):
        assert "no address of this machine" in refusal(model, "--host", host, "--token_file", tmp_path / "token")


@pytest.mark.parametrize("token", ["", "short", "two words of a sentence", "schlüsselschlüssel", "a" * 16 + "\nb"])
def test_a_token_that_is_none(token: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "token").write_text(token)
    assert "holds no token" in refusal(model, "--token_file", tmp_path / "token")
    monkeypatch.setenv("RESNET_TL_TOKEN", token)
    assert "RESNET_TL_TOKEN holds no token" in refusal(model)


def test_a_token_file_that_cannot_be_read(model: Path, tmp_path: Path):
    assert "cannot be read" in refusal(model, "--token_file", tmp_path / "none")
    assert "cannot be read" in refusal(model, "--token_file", tmp_path)


def test_limits_that_are_no_numbers(model: Path, capsys: pytest.CaptureFixture[str]):
    for words in (["--max_images", "0"], ["--time_limit", "-1"], ["--port", "65536"], ["--max_megapixels", "x"]):
        with pytest.raises(SystemExit) as end:
            serve.main([str(model), *words])
        assert end.value.code == 2
        assert words[0] in capsys.readouterr().err
    assert "over 0 and under 1" in refusal(model, "--port", 0, "--min_confidence", 80)


def test_an_image_that_is_allowed_is_not_too_much_to_hold(model: Path, monkeypatch: pytest.MonkeyPatch):
    given: list[Settings] = []
    monkeypatch.setattr("resnet_tl.serving.server.listening", lambda settings: given.append(settings) or 1 / 0)
    for megabytes in (20, 1000):
        with pytest.raises(ZeroDivisionError):
            serve.main([str(model), "--max_megabytes", str(megabytes)])
        assert given[-1].max_image_bytes == megabytes * 1_000_000
        assert given[-1].max_image_bytes < given[-1].max_body_bytes <= given[-1].max_held_bytes


def test_the_first_line_sends_the_token_that_it_does_not_show(model: Path):
    engine = PredictorEngine(model, "cpu")
    for file, shown in ((Path("my token"), "$(cat 'my token')"), (None, "$RESNET_TL_TOKEN")):
        first, *said, last = serve.first_lines(engine, "http://127.0.0.1:1", serve._curl_option(file))
        assert first == (
            f"Serving small (3 classes: {', '.join(engine.classes)}): "
            f'curl --oauth2-bearer "{shown}" --data-binary @photo.jpg http://127.0.0.1:1/predict'
        )
        assert said == list(engine.said)
        assert last == "A page is at http://127.0.0.1:1/; Ctrl-C ends the server."


def test_a_missing_extra(model: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("resnet_tl.serving.engine.PACKAGES", ("fastapi", "not_installed_at_all"))
    assert refusal(model) == (
        'A server needs not_installed_at_all, which is not installed: pip install "resnet-tl[serve]".'
    )


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0 requests came, and all were answered"), (1, "1 request came, and was answered"), (1200, "1,200 requests")],
)
def test_the_end_counts_requests_in_english(
    number: int, said: str, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def run(app: FastAPI, *_: object) -> None:
        app.state.metrics.accepted = number

    monkeypatch.setattr("resnet_tl.serving.server.run", run)
    serve.main([str(model), "--port", "0"])
    assert f"Stopped; {said}" in capsys.readouterr().out


def test_a_model_at_the_top_of_a_container_has_a_name():
    assert [_name_of(Path(path)) for path in ("/model", "/runs/photos-1/model", "/runs/photos-1")] == [
        "model", "photos-1", "photos-1"
    ]  # fmt: skip
