import pytest
import torch
from torch import nn

from resnet_tl.errors import UserError
from resnet_tl.networks.articles.cifar_resnet_v2 import CifarResNetV2, PreActivationBottleneck


def on_meta(depth):
    with torch.device("meta"):
        return CifarResNetV2(depth)


def parameters(module, *kinds):
    return sum(p.numel() for m in module.modules() if isinstance(m, kinds) for p in m.parameters(recurse=False))


@pytest.mark.parametrize(("depth", "millions"), [(164, 1.7), (1001, 10.2)])
def test_parameter_counts_are_those_of_the_paper_which_counts_no_batchnorm(depth, millions):
    network = on_meta(depth)
    assert round(parameters(network, nn.Conv2d, nn.Linear) / 1e6, 1) == millions
    assert parameters(network, nn.Module) == {164: 1_703_258, 1001: 10_327_706}[depth]


@pytest.mark.parametrize("depth", [20, 56, 110, 164, 1001])
def test_depth_counts_the_layers_with_weights_but_projections(depth):
    layers = [n for n, m in on_meta(depth).named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len([name for name in layers if "downsample" not in name]) == depth


@pytest.mark.parametrize("depth", [2, 18, 21, -7])
def test_a_depth_that_is_not_9n_plus_2_is_refused(depth):
    with pytest.raises(UserError, match=f"9n \\+ 2 .* depth is {depth}"):
        CifarResNetV2(depth)


@pytest.mark.parametrize("size", [(8, 8), (32, 32), (33, 47)])
def test_it_takes_images_of_any_size_from_8_on(size):
    assert CifarResNetV2(20, num_classes=3, in_chans=1)(torch.randn(2, 1, *size)).shape == (2, 3)


def order_of_calls(network, x):
    calls = []
    for name, module in network.named_modules():
        if not any(True for _ in module.children()):
            module.register_forward_hook(lambda module, *_, name=name: calls.append((name, module)))
    network(x)
    return calls


def test_each_convolution_of_a_block_runs_behind_a_batchnorm_and_a_relu():
    calls = order_of_calls(CifarResNetV2(29), torch.randn(1, 3, 32, 32))
    kinds = [type(module) for name, module in calls if "downsample" not in name]
    assert kinds == [
        nn.Conv2d,
        *[nn.BatchNorm2d, nn.ReLU, nn.Conv2d] * 3 * 9,
        *[nn.BatchNorm2d, nn.ReLU, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear],
    ]


def test_a_projection_takes_the_activation_and_an_identity_the_input_itself():
    first, second = CifarResNetV2(20).layer2[0], PreActivationBottleneck(64, 64, 1)
    x = torch.randn(2, 64, 8, 8)
    names = [name for name, _ in order_of_calls(first, x)]
    assert names.index("act1") + 1 == names.index("downsample")
    nn.init.zeros_(first.conv3.weight)
    nn.init.zeros_(second.conv3.weight)
    assert torch.equal(first(x), first.downsample(torch.relu(first.bn1(x))))
    assert torch.equal(second(x), x)


def test_only_where_the_shape_changes_is_a_projection():
    network = on_meta(29)
    found = {name.removesuffix(".downsample") for name, m in network.named_modules() if name.endswith("downsample")}
    assert found == {"layer1.0", "layer2.0", "layer3.0"}


def test_widths_are_those_of_the_paper():
    network = on_meta(20)
    stacks = (network.layer1, network.layer2, network.layer3)
    shapes = [(stack[0].conv2.out_channels, stack[0].conv3.out_channels) for stack in stacks]
    assert network.conv1.weight.shape[0] == 16
    assert shapes == [(16, 64), (32, 128), (64, 256)]
