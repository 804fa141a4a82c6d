import pytest
import torch
from torch import nn

from resnet_tl.errors import UserError
from resnet_tl.networks import DIGITS, create_network, network_names
from resnet_tl.networks.articles.cifar_resnet import CifarResNet
from resnet_tl.networks.articles.cifar_resnet_v2 import CifarResNetV2
from resnet_tl.networks.articles.lenet import LeNet5
from resnet_tl.networks.articles.mnist import MnistCnn, MnistTwoBranch
from resnet_tl.networks.body import create_body
from resnet_tl.networks.catalog import find_own


def kind_of(name):
    with torch.device("meta"):
        return type(create_body(name, num_classes=3))


def test_names_are_unique_and_every_one_builds_with_the_classes_and_channels_asked_for():
    assert len(set(network_names())) == len(network_names())
    for name in network_names():
        if name != "resnet1001v2":
            with torch.device("meta"):
                body = create_body(name, 7, in_chans=2)
            layers = [module for module in body.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
            assert (layers[0].in_channels, layers[-1].out_features) == (2, 7)


def test_own_names_are_own_networks():
    kinds = {"lenet5": LeNet5, "mnist_cnn": MnistCnn, "mnist_two_branch": MnistTwoBranch}
    assert {name: kind_of(name) for name in DIGITS} == kinds
    assert {kind_of(name) for name in ("resnet20", "resnet32")} == {CifarResNet}
    assert {kind_of(name) for name in ("resnet20v2", "resnet56v2")} == {CifarResNetV2}


@pytest.mark.parametrize(("name", "depth"), [("resnet8", 8), ("resnet14", 14), ("resnet62", 62)])
def test_any_other_depth_of_6n_plus_2_works(name, depth):
    with torch.device("meta"):
        body = find_own(name).build(num_classes=3)
    assert isinstance(body, CifarResNet)
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in body.modules()) == depth


@pytest.mark.parametrize("name", ["resnet11v2", "resnet29v2", "resnet200v2"])
def test_any_other_depth_of_9n_plus_2_works_in_version_2(name):
    assert kind_of(name) is CifarResNetV2


@pytest.mark.parametrize("depth", [18, 26, 34, 50, 101, 152, 200])
def test_a_name_of_timm_stays_timms_even_where_the_depth_is_6n_plus_2(depth):
    assert find_own(f"resnet{depth}") is None


@pytest.mark.parametrize("name", ["resnet21", "resnet2", "resnet33", "resnet21v2", "resnet26v2", "resnet2v2"])
def test_an_impossible_depth_is_one_sentence_with_the_depths_that_there_are(name):
    with pytest.raises(UserError, match=f"'{name}': .* 6n \\+ 2 layers .*resnet110.*9n \\+ 2 .*resnet164v2.*resnet18"):
        create_network(name, num_classes=3)


@pytest.mark.parametrize(("wrong", "right"), [("lenet", "lenet5"), ("mnist_twobranch", "mnist_two_branch")])
def test_a_misspelt_own_name_is_refused_with_the_nearest(wrong, right):
    with pytest.raises(UserError, match=f"no network '{wrong}'.* Did you mean '{right}'"):
        create_network(wrong, num_classes=3)
