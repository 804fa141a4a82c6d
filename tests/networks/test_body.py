import re
import subprocess
import sys

import pytest
import torch
from torch import nn

from resnet_tl.errors import UserError
from resnet_tl.networks import create_network
from resnet_tl.networks.catalog import TIMM_DEPTHS


def test_further_arguments_reach_an_own_network():
    network = create_network("resnet20", 3, network_args={"shortcut": "projection"})
    assert isinstance(network.body.layer2[0].downsample, nn.Sequential)


def test_further_arguments_reach_a_network_of_timm():
    network = create_network("resnet18", 3, network_args={"drop_path_rate": 0.1})
    rates = [module.drop_prob for module in network.modules() if type(module).__name__ == "DropPath"]
    assert max(rates) == pytest.approx(0.1)


def test_none_and_an_empty_mapping_are_the_same():
    plain, empty = (create_network("resnet20", 3, network_args=args) for args in (None, {}))
    assert plain.state_dict().keys() == empty.state_dict().keys()


@pytest.mark.parametrize(
    ("name", "network_args", "reason"),
    [
        ("resnet20", {"shortcuts": "projection"}, r"no further argument 'shortcuts' .* Did you mean 'shortcut'\?"),
        ("resnet20", {"shortcut": "option_c"}, "must be identity or projection"),
        ("resnet20", {"shortcut": 3}, "must be identity or projection"),
        ("resnet20", {"depth": 32}, r"no further argument 'depth' \(it takes shortcut\)"),
        ("resnet20v2", {"shortcut": "projection"}, "it takes none"),
        ("lenet5", {"dropout": 0.1}, "it takes none"),
        ("mnist_cnn", {"dropout": 2}, "dropout probability has to be between 0 and 1"),
        ("mnist_cnn", {"dropout": "much"}, "not supported"),
        ("mnist_cnn", {"num_classes": 4}, "no further argument 'num_classes'"),
        ("resnet18", {"bogus": 1}, "unexpected keyword argument 'bogus'"),
        ("resnet18", {"num_classes": 4}, "multiple values for keyword argument 'num_classes'"),
        ("resnet18", {"output_stride": 7}, ""),
        ("resnet18", {"pretrained": True}, "model.weights"),
        ("resnet18", {"drop_rate": 0.1}, "model.head_dropout"),
        ("resnet18", {"global_pool": ""}, "fails on images"),
    ],
)
def test_a_wrong_argument_is_one_sentence_that_names_the_option(name, network_args, reason):
    with pytest.raises(UserError, match=f"'{name}' cannot be built with model.network_args .*{reason}") as caught:
        create_network(name, 3, network_args=network_args)
    assert "\n" not in str(caught.value)


def test_a_wrong_name_is_not_blamed_on_the_arguments():
    with pytest.raises(UserError, match="no network 'resnet5O'") as caught:
        create_network("resnet5O", 3, network_args={"drop_path_rate": 0.1})
    assert "network_args" not in str(caught.value)


def test_a_timm_network_is_a_staged_network_with_its_own_keys():
    network = create_network("resnet18", num_classes=4)
    assert network.name == "resnet18"
    assert network.num_features == 512
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 4)
    assert network.body.state_dict().keys() >= {"conv1.weight", "layer4.1.bn2.running_var", "fc.weight"}


def test_it_takes_other_numbers_of_channels():
    network = create_network("resnet18", num_classes=4, in_chans=1)
    assert network.in_chans == 1
    assert network(torch.randn(2, 1, 32, 32)).shape == (2, 4)


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"no network 'resnet5O'.* \(--import MODULE\)\. Did you mean 'resnet50'\?"):
        create_network("resnet5O", num_classes=4)


def test_a_name_with_a_tag_is_explained():
    with pytest.raises(UserError, match="network as 'resnet18' and the weights as 'a1_in1k'"):
        create_network("resnet18.a1_in1k", num_classes=4)


def test_the_depths_that_are_left_to_timm_are_those_that_it_has():
    import timm

    assert {name for name in timm.list_models() if re.fullmatch(r"resnet\d+", name)} == {
        f"resnet{depth}" for depth in TIMM_DEPTHS
    }


def test_listing_the_networks_imports_no_torch():
    code = "import sys; from resnet_tl.networks import network_names; network_names(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_building_an_own_network_imports_no_timm():
    code = (
        "import sys; from resnet_tl.networks import create_network\n"
        "for name in ('resnet20', 'resnet14', 'resnet20v2', 'lenet5', 'mnist_two_branch'): create_network(name, 3)\n"
        "sys.exit('timm' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
