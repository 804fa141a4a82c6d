from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from resnet_tl.bundle import Bundle, write_bundle
from resnet_tl.cli.main import main
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.export.targets import TARGETS
from resnet_tl.networks import create_network


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder, seen = tmp_path_factory.mktemp("export") / "model", Preprocessing(28, 28, 28)
    write_bundle(Bundle(folder, {"name": "lenet5", "in_chans": 3}, ("red", "green", "blue"), seen), _lenet())
    return folder


def _lenet() -> torch.nn.Module:
    return create_network("lenet5", num_classes=3, in_chans=3)


@pytest.fixture
def export(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command; its exit code and what it printed."""

    def run(*words: object) -> tuple[int, str, str]:
        try:
            code = main(["export", *map(str, words)])
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capfd.readouterr()
        return code, said.out, said.err

    return run


def test_what_was_written_and_how_it_was_verified_is_printed(export, model: Path, blobs: Path, tmp_path: Path):
    code, out, err = export(model, "--to", "onnx", "-o", tmp_path / "a.onnx", "--features", "--images", blobs / "val")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0] == f"{tmp_path / 'a.onnx'}: 0.3 MB; uint8 (N, H, W, 3) to probabilities and features"
    assert lines[1].startswith("verified by onnxruntime 1.")
    assert lines[1].endswith(" on 13 images given:")
    assert lines[2] == "  same class as the model: 13 of 13 (100.0 %)"
    assert lines[3].startswith("  largest difference of a probability: 0.0")
    assert lines[4].startswith("  accuracy on 13 labelled images: ")
    assert lines[4].endswith("change 0.0 points [0.0, 0.0]")
    assert lines[5:] == [
        f"beside it: a{end}" for end in (".onnx.verification.json", "_onnx_predict.mjs", "_onnx_predict.py")
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "has no images of its own, on which the exported file could be verified: name some with --images"),
        (("--images", "nowhere"), "nowhere"),
        (("--to", "onix", "--images", "nowhere"), "argument --to: invalid choice: 'onix'"),
        (("--input", "video"), "--input: invalid choice: 'video'"),
    ],
)
def test_a_mistake_is_one_sentence(export, model: Path, tmp_path: Path, words: tuple[str, ...], said: str):
    code, out, err = export(model, "-o", tmp_path / "a.onnx", *words)
    assert (code, out) == (2, "")
    assert said.removeprefix("argument ") in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_name_of_another_kind_of_file_is_refused_before_torch_is_loaded(export, model: Path, tmp_path: Path):
    code, _, err = export(model, "-o", tmp_path / "a.pt")
    assert (code, err) == (2, f"resnet-tl: {tmp_path / 'a.pt'} is to be a .onnx file; give it a name that ends so.\n")


def test_every_target_is_offered(export):
    code, out, _ = export("--help")
    assert code == 0
    assert "--to {" + ",".join(TARGETS) in out


def test_a_file_that_is_not_verified_is_a_failure(export, model: Path, blobs: Path, tmp_path, monkeypatch):
    """A target that writes another network: the one that the model is by another seed."""
    from dataclasses import replace

    from resnet_tl.export.deployed import Deployed
    from resnet_tl.export.targets import Order

    onnx = TARGETS["onnx"]

    def write_another(order: Order, file: Path) -> None:
        torch.manual_seed(1)
        network = _lenet().eval()
        torch.nn.init.normal_(network.head.weight)
        onnx.write(replace(order, deployed=Deployed(Bundle.open(model), network)), file)

    monkeypatch.setitem(TARGETS, "onnx", replace(onnx, write=write_another))
    code, out, err = export(model, "-o", tmp_path / "a.onnx", "--images", blobs / "val")
    assert (code, out) == (1, ""), err
    assert "a.onnx is not written, for onnxruntime" in err
    assert "; try --input tensor" in err
    assert list(tmp_path.iterdir()) == []


def test_a_signal_leaves_nothing_behind(export, model: Path, blobs: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("resnet_tl.export.exporting.verify", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    code, out, err = export(model, "-o", tmp_path / "a.onnx", "--images", blobs / "val")
    assert (code, out, err.splitlines()[-1]) == (143, "", "resnet-tl: stopped by SIGTERM")
    assert not list(tmp_path.iterdir())
