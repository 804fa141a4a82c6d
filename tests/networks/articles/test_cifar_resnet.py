import pytest
import torch

from resnet_tl.errors import UserError
from resnet_tl.networks.articles.cifar_resnet import CifarResNet


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_parameter_counts_are_those_of_the_papers_table_6(depth, millions):
    assert parameters(CifarResNet(depth)) / 1e6 == pytest.approx(millions, abs=0.03 if depth == 110 else 0.005)


def test_depth_counts_the_layers_with_weights():
    layers = [m for m in CifarResNet(32).modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(layers) == 32


@pytest.mark.parametrize("depth", [2, 18, 21, -4])
def test_a_depth_that_is_not_6n_plus_2_is_refused(depth):
    with pytest.raises(UserError, match=f"6n \\+ 2 .* depth is {depth}"):
        CifarResNet(depth)


def test_an_unknown_shortcut_is_refused():
    with pytest.raises(UserError, match="identity or projection"):
        CifarResNet(20, shortcut="option_c")  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(8, 8), (32, 32), (33, 47), (96, 64)])
@pytest.mark.parametrize("shortcut", ["identity", "projection"])
def test_it_takes_images_of_any_size_from_8_on(size, shortcut):
    assert CifarResNet(20, num_classes=3, shortcut=shortcut)(torch.randn(2, 3, *size)).shape == (2, 3)


def test_it_takes_grey_images():
    assert CifarResNet(20, in_chans=1)(torch.randn(2, 1, 32, 32)).shape == (2, 10)


def test_the_identity_shortcut_subsamples_and_pads_with_zeros():
    block = CifarResNet(20).layer2[0]
    x = torch.rand(1, 16, 6, 6)
    shortcut = block.downsample(x)
    assert shortcut.shape == (1, 32, 3, 3)
    assert torch.equal(shortcut[:, 8:24], x[:, :, ::2, ::2])
    assert not shortcut[:, :8].any()
    assert not shortcut[:, 24:].any()


def test_only_the_projection_shortcut_has_weights():
    extra = parameters(CifarResNet(20, shortcut="projection")) - parameters(CifarResNet(20))
    assert extra == (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)


def test_its_keys_are_those_of_torchvision_and_timm():
    keys = CifarResNet(20).state_dict().keys()
    assert {"conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "layer3.2.bn2.bias", "fc.bias"} <= keys
