from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from resnet_tl.bundle import Bundle, write_bundle
from resnet_tl.data.pixels.decode import decode
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.data.reading.layouts import read_images
from resnet_tl.errors import UserError
from resnet_tl.export import exporting, int8
from resnet_tl.export.deployed import Deployed
from resnet_tl.export.exporting import export
from resnet_tl.export.int8 import Way, quantised, ways
from resnet_tl.export.onnx_graph import tensor_graph
from resnet_tl.export.runtime import OnnxModel, session_of
from resnet_tl.export.verification import NotVerified
from resnet_tl.export.verification_images import images_for, scaling_images
from resnet_tl.inference.predictor import Predictor


@pytest.fixture(scope="module")
def network(bundle: Bundle) -> onnx.ModelProto:
    return tensor_graph(Deployed(bundle, bundle.load_network()))


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Inputs of the network: noise on one colour each, (9, 16, 16, 3) uint8."""
    draws = np.random.default_rng(0)
    return (draws.integers(0, 156, (9, 16, 16, 3)) + draws.integers(0, 100, (9, 1, 1, 3))).astype(np.uint8)


def test_convolutions_are_in_8_bits_and_what_is_around_them_is_not(network: onnx.ModelProto, pixels: np.ndarray):
    before = network.SerializeToString()
    small, notes = quantised(network, pixels)
    assert network.SerializeToString() == before
    nodes = {name: node for node in small.graph.node for name in node.output}
    kinds = {
        node.op_type: {nodes[name].op_type for name in node.input if name in nodes}
        for node in reversed(small.graph.node)
    }
    assert kinds["Conv"] == {"DequantizeLinear"}
    assert "DequantizeLinear" not in kinds["Gemm"]  # the head
    assert "DequantizeLinear" not in kinds["Mul"]  # of normalisation
    assert small.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    assert small.ByteSize() < 0.4 * network.ByteSize()
    assert "scales chosen by 6 images; Kullback-Leibler divergence from 32 bits on 3 others" in notes[0]


def test_the_way_is_kept_that_is_nearer_to_32_bits(network: onnx.ModelProto, pixels: np.ndarray):
    """Weights of one channel that are a thousand times as large leave one scale for all nothing of the others."""
    uneven = onnx.ModelProto.FromString(network.SerializeToString())
    convolution = next(node for node in uneven.graph.node if node.op_type == "Conv")
    weights = next(one for one in uneven.graph.initializer if one.name == convolution.input[1])
    values = onnx.numpy_helper.to_array(weights).copy()
    values[0] *= 1000
    weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
    small, notes = quantised(uneven, pixels)
    assert notes[0].startswith("int8: weights in 8 bits per channel, ")
    scales = {one.name: one.dims for one in small.graph.initializer}
    assert list(scales[f"{weights.name}_scale"]) == [len(values)]


def test_what_rounding_takes_from_the_logits_in_the_mean_is_given_back(network: onnx.ModelProto, pixels: np.ndarray):
    def probabilities(model: onnx.ModelProto) -> np.ndarray:
        return int8._probabilities(session_of(model.SerializeToString()), pixels)

    lacking = onnx.ModelProto.FromString(network.SerializeToString())
    last = next(node for node in lacking.graph.node if node.op_type == "Softmax")
    right = probabilities(network)
    lack = np.where(np.arange(right.shape[1]) == 0, np.float32(-9), np.float32(0))
    lacking.graph.initializer.append(onnx.numpy_helper.from_array(lack, "lack"))
    lacking.graph.node.insert(
        len(lacking.graph.node) - 1, onnx.helper.make_node("Add", [last.input[0], "lack"], ["lacking_logits"])
    )
    last.input[0] = "lacking_logits"
    assert probabilities(lacking)[:, 0].mean() < 0.5 * right[:, 0].mean()
    corrected = int8._corrected(lacking.SerializeToString(), pixels, right)
    np.testing.assert_allclose(probabilities(onnx.ModelProto.FromString(corrected)), right, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "bits"),
    [
        ("flags : sse avx2", {7, 8}),
        ("flags : avx2 avx512_vnni", {8}),
        ("flags : avx2 avx_vnni", {8}),
        ("asimd", {8}),
        (None, {7, 8}),
    ],
)
def test_seven_bits_are_tried_where_sums_overflow(words: str | None, bits: set[int], tmp_path: Path, monkeypatch):
    if words is not None:
        (tmp_path / "cpuinfo").write_text(words)
    monkeypatch.setattr(int8, "CPU_FACTS", tmp_path / "cpuinfo")
    assert {way.bits for way in ways()} == bits
    assert {way.per_channel for way in ways()} == {True, False}


def test_seven_bits_leave_room(network: onnx.ModelProto, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(int8, "ways", lambda: [Way(True, 7)])
    small, _ = quantised(network, pixels)
    kept = [
        onnx.numpy_helper.to_array(one) for one in small.graph.initializer if one.data_type == onnx.TensorProto.INT8
    ]
    largest = max(int(np.abs(values.astype(int)).max()) for values in kept if values.ndim == 4)
    assert largest == 64


def test_a_network_that_cannot_be_quantised_is_refused(network: onnx.ModelProto, pixels: np.ndarray, monkeypatch):
    def fail(*_: object) -> None:
        raise ValueError("Failed to\nfind x")

    monkeypatch.setattr(int8, "_quantise", fail)
    with pytest.raises(UserError, match=r"^--int8: onnxruntime cannot quantise the network: Failed to find x\.$"):
        quantised(network, pixels)


def test_a_single_image_is_enough_to_try(network: onnx.ModelProto, pixels: np.ndarray):
    _, notes = quantised(network, pixels[:1])
    assert "scales chosen by 1 images; " in notes[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, blobs: Path, make_run: Callable[..., Path]) -> Path:
    """A run whose network takes the blobs for different classes."""
    seen = Preprocessing(28, 32, 28)
    path = make_run(tmp_path_factory.mktemp("int8") / "run", read_images(blobs), name="mnist_cnn", seen=seen)
    bundle = Bundle.open(path)
    network, planned = bundle.load_network(), bundle.preprocessing
    with torch.no_grad():
        pictures = map(decode, sorted(blobs.rglob("*.png")))
        logits = network(planned.normalise(torch.stack([planned.centre(planned.store(image)) for image in pictures])))
        network.head.weight *= 20
        network.head.bias.copy_(20 * (network.head.bias - logits.mean(0)))
    write_bundle(bundle, network)
    return path


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory, run: Path, blobs: Path) -> Path:
    """The 44 blobs in folders of the classes that the model takes them for: it is right on all of them."""
    folder = tmp_path_factory.mktemp("known")
    table = Predictor(run, device="cpu").predict(blobs)
    for number, (path, name) in enumerate(zip(table["path"], table["predicted"], strict=True)):
        (folder / name).mkdir(exist_ok=True)
        shutil.copy(path, folder / name / f"{number}.png")
    assert len(list(folder.iterdir())) > 1
    return folder


def test_an_export_in_8_bits_takes_raw_images_and_is_verified(run: Path, known: Path, tmp_path: Path):
    done = export(run, tmp_path / "blobs.onnx", int8=True, images=[str(known)])
    assert done.facts.int8
    assert done.verification.correct_before == done.verification.labelled == 44
    assert done.verification.correct_after >= 43
    assert (
        "scales chosen by 16 images; Kullback-Leibler divergence from 32 bits on 8 others" in done.notes[0]
    )  # the training images of the run
    model = OnnxModel(tmp_path / "blobs.onnx")
    assert model.facts.int8
    paths = sorted(known.rglob("*.png"))[:3]
    shares = model.probabilities([decode(path) for path in paths])
    np.testing.assert_allclose(shares, Predictor(run).predict(paths).filter(like="prob_"), atol=0.3)


def test_an_export_in_8_bits_that_costs_accuracy_is_not_kept(run: Path, known: Path, tmp_path: Path, monkeypatch):
    grey = np.full((3, 28, 28, 3), (124, 116, 104), np.uint8)  # what the mean is taken from
    monkeypatch.setattr(exporting, "network_inputs", lambda *_: grey)  # scales that hold nothing else
    with pytest.raises(NotVerified, match=r"it has \d+ fewer of 44 labelled images right; .*; leave out --int8"):
        export(run, tmp_path / "blobs.onnx", int8=True, images=[str(known)])
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_alone_needs_images(run: Path, known: Path, tmp_path: Path, bundle: Bundle):
    alone = tmp_path / "bundle"
    shutil.copytree(run / "model", alone)
    with pytest.raises(UserError, match="has no images of its own"):
        export(alone, tmp_path / "blobs.onnx", int8=True)
    done = export(alone, tmp_path / "blobs.onnx", int8=True, images=[str(known)])
    assert done.verification.images == 22
    assert "scales chosen by 15 images; Kullback-Leibler divergence from 32 bits on 7 others" in done.notes[0]


def test_other_targets_have_no_8_bits(run: Path, tmp_path: Path):
    with pytest.raises(UserError, match="--int8 does not go with --to torch_export; it is for --to onnx"):
        export(run, tmp_path / "blobs.pt2", to="torch_export", int8=True)


def test_one_image_cannot_choose_the_scales_and_verify_them(tmp_path: Path, blobs: Path):
    (image, *_) = (blobs / "val").rglob("*.png")
    with pytest.raises(UserError, match="is a bundle alone, and one image is given for --int8; give a run, or several"):
        scaling_images(tmp_path, images_for(tmp_path, [str(image)], ["red"]), 9)
