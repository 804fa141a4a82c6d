from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from resnet_tl.bundle import Bundle
from resnet_tl.errors import UserError
from resnet_tl.export.deployed import Deployed
from resnet_tl.export.facts import KEY
from resnet_tl.export.runtime import OnnxModel
from resnet_tl.inference.predictor import Predictor
from resnet_tl.serving.onnx_engine import OnnxEngine


@pytest.fixture(scope="module")
def raw(files: dict[str, Path]) -> OnnxModel:
    return OnnxModel(files["raw"])


def shares_of(bundle: Bundle, photos: list[np.ndarray]) -> np.ndarray:
    table = Predictor(bundle.path, device="cpu").predict(photos)
    return table[[f"prob_{name}" for name in bundle.classes]].to_numpy()


def test_images_of_several_sizes_get_what_predict_gives(raw: OnnxModel, bundle: Bundle, photos: list[np.ndarray]):
    found, wanted = raw.probabilities(photos), shares_of(bundle, photos)
    assert wanted.std(axis=0).max() > 0.02  # they differ from each other by more than from ours
    np.testing.assert_allclose(found, wanted, atol=0.005)


def test_an_image_is_judged_alike_alone_and_among_others(raw: OnnxModel, photos: list[np.ndarray]):
    together = raw.probabilities([photos[0]] * 3 + [photos[1]] * 2)
    alone = [raw.probabilities([photos[0]])[0], raw.probabilities([photos[1]])[0]]
    np.testing.assert_allclose(together, [alone[0]] * 3 + [alone[1]] * 2, atol=1e-6)


def test_the_inputs_of_the_network_get_what_the_network_gives(files: dict[str, Path], bundle: Bundle):
    model = OnnxModel(files["tensor"])
    pixels = np.random.default_rng(1).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    deployed = Deployed(bundle, bundle.load_network(), with_features=True)
    with torch.inference_mode():
        shares, features = deployed(torch.from_numpy(pixels))
    found, found_features = model.run(pixels)
    np.testing.assert_allclose(found, shares, atol=1e-5)
    np.testing.assert_allclose(found_features, features, atol=1e-4)
    np.testing.assert_allclose(model.probabilities(pixels[:1]), shares[:1], atol=1e-5)


def test_no_images_are_no_rows(raw: OnnxModel):
    assert raw.probabilities([]).shape == (0, 3)


def test_a_file_says_what_it_was_made_of(raw: OnnxModel, bundle: Bundle):
    assert raw.classes == bundle.classes
    assert raw.preprocessing == bundle.preprocessing
    assert raw.facts.calibration["temperature"] == 2.5
    assert (raw.facts.input, raw.facts.int8, raw.facts.digest) == ("raw", False, bundle.digest)
    assert raw.facts.weights["licence"] == "Apache-2.0"
    assert raw.facts.network["name"] == "resnet20"


def test_a_file_is_run_without_torch(files: dict[str, Path]):
    code = (
        "import sys, numpy as np; from resnet_tl.export.runtime import OnnxModel\n"
        f"print(OnnxModel({str(files['raw'])!r}).probabilities([np.zeros((9, 9, 3), np.uint8)]).sum())\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(1, abs=1e-5)
    assert done.stderr == ""


def test_threads_may_share_a_model(raw: OnnxModel, photos: list[np.ndarray]):
    alone = raw.probabilities(photos)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(raw.probabilities, [photos] * 12):
            np.testing.assert_allclose(found, alone, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ([np.zeros((9, 9), np.uint8)], r"\(H, W, 3\), but one is \(9, 9\)"),
        ([np.zeros((9, 9, 4), np.uint8)], r"\(H, W, 3\), but one is \(9, 9, 4\)"),
        ([np.zeros((9, 0, 3), np.uint8)], r"but one is \(9, 0, 3\)"),
        ([np.zeros((9, 9, 3), np.float32)], "uint8, but one is of float32"),
    ],
)
def test_images_of_another_kind_are_refused(raw: OnnxModel, images: list[np.ndarray], said: str):
    with pytest.raises(UserError, match=said):
        raw.probabilities(images)


def test_a_tensor_file_refuses_images_of_another_size(files: dict[str, Path]):
    with pytest.raises(UserError, match=r"takes images \(16, 16, 3\), but one is \(20, 16, 3\)"):
        OnnxModel(files["tensor"]).probabilities([np.zeros((20, 16, 3), np.uint8)])


def cut(model: onnx.ModelProto, folder: Path) -> bytes:
    return model.SerializeToString()[:-1000]


def of_somebody_else(model: onnx.ModelProto, folder: Path) -> bytes:
    del model.metadata_props[:]
    return model.SerializeToString()


def with_facts_cut(model: onnx.ModelProto, folder: Path) -> bytes:
    model.metadata_props[0].value = model.metadata_props[0].value[:-9]
    return model.SerializeToString()


