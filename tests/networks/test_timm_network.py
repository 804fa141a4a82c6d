import re
import subprocess
import sys

import pytest
import torch

from resnet_tl.errors import UserError
from resnet_tl.networks import create_network
from resnet_tl.networks.catalog import TIMM_DEPTHS


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
    with pytest.raises(UserError, match=r"no network 'resnet5O'.* Did you mean 'resnet50'\?"):
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


@pytest.mark.parametrize("name", ["resnet20", "resnet14", "resnet20v2", "lenet5", "mnist_two_branch"])
def test_building_an_own_network_imports_no_timm(name):
    code = (
        "import sys; from resnet_tl.networks import create_network; "
        f"create_network('{name}', 3); sys.exit('timm' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
