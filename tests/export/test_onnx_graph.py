"""What is exported says what its network says; the slow tests go through the families of networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from resnet_tl.bundle import Bundle
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.errors import UserError
from resnet_tl.export import onnx_graph
from resnet_tl.export.deployed import Deployed
from resnet_tl.export.facts import Facts
from resnet_tl.export.onnx_graph import tensor_graph, with_facts
from resnet_tl.export.raw_images import graph_text, raw_graph
from resnet_tl.export.runtime import OnnxModel
from resnet_tl.networks import create_network
from resnet_tl.networks.stages import StagedNetwork


def deployed(network: StagedNetwork, planned: Preprocessing, classes: int = 3) -> tuple[Bundle, Deployed]:
    names = tuple(f"class {number}" for number in range(classes))
    bundle = Bundle(Path("model"), network.description, names, planned, calibration={"temperature": 1.7})
    return bundle, Deployed(bundle, network)


def small(size: int = 32, channels: int = 3, **rest) -> Preprocessing:
    mean, deviation = (0.5, 0.4, 0.3, 0.2)[:channels], (0.3, 0.25, 0.2, 0.35)[:channels]
    return Preprocessing(size, size + 8, size, mean=mean, std=deviation, channels=channels, **rest)


def check(network: StagedNetwork, planned: Preprocessing, folder: Path, classes: int = 3) -> None:
    """Both graphs against the network, in batches of one and five, and on images of odd sizes."""
    network.eval()
    for module in network.modules():  # as after training: statistics that normalise nothing would hide a mistake
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.7, 1.4)  # type: ignore[arg-type]
    draws = np.random.default_rng(0)
    pixels = draws.integers(0, 256, (5, planned.size, planned.size, planned.channels), dtype=np.uint8)
    last = [module for module in network.head.modules() if isinstance(module, nn.Linear)][-1]
    nn.init.normal_(last.weight)
    nn.init.zeros_(last.bias)
    with torch.no_grad():  # so that the images differ, and none is certain
        logits = network(planned.normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2)))
        scale = 2 / logits.std(dim=0).mean()
        last.weight.mul_(scale)
        last.bias.copy_(-scale * logits.mean(dim=0))
    bundle, module = deployed(network, planned, classes)
    model = tensor_graph(module)
    (folder / "tensor.onnx").write_bytes(with_facts(model, Facts.of(bundle, "tensor")).SerializeToString())
    whole = with_facts(raw_graph(model, planned), Facts.of(bundle, "raw"))
    (folder / "raw.onnx").write_bytes(whole.SerializeToString())
    tensor, raw = OnnxModel(folder / "tensor.onnx"), OnnxModel(folder / "raw.onnx")
    with torch.inference_mode():
        shares = module(torch.from_numpy(pixels)).numpy()
    assert shares.std(axis=0).max() > 0.2 / classes
    np.testing.assert_allclose(tensor.probabilities(pixels), shares, atol=1e-5, rtol=1e-3)
    np.testing.assert_allclose(tensor.probabilities(pixels[:1]), shares[:1], atol=1e-5, rtol=1e-3)
    sizes = ((1, 5000), (3, 3), (60, 91), (60, 91))
    images = [draws.integers(0, 256, (*size, planned.channels), dtype=np.uint8) for size in sizes]
    front = onnx.parser.parse_model(graph_text(planned, onnx_graph.OPSET)).SerializeToString()
    session = onnxruntime.InferenceSession(front, providers=["CPUExecutionProvider"])
    seen = np.concatenate([session.run(None, {"images": image[None]})[0] for image in images])
    with torch.inference_mode():
        shares = module(torch.from_numpy(seen)).numpy()
    np.testing.assert_allclose(raw.probabilities(images), shares, atol=1e-5, rtol=1e-3)


def test_a_head_with_hidden_layers_and_four_channels(tmp_path: Path):
    network = create_network("lenet5", num_classes=2, in_chans=4)
    network.replace_head(2, hidden=[16, 8], dropout=0.5)
    check(network, small(32, channels=4, interpolation="bicubic"), tmp_path, classes=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "channels", "classes", "hidden", "size", "rest"),
    [
        ("lenet5", 1, 10, (), 32, {}),
        ("mnist_cnn", 1, 10, (), 28, {}),
        ("mnist_two_branch", 1, 10, (), 28, {"resize_rule": "squash"}),
        ("resnet20", 3, 1000, (), 32, {}),
        ("resnet20", 3, 2, (), 32, {"interpolation": "bicubic"}),
        ("resnet110", 3, 10, (), 32, {}),
        ("resnet20v2", 3, 10, (32,), 32, {}),
        ("resnet56v2", 1, 5, (), 32, {}),
        ("resnet18", 4, 5, (64, 32), 64, {"resize_rule": "squash", "interpolation": "bicubic"}),
        ("resnet34", 3, 2, (), 64, {}),
        ("resnet50", 3, 1000, (), 64, {}),
        ("resnext50_32x4d", 1, 3, (), 64, {}),
        ("wide_resnet50_2", 3, 3, (), 64, {}),
        ("resnet50d", 3, 3, (), 64, {}),
        ("resnetv2_50x1_bit", 3, 3, (), 64, {}),
        ("densenet121", 3, 3, (), 64, {}),
        ("vit_tiny_patch16_224", 3, 3, (), 224, {}),  # no chain of stages
    ],
)
def test_a_network_of_each_family(name, channels, classes, hidden, size, rest, tmp_path: Path):
    torch.manual_seed(0)
    network = create_network(name, num_classes=classes, in_chans=channels)
    if hidden:
        network.replace_head(classes, hidden=hidden)
    check(network, small(size, channels, **rest), tmp_path, classes)


class OfTheUsersOwn(nn.Module):
    """As people write it: functions between the layers, and a `view` by the number of images."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, stride=4), nn.Linear(4 * 8 * 8, num_classes)

    def forward(self, x):
        return self.fc(torch.relu(self.conv(x)).view(x.size(0), -1))


class ByItsContent(nn.Module):
    """What it computes depends on the values of an image, which no graph can say."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv, self.flatten, self.fc = nn.Conv2d(3, 4, 32), nn.Flatten(), nn.Linear(4, num_classes)

    def forward(self, x):
        x = self.flatten(self.conv(x))
        return self.fc(x if x.sum().item() > 1e9 else x * 2)


def test_a_network_of_the_users_own(tmp_path: Path):
    check(create_network(OfTheUsersOwn, num_classes=3), small(32), tmp_path)


def test_a_network_that_no_graph_can_say_is_refused_in_one_sentence(capfd: pytest.CaptureFixture[str]):
    network = create_network(ByItsContent, num_classes=3).eval()
    with pytest.raises(UserError, match=r"The network '.*ByItsContent' cannot be exported to ONNX: ") as caught:
        tensor_graph(deployed(network, small(32))[1])
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_network_beyond_one_file_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(onnx_graph, "MAX_BYTES", 100_000)
    with pytest.raises(UserError, match=r"The weights have 0\.0 GB, but an ONNX file holds at most"):
        tensor_graph(deployed(create_network("lenet5", num_classes=3, in_chans=3), small(32))[1])


def test_the_same_network_gives_the_same_bytes_without_a_word(capfd: pytest.CaptureFixture[str]):
    network = create_network("lenet5", num_classes=3, in_chans=3).eval()
    first, second = (tensor_graph(deployed(network, small(32))[1]) for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)
    assert capfd.readouterr() == ("", "")
    onnx.checker.check_model(first, full_check=True)
    assert not any(node.metadata_props or node.doc_string for node in first.graph.node)