def replaced(old: str, new: str) -> Callable[[onnx.ModelProto, Path], bytes]:
    def change(model: onnx.ModelProto, folder: Path) -> bytes:
        before = model.metadata_props[0].value
        model.metadata_props[0].value = before.replace(old, new)
        assert model.metadata_props[0].value != before
        return model.SerializeToString()

    return change


def with_weights_elsewhere(model: onnx.ModelProto, folder: Path) -> bytes:
    tensor = next(one for one in model.graph.initializer if len(one.raw_data) > 1000)
    (folder / "weights.bin").write_bytes(tensor.raw_data)
    onnx.external_data_helper.set_external_data(tensor, "weights.bin")
    tensor.ClearField("raw_data")
    return model.SerializeToString()


def with_sparse_weights_elsewhere(model: onnx.ModelProto, folder: Path) -> bytes:
    sparse = model.graph.sparse_initializer.add(dims=[10])
    sparse.values.CopyFrom(onnx.numpy_helper.from_array(np.ones(10, np.float32), "odd"))
    sparse.indices.CopyFrom(onnx.numpy_helper.from_array(np.arange(10), "places"))
    onnx.external_data_helper.set_external_data(sparse.values, "weights.bin")
    sparse.values.ClearField("raw_data")
    return model.SerializeToString()


def with_a_function_that_reads(model: onnx.ModelProto, folder: Path) -> bytes:
    tensor = onnx.numpy_helper.from_array(np.ones(10, np.float32), "odd")
    onnx.external_data_helper.set_external_data(tensor, "weights.bin")
    tensor.ClearField("raw_data")
    node = onnx.helper.make_node("Constant", [], ["y"], value=tensor)
    opset = [onnx.helper.make_opsetid("", 18)]
    model.functions.append(onnx.helper.make_function("odd", "Reads", [], ["y"], [node], opset))
    return model.SerializeToString()


def with_an_unknown_operator(model: onnx.ModelProto, folder: Path) -> bytes:
    model.graph.node[-1].op_type = "Unheard"
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda model, folder: b"", "is not an ONNX file that `resnet-tl export` has written"),
        (lambda model, folder: b"\xff\xd8 a photo", "is no ONNX file, or a damaged one"),
        (cut, "is no ONNX file, or a damaged one"),
        (of_somebody_else, "is not an ONNX file that `resnet-tl export` has written"),
        (with_facts_cut, "is damaged"),
        (replaced('"format": 1', '"format": 2'), "format 2, and this version of resnet-tl reads 1"),
        (replaced('"input": "raw"', '"input": "video"'), "its input is 'video'"),
        (replaced('"input": "raw"', '"input": "tensor"'), "its input is not that of its metadata"),
        (replaced('"red"]', '"red", "pink"]'), "its outputs are not those of its metadata"),
        (replaced('"red"]', '"r\\u001b[31m"]'), "holds a control character"),
        (replaced('"red"]', '"grün"]'), "two or more different names"),
        (replaced('"storage_size": 20', '"storage_size": 2000000'), "storage_size is 2000000"),
        (replaced('"weights": {', '"waits": {'), "its metadata has no 'weights'"),
        (with_weights_elsewhere, "has its weights in other files"),
        (with_sparse_weights_elsewhere, "has its weights in other files"),
        (with_a_function_that_reads, "has its weights in other files"),
        (replaced('"int8": false', '"int8": "no"'), "its int8 is not of type bool"),
        (replaced('"made_by": "resnet-tl', '"made_by": ["resnet-tl"], "digest": "'), "its made_by is not of type str"),
        (with_an_unknown_operator, "cannot be run by onnxruntime"),
    ],
)
def test_a_file_that_is_none_of_ours_is_refused(files: dict[str, Path], tmp_path: Path, change, said: str):
    model = onnx.load(files["raw"])
    assert model.metadata_props[0].key == KEY
    (tmp_path / "other.onnx").write_bytes(change(model, tmp_path))
    with pytest.raises(UserError, match=said) as caught:
        OnnxModel(tmp_path / "other.onnx")
    assert "\n" not in str(caught.value)


def test_a_network_of_the_users_own_is_served_by_the_name_of_its_class(files: dict[str, Path], tmp_path: Path):
    content = replaced('"name": "resnet20"', '"import": "mine.Net"')(onnx.load(files["raw"]), tmp_path)
    (tmp_path / "own.onnx").write_bytes(content)
    assert OnnxEngine(tmp_path / "own.onnx").facts["network"] == "mine.Net"


def test_a_file_that_is_not_there_is_said(tmp_path: Path):
    with pytest.raises(UserError, match=r"gone\.onnx cannot be read: No such file"):
        OnnxModel(tmp_path / "gone.onnx")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        OnnxModel(tmp_path)
