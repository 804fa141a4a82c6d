import pytest
import torch
from torch import nn

from resnet_tl.networks.articles.mnist import Branches, MnistCnn, MnistTwoBranch
from resnet_tl.networks.stages import StagedNetwork


@pytest.fixture
def body():
    torch.manual_seed(0)
    return MnistTwoBranch().eval()


@pytest.mark.parametrize(("kind", "count"), [(MnistCnn, 80_266), (MnistTwoBranch, 208_394)])
def test_the_number_of_parameters_is_that_of_the_book(kind, count):
    assert sum(parameter.numel() for parameter in kind().parameters()) == count


@pytest.mark.parametrize("kind", [MnistCnn, MnistTwoBranch])
@pytest.mark.parametrize("size", [(28, 28), (32, 47), (96, 96)])
def test_they_take_images_of_other_sizes_and_channels(kind, size):
    assert kind(num_classes=3, in_chans=3)(torch.randn(2, 3, *size)).shape == (2, 3)


@pytest.mark.parametrize("kind", [MnistCnn, MnistTwoBranch])
def test_the_average_pool_changes_nothing_at_28_px(kind):
    network = kind().eval()
    x = torch.randn(2, 1, 28, 28)
    without = nn.Sequential(*(layer for name, layer in network.named_children() if name != "avgpool"))
    assert torch.equal(network(x), without(x))


@pytest.mark.parametrize("kind", [MnistCnn, MnistTwoBranch])
def test_dropout_can_be_chosen(kind):
    rates = {module.p for module in kind(dropout=0.1).modules() if isinstance(module, nn.Dropout)}
    assert rates == {0.1}


def test_its_stages_are_those_of_the_branches(body):
    network = StagedNetwork("mnist_two_branch", body, in_chans=1).eval()
    x = torch.randn(2, 1, 28, 28)
    assert network.stage_names == ("stem", "stage1", "stage2")
    assert torch.equal(network(x), body(x))


def test_only_the_right_branch_is_dilated_and_sees_more(body):
    stages = [module for module in body if isinstance(module, Branches)]
    assert [stage.left[0].dilation for stage in stages] == [(1, 1)] * 3
    assert [stage.right[0].dilation for stage in stages] == [(2, 2)] * 3
    x = torch.zeros(1, 1, 28, 28, requires_grad=True)
    for branch, expected in ((stages[0].left, 3), (stages[0].right, 5)):
        touched = torch.autograd.grad(branch[0](x)[0, 0, 14, 14], x)[0].nonzero()[:, 2]
        assert int(touched.max() - touched.min()) + 1 == expected


def test_both_branches_are_trained():
    torch.manual_seed(0)
    network = StagedNetwork("mnist_two_branch", MnistTwoBranch(), in_chans=1).train()
    network(torch.randn(4, 1, 28, 28)).square().sum().backward()
    for stage in (module for module in network.body if isinstance(module, Branches)):
        for branch in (stage.left, stage.right):
            assert all(parameter.grad.abs().sum() > 0 for parameter in branch.parameters())
