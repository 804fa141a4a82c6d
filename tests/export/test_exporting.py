from __future__ import annotations

import errno
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from resnet_tl.bundle import Bundle
from resnet_tl.bundle_zip import EXPORTED
from resnet_tl.data.pixels.decode import decode
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.data.reading.layouts import read_images
from resnet_tl.errors import UserError
from resnet_tl.export import exporting, runtime
from resnet_tl.export.exporting import export
from resnet_tl.export.runtime import OnnxModel
from resnet_tl.export.targets import TARGETS, Order
from resnet_tl.export.verification import NotVerified
from resnet_tl.files import file_digest
from resnet_tl.inference.predictor import Predictor


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, blobs: Path, make_run: Callable[..., Path]) -> Path:
    return make_run(
        tmp_path_factory.mktemp("export") / "run", read_images(blobs), name="mnist_cnn", seen=Preprocessing(28, 32, 28)
    )


def copied_from(file: Path) -> Callable[[Order, Path], tuple[str, ...]]:
    """A target that writes a file which is there already."""
    return lambda order, target: target.write_bytes(file.read_bytes()) and ()


def test_an_export_is_whole_and_says_how_it_was_verified(run: Path, tmp_path: Path, blobs: Path):
    file = tmp_path / "new folder" / "blobs.onnx"
    done = export(run, file)
    assert sorted(path.name for path in file.parent.iterdir()) == [
        "blobs.onnx",
        "blobs.onnx.verification.json",
        "blobs_onnx_predict.mjs",
        "blobs_onnx_predict.py",
    ]
    assert {file, *done.beside} == set(file.parent.iterdir())
    said = json.loads((file.parent / "blobs.onnx.verification.json").read_text())
    assert (said["images"], said["same"], said["agreement"], said["source"]) == (13, 13, 1.0, "validation images")
    assert said["largest_difference"] < 0.01
    assert (said["sha256"], said["bytes"]) == (file_digest(file), file.stat().st_size)
    assert str(tmp_path) not in file.read_bytes().decode("latin-1")  # nothing of where it was made
    assert str(Path(exporting.__file__).parents[1]) not in file.read_bytes().decode("latin-1")
    table = Predictor(run).predict(blobs / "test")
    images = [decode(path) for path in table["path"]]
    np.testing.assert_allclose(OnnxModel(file).probabilities(images), table.filter(like="prob_"), atol=0.01)
    # Another kind in its place: the program of the first one that the second has none of goes with it.
    done = export(run, file, kind="tensor")
    assert OnnxModel(file).facts.input == "tensor"
    assert not (file.parent / "blobs_onnx_predict.mjs").exists()
    assert {file, *done.beside} == set(file.parent.iterdir())


def test_a_file_that_says_otherwise_is_not_kept(tmp_path: Path, blobs: Path, files, make_run, monkeypatch):
    run = make_run(tmp_path / "run", read_images(blobs), hidden=[8])
    onnx = TARGETS["onnx"]
    monkeypatch.setitem(TARGETS, "onnx", replace(onnx, write=copied_from(files["raw"])))  # that of another model
    (tmp_path / "blobs.onnx").write_text("the one before")
    with pytest.raises(
        NotVerified, match=r"blobs\.onnx is not written, for onnxruntime .* does not say what the model"
    ):
        export(run, tmp_path / "blobs.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blobs.onnx", "run"]
    assert (tmp_path / "blobs.onnx").read_text() == "the one before"


def test_a_full_disk_leaves_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(order: Order, file: Path) -> None:
        file.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setitem(TARGETS, "onnx", replace(TARGETS["onnx"], write=full))
    with pytest.raises(UserError, match=r"blobs\.onnx cannot be written: No space left on device; make room"):
        export(run, tmp_path / "blobs.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_program_of_the_users_own_is_not_written_over(run: Path, tmp_path: Path):
    (tmp_path / "blobs_onnx_predict.py").write_text("print('mine')")
    with pytest.raises(UserError, match=r"blobs_onnx_predict\.py is to be a program that uses the model"):
        export(run, tmp_path / "blobs.onnx")
    assert (tmp_path / "blobs_onnx_predict.py").read_text() == "print('mine')"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"file": Path("blobs.bin")}, r"blobs\.bin is to be a \.onnx file; give it a name that ends so"),
        ({"to": "onx"}, r"--to is 'onx'; it must be .*onnx.* Did you mean 'onnx'\?"),
        ({"model": Path("nowhere")}, "nowhere does not exist; give a run"),
        ({"images": ["nowhere"]}, "nowhere"),
    ],
)
def test_a_mistake_is_said_before_anything_is_written(run: Path, tmp_path: Path, options: dict, said: str):
    given = {"model": run, "file": tmp_path / "blobs.onnx", **options}
    with pytest.raises(UserError, match=said):
        export(**given)
    assert list(tmp_path.iterdir()) == []


def test_a_kind_of_input_that_a_target_lacks_is_refused_with_the_reason(run: Path, tmp_path: Path, monkeypatch):
    why = "This runtime resizes otherwise, so the host prepares the images."
    monkeypatch.setitem(TARGETS, "onnx", replace(TARGETS["onnx"], inputs=("tensor",), why_tensor=why, has_int8=False))
    with pytest.raises(UserError, match=f"--input raw does not go with --to onnx: {why}"):
        export(run, tmp_path / "blobs.onnx", kind="raw")
    with pytest.raises(UserError, match="--int8 does not go with --to onnx"):
        export(run, tmp_path / "blobs.onnx", int8=True)


def test_a_run_of_folds_is_refused_with_one_of_its_models(tmp_path: Path, run: Path, make_bundle):
    for fold in ("1", "2"):
        make_bundle(tmp_path / "folds" / fold / "model")
    with pytest.raises(UserError, match=r"holds a model for each fold: give one of them, such as .*folds/1"):
        export(tmp_path, tmp_path / "blobs.onnx")


def test_every_exported_file_is_known_as_one():
    assert {target.suffix for target in TARGETS.values()} == set(EXPORTED)


def test_an_extra_that_is_missing_is_named(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(runtime.PACKAGES, "onnx", ("onnx", "no_such_package"))
    with pytest.raises(UserError, match=r'needs no_such_package, .*: pip install "resnet-tl\[onnx\]"\.'):
        export(run, tmp_path / "blobs.onnx")


def test_a_model_that_was_trained_in_half_precision_is_compared_in_whole(bundle: Bundle):
    notes = exporting._notes(TARGETS["onnx"], replace(bundle, precision="bf16-mixed"), "raw")
    assert notes == (
        "`predict` computes this model in bf16; the exported file, and what it was compared with, compute in 32 bits.",
    )
    assert exporting._notes(TARGETS["onnx"], bundle, "raw") == ()
