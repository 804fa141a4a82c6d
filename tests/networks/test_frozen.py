"""Frozen stages compute what the stages compute, only faster."""

import pytest
import torch
from torch import nn

from resnet_tl.errors import UserError
from resnet_tl.networks import create_network
from resnet_tl.networks.frozen import FrozenStages, compute_type
from resnet_tl.networks.stages import StagedNetwork


def with_lively_norms(network: StagedNetwork) -> StagedNetwork:
    """BatchNorm that does nothing, as in a new network, would be folded correctly by any mistake."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight, 0.5, 1.5),
                (module.bias, -0.3, 0.3),
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 2.0),
            ):
                nn.init.uniform_(tensor, low, high, generator=generator)
    return network.eval()


def norms_in(stages: FrozenStages) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for part in stages.modules for m in part.modules())


def images(network: StagedNetwork, count: int = 2, size: int = 64) -> torch.Tensor:
    return torch.randn(count, network.in_chans, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("resnet18", 0),
        ("resnet50", 0),
        ("resnext50_32x4d", 0),
        ("resnet20", 0),
        ("resnet56v2", 18),  # norms in front of a convolution, or behind an addition, have none to go into
        ("efficientnet_b0", 0),  # its norms hold the activation too
        ("densenet121", 62),
        ("convnext_atto", 0),
        ("lenet5", 0),
    ],
)
def test_the_copy_gives_what_the_stages_give(name, left):
    network = with_lively_norms(create_network(name, num_classes=3))
    x = images(network)
    stages = FrozenStages(network)
    with torch.no_grad():
        expected = network.forward_stages(x)
    assert norms_in(stages) == left
    torch.testing.assert_close(stages(x), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_a_pair_of_maps_goes_through():
    network = create_network("mnist_two_branch", num_classes=3, in_chans=1).eval()
    x = images(network, size=28)
    pair = FrozenStages(network, stop=2)(x)
    assert isinstance(pair, tuple)
    torch.testing.assert_close(FrozenStages(network, start=2)(pair), FrozenStages(network)(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_part_of_the_stages_and_the_rest_give_what_all_give_to_the_bit(dtype):
    network = with_lively_norms(create_network("resnet18", num_classes=3))
    x = images(network)
    halves = FrozenStages(network, start=3, dtype=dtype)(FrozenStages(network, stop=3, dtype=dtype)(x))
    assert torch.equal(halves, FrozenStages(network, dtype=dtype)(x))
    assert halves.dtype == dtype


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("name", ["resnet18", "resnet20v2"])  # in the second a stage changes what it is given
def test_every_depth_comes_out_of_one_pass(name, count):
    network = with_lively_norms(create_network(name, num_classes=3))
    x = images(network, count=count)
    *cuts, last = FrozenStages(network).at_depths(x, ["stage1", "stage2"])
    for cut, stop in zip(cuts, (2, 3), strict=True):
        torch.testing.assert_close(cut, FrozenStages(network, stop=stop)(x).mean(dim=(2, 3)), rtol=1e-4, atol=1e-4)
    assert torch.equal(last, FrozenStages(network)(x))


def test_what_gives_a_pair_of_maps_has_no_depth_to_average():
    network = create_network("mnist_two_branch", num_classes=3, in_chans=1).eval()
    with pytest.raises(UserError, match=f"{network.stage_names[1]} gives no maps of channels"):
        FrozenStages(network).at_depths(images(network, size=28), [network.stage_names[1]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["resnet18", "resnet20"])
def test_an_image_does_not_feel_its_neighbours_in_the_batch(name, dtype):
    network = with_lively_norms(create_network(name, num_classes=3))
    stages = FrozenStages(network, dtype=dtype)
    x = images(network, count=7, size=32)
    whole = stages(x)
    assert torch.equal(torch.cat([stages(part) for part in x.split([1, 4, 2])]), whole)
    assert torch.equal(stages(x.flip(0)).flip(0), whole)


@pytest.mark.parametrize(("name", "size"), [("resnet20", 32), ("resnet18", 32), ("resnet18", 160)])
def test_a_single_image_is_the_same_each_time_it_comes(name, size):
    network = with_lively_norms(create_network(name, num_classes=3))
    stages, x = FrozenStages(network), images(network, count=2, size=size)
    whole = stages(x)
    for _ in range(3):  # as one of two; then it is tried how it is computed alone
        assert torch.equal(stages(x[:1]), whole[:1])
        assert torch.equal(stages(x[1:]), whole[1:])


@pytest.mark.parametrize(("feels_its_number", "given"), [(False, [2, 1, 2, 1, 1]), (True, [2, 1, 2, 2, 2])])
def test_a_single_image_is_computed_alone_only_where_that_gives_the_same(feels_its_number, given):
    network, counts = create_network("resnet18", num_classes=3), []
    stages, x = FrozenStages(network), torch.randn(1, 3, 8, 8)
    stages.modules = [lambda y: counts.append(len(y)) or (y + len(y) if feels_its_number else y.clone())]
    results = [stages(x) for _ in range(3)]
    assert counts == given  # the second and third, on noise, to find out
    assert torch.equal(results[0], x + 2 * feels_its_number)
    assert all(torch.equal(one, results[0]) for one in results)


def test_bf16_is_close_to_float32():
    network = with_lively_norms(create_network("resnet18", num_classes=3))
    x = images(network)
    exact, rounded = FrozenStages(network)(x), FrozenStages(network, dtype=torch.bfloat16)(x).float()
    assert (rounded - exact).norm() / exact.norm() < 0.02


def test_what_trains_can_stand_behind_it():
    network = create_network("resnet20", num_classes=3)
    logits = network.head(FrozenStages(network)(images(network, size=32)))
    logits.sum().backward()
    assert network.head.weight.grad is not None


def test_the_network_stays_as_it_is_and_its_later_changes_do_not_reach_the_copy():
    network = with_lively_norms(create_network("resnet20", num_classes=3))
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    x = images(network, size=32)
    stages = FrozenStages(network)
    expected = stages(x)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(stages(x), expected)


def test_a_convolution_whose_output_is_used_twice_keeps_its_norm():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x):
            y = self.conv(x)
            return self.norm(y) + y

    def body() -> nn.Sequential:
        plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return nn.Sequential(Twice(), plain, nn.Linear(4, 2))

    network = with_lively_norms(StagedNetwork("twice", body()))
    stages = FrozenStages(network)
    assert norms_in(stages) == 1
    x = images(network)
    with torch.no_grad():
        torch.testing.assert_close(stages(x), network.forward_stages(x))


@pytest.mark.parametrize(
    ("precision", "device", "dtype"),
    [
        ("bf16-mixed", "cpu", torch.bfloat16),
        ("16-mixed", "cuda", torch.float16),
        ("16-mixed", "cpu", torch.float32),
        ("32-true", "cuda", torch.float32),
    ],
)
def test_the_type_follows_from_the_precision(precision, device, dtype):
    assert compute_type(precision, device) == dtype
