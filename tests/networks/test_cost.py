import copy

import pytest
import torch

from resnet_tl.errors import UserError
from resnet_tl.networks import create_network
from resnet_tl.networks.cost import StageCost, stage_costs, with_unit


@pytest.mark.parametrize(
    ("name", "size", "classes", "parameters", "low", "high"),
    [
        ("resnet18", 224, 1000, 11_689_512, 1.81e9, 1.82e9),
        ("resnet50", 224, 1000, 25_557_032, 4.085e9, 4.12e9),
        ("resnext50_32x4d", 224, 1000, 25_028_904, 4.2e9, 4.3e9),
        ("resnet20", 32, 10, 269_722, 40.5e6, 41e6),
        ("lenet5", 32, 10, 62_006, 416_520 + 2 * 28 * 28 * 25 * 6, 416_520 + 2 * 28 * 28 * 25 * 6),
    ],
)
def test_totals_are_those_that_are_known(name, size, classes, parameters, low, high):
    costs = stage_costs(create_network(name, classes), size)
    assert sum(cost.parameters for cost in costs) == parameters
    assert low <= sum(cost.multiply_adds for cost in costs) <= high


def test_each_stage_has_its_shape_and_share():
    costs = stage_costs(create_network("resnet20", 10), 32)
    assert [cost.name for cost in costs] == ["stem", "stage1", "stage2", "stage3", "head"]
    assert [cost.output_shape for cost in costs] == [(16, 32, 32), (16, 32, 32), (32, 16, 16), (64,), (10,)]
    assert costs[0] == StageCost("stem", (16, 32, 32), 3 * 9 * 16 + 32, 3 * 9 * 16 * 32 * 32)
    assert costs[-1] == StageCost("head", (10,), 650, 640)


def test_two_branches_are_a_pair_of_maps():
    costs = stage_costs(create_network("mnist_two_branch", 10, in_chans=1), 28)
    assert [cost.output_shape for cost in costs] == [(2, 32, 14, 14), (2, 64, 7, 7), (2304,), (10,)]


def test_a_head_with_hidden_layers_is_counted():
    costs = stage_costs(create_network("resnet20", 10, head_hidden=[32]), 32)
    assert costs[-1].multiply_adds == 64 * 32 + 32 * 10


def test_the_network_itself_stays_as_it_was():
    network = create_network("resnet20", 10).double()
    network.freeze({"stem"})
    before = copy.deepcopy(network.state_dict())
    stage_costs(network, 48)
    assert network.training
    assert not network.stage("stem")[1].training
    assert network.frozen == {"stem"}
    assert not network.body.conv1.weight.requires_grad
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


@pytest.mark.parametrize(("name", "size"), [("lenet5", 8), ("mnist_cnn", 10), ("swin_tiny_patch4_window7_224", 100)])
def test_a_size_that_the_network_does_not_take_is_refused(name, size):
    with pytest.raises(UserError, match=f"'{name}' does not take images of {size} px; it was designed for"):
        stage_costs(create_network(name, 10), size)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (850, "850"),
        (999, "999"),
        (1000, "1.00 k"),
        (40_551_552, "40.6 M"),
        (999_600, "1.00 M"),
        (9_996_000, "10.0 M"),
        (99_960_000, "100 M"),
        (1_814_073_344, "1.81 G"),
    ],
)
def test_large_numbers_have_three_digits_and_a_unit(count, text):
    assert with_unit(count) == text
