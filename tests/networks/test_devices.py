"""Networks are built alike whatever the default device, and compute on the device where they and their images are.

Lightning builds networks under the device that trains. `meta` stands for it: it computes nothing, but refuses tensors
of another device.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from resnet_tl.bundle import Bundle, write_bundle
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.networks import create_network
from resnet_tl.networks.frozen import FrozenStages, head_logits
from resnet_tl.networks.weights import load_weights

NAMES = ["resnet20", "lenet5", "mnist_two_branch", "resnet18", "convnext_atto", "vit_tiny_patch16_224"]


class Convolutions(nn.Module):
    """The user's own; `makes` is what its forward adds to the features."""

    def __init__(self, num_classes: int = 3, makes=None) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, num_classes)
        self.makes = makes

    def forward(self, x):
        x = self.norm(self.conv(x)).relu().mean(dim=(2, 3))
        return self.fc(x if self.makes is None else x + self.makes())


@pytest.mark.parametrize("network", ["resnet20", "resnet18", Convolutions])
def test_a_network_is_the_same_under_any_default_device(network, tmp_path):
    def build():
        torch.manual_seed(5)
        built = create_network(network, 3, head_hidden=[8])
        load_weights(built, "default" if network == "resnet20" else "none")
        return built

    expected = build().state_dict()
    for _ in range(2):
        with torch.device("meta"):
            built = build()
        assert all(tensor.equal(expected[key]) for key, tensor in built.state_dict().items())
    bundle = write_bundle(Bundle(tmp_path, built.description, ("a", "b", "c"), Preprocessing(32, 32, 32)), built)
    with torch.device("meta"):
        again = bundle.load_network(network if network is Convolutions else None)
    assert all(tensor.equal(expected[key]) for key, tensor in again.state_dict().items())


def step(network, frozen: int, size: int) -> None:
    """A training step on the device of the network, with some stages frozen, in the order of memory that it runs in."""
    network.to(memory_format=network.memory_format).train()
    network.freeze(network.stage_names[:frozen])
    device = next(network.parameters()).device
    x = torch.zeros(4, network.in_chans, size, size, device=device).to(memory_format=network.memory_format)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad])
    logits = network(x)
    F.cross_entropy(logits, torch.zeros(4, dtype=torch.long, device=device)).backward()
    optimizer.step()
    assert logits.device == device
    features = FrozenStages(network)(x)
    assert features.device == device
    assert head_logits(network.head, features).device == device


@pytest.mark.parametrize("network", [*NAMES, Convolutions])
def test_a_step_in_each_mode_takes_place_on_one_device(network):
    built = create_network(network, 3).to("meta")
    size = built.image_size if built.image_size < 64 or built.facts.get("fixed_input_size") else 64
    for frozen in sorted({0, len(built.stage_names) - 1, len(built.stage_names)}):
        step(built, frozen, size)


def test_a_tensor_that_a_forward_makes_on_another_device_would_be_found():
    built = create_network(Convolutions(3, makes=lambda: torch.ones(8)), 3).to("meta")
    with pytest.raises(RuntimeError, match="device"):
        step(built, 0, 64)
