"""What holds for each network: it is a chain of stages, trains in every mode of fine-tuning, and learns."""

import copy

import pytest
import torch
from sklearn.datasets import load_digits

from resnet_tl.networks import CIFAR_RESNETS, CIFAR_RESNETS_V2, DIGITS, create_network

QUICK = [*DIGITS, "resnet20", "resnet20v2"]
DEEP = [name for name in (*CIFAR_RESNETS, *CIFAR_RESNETS_V2) if name not in (*QUICK, "resnet1001v2")]
LARGE = ["resnext50_32x4d", "wide_resnet50_2"]
OWN = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in DEEP)]


def images(network):
    size = 64 if network.image_size == 224 else network.image_size
    return torch.randn(2, network.in_chans, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", OWN)
@torch.no_grad()
def test_stages_one_after_the_other_are_the_network(name):
    network = create_network(name, num_classes=5).eval()
    x = images(network)
    expected = network.body(x)
    features = network.forward_stages(x)
    assert features.shape == (2, network.num_features)
    assert torch.equal(network.head(features), expected)
    for cut in range(len(network.stage_names) + 1):
        assert torch.equal(network.forward_stages(network.forward_stages(x, stop=cut), start=cut), features)


@pytest.mark.parametrize("mode", ["all", "last_stages", "head"])
@pytest.mark.parametrize("name", [*OWN, "resnet18", *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)])
def test_each_mode_trains_exactly_what_is_not_frozen(name, mode):
    torch.manual_seed(0)
    network = create_network(name, num_classes=3)
    count = {"all": 0, "last_stages": len(network.stage_names) - 1, "head": len(network.stage_names)}[mode]
    network.freeze(network.stage_names[:count])
    before = copy.deepcopy(network.state_dict())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    torch.nn.functional.cross_entropy(network(images(network)), torch.tensor([0, 1])).backward()
    for index, stage in enumerate(network.stage_names):
        gradients = [parameter.grad for parameter in network.stage(stage).parameters()]
        assert all((gradient is None) == (index < count) for gradient in gradients)
        assert index < count or any(gradient.abs().sum() > 0 for gradient in gradients)
    optimizer.step()
    frozen = {
        id(t) for name in network.frozen for t in (*network.stage(name).parameters(), *network.stage(name).buffers())
    }
    after = network.state_dict(keep_vars=True)
    assert all(torch.equal(tensor, before[key]) for key, tensor in after.items() if id(tensor) in frozen)
    assert not torch.equal(network.head.bias, before[f"body.{network.head_path}.bias"])


@pytest.fixture(scope="module")
def digits():
    """400 handwritten digits, of which the last 100 are for the test, with pixels of about unit variance."""
    found = load_digits()
    order = torch.randperm(len(found.target), generator=torch.Generator().manual_seed(0))[:400]
    pixels = torch.tensor(found.images[order.numpy()], dtype=torch.float32)[:, None] / 16
    return (pixels - pixels.mean()) / pixels.std(), torch.tensor(found.target[order.numpy()])


# The smallest sizes at which each is itself, since the digits have 8 x 8 pixels and a test takes seconds.
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("lenet5", 32),
        ("mnist_cnn", 18),
        pytest.param("mnist_two_branch", 16, marks=pytest.mark.slow),
        pytest.param("resnet20v2", 12, marks=pytest.mark.slow),
    ],
)
def test_it_learns_handwritten_digits_in_a_few_dozen_steps(name, size, digits):
    torch.manual_seed(0)
    network = create_network(name, num_classes=10, in_chans=1)
    pixels, labels = digits
    pixels = torch.nn.functional.interpolate(pixels, size=size, mode="bilinear")
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.003)
    for _ in range(80):
        chosen = torch.randint(300, (50,))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(pixels[chosen]), labels[chosen]).backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        accuracy = (network(pixels[300:]).argmax(1) == labels[300:]).float().mean()
    assert accuracy > 0.8
