import pytest
import torch
from torch import nn

from resnet_tl.networks.articles.lenet import LeNet5
from resnet_tl.networks.stages import StagedNetwork


@pytest.mark.parametrize(("in_chans", "count"), [(1, 61_706), (3, 62_006)])
def test_it_has_as_many_parameters_as_lenet_5_with_a_full_table_of_connections(in_chans, count):
    assert sum(parameter.numel() for parameter in LeNet5(in_chans=in_chans).parameters()) == count


def test_its_layers_are_those_of_the_paper():
    layers = [m for m in LeNet5().modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert [tuple(layer.weight.shape) for layer in layers] == [
        (6, 1, 5, 5),
        (16, 6, 5, 5),
        (120, 400),
        (84, 120),
        (10, 84),
    ]


@pytest.mark.parametrize("size", [(32, 32), (33, 57), (224, 224)])
def test_it_takes_images_of_any_size_from_32_on(size):
    assert LeNet5(num_classes=3, in_chans=3)(torch.randn(2, 3, *size)).shape == (2, 3)


def test_the_average_pool_changes_nothing_at_32_px():
    network = LeNet5()
    x = torch.randn(2, 1, 32, 32)
    without = nn.Sequential(*(layer for name, layer in network.named_children() if name != "avgpool"))
    assert torch.equal(network(x), without(x))


def test_its_fully_connected_layers_are_the_last_stage():
    network = StagedNetwork("lenet5", LeNet5(), in_chans=1)
    assert network.stage_names == ("stem", "stage1", "stage2")
    sizes = [network.forward_stages(torch.randn(1, 1, 32, 32), stop=stop).shape[1:] for stop in (1, 2, 3)]
    assert sizes == [(6, 14, 14), (400,), (84,)]


def test_its_initialisation_keeps_the_size_of_the_signal():
    torch.manual_seed(0)
    network = StagedNetwork("lenet5", LeNet5(), in_chans=1)
    features = network.forward_stages(torch.randn(64, 1, 32, 32))
    assert 0.3 < features.square().mean().sqrt() < 5
