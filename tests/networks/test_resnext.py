"""The three forms of a ResNeXt block are one function (Xie et al. 2017, arXiv 1611.05431, figure 3)."""

import copy

import pytest
import timm
import torch
from torch import nn

GROUPS, WIDTH = 32, 4


@pytest.fixture
def block():
    """A block of timm's resnext50_32x4d, in double precision, with BatchNorm statistics as after a training."""
    torch.manual_seed(0)
    block = timm.create_model("resnext50_32x4d", pretrained=False).layer1[1].double()
    for norm in (module for module in block.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return block


def slice_norm(norm, channels):
    """A BatchNorm of some of the channels of another."""
    part = nn.BatchNorm2d(channels.stop - channels.start).double()
    part.load_state_dict({key: value[channels] if value.ndim else value for key, value in norm.state_dict().items()})
    return part


def slice_conv(conv, outputs=slice(None), inputs=slice(None)):
    """An ungrouped convolution of some of the output and input channels of another."""
    weight = conv.weight[outputs, inputs]
    part = nn.Conv2d(weight.shape[1], weight.shape[0], conv.kernel_size, padding=conv.padding, bias=False).double()
    part.weight = nn.Parameter(weight.detach().clone())
    return part


def paths_of(block):
    """The 32 paths 256 -> 4 -> 4, each with the slice of channels that it makes."""
    for group in range(GROUPS):
        channels = slice(group * WIDTH, (group + 1) * WIDTH)
        yield (
            channels,
            nn.Sequential(
                slice_conv(block.conv1, channels),
                slice_norm(block.bn1, channels),
                nn.ReLU(),
                slice_conv(block.conv2, channels),  # the weight of a grouped convolution has only the group's inputs
                slice_norm(block.bn2, channels),
                nn.ReLU(),
            ),
        )


class SplitTransformMerge(nn.Module):
    """Form (a): 32 paths 256 -> 4 -> 4 -> 256, whose outputs are summed."""

    def __init__(self, block):
        super().__init__()
        paths = [nn.Sequential(path, slice_conv(block.conv3, inputs=channels)) for channels, path in paths_of(block)]
        self.paths = nn.ModuleList(paths)
        self.norm = copy.deepcopy(block.bn3)

    def forward(self, x):
        return torch.relu(self.norm(sum(path(x) for path in self.paths)) + x)


class EarlyConcatenation(nn.Module):
    """Form (b): 32 paths 256 -> 4 -> 4, concatenated to 128 channels for one 1x1 convolution."""

    def __init__(self, block):
        super().__init__()
        self.paths = nn.ModuleList(path for _, path in paths_of(block))
        self.conv = slice_conv(block.conv3)
        self.norm = copy.deepcopy(block.bn3)

    def forward(self, x):
        return torch.relu(self.norm(self.conv(torch.cat([path(x) for path in self.paths], dim=1))) + x)


class GroupedConvolution(nn.Module):
    """Form (c): 256 -> 128, a 3x3 convolution in 32 groups, 128 -> 256."""

    def __init__(self, block):
        super().__init__()
        grouped = nn.Conv2d(128, 128, 3, padding=1, groups=GROUPS, bias=False).double()
        grouped.load_state_dict(block.conv2.state_dict())
        self.inner = nn.Sequential(
            slice_conv(block.conv1),
            copy.deepcopy(block.bn1),
            nn.ReLU(),
            grouped,
            copy.deepcopy(block.bn2),
            nn.ReLU(),
            slice_conv(block.conv3),
            copy.deepcopy(block.bn3),
        )

    def forward(self, x):
        return torch.relu(self.inner(x) + x)


@pytest.mark.parametrize("form", [SplitTransformMerge, EarlyConcatenation, GroupedConvolution])
@pytest.mark.parametrize("is_training", [False, True])
def test_the_forms_of_the_papers_figure_3_are_one_function(block, form, is_training):
    x = torch.randn(2, 256, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    other = form(block).train(is_training)
    expected = block.train(is_training)(x)
    assert torch.allclose(other(x), expected, rtol=1e-10, atol=1e-10)
    assert sum(p.numel() for p in other.parameters()) == sum(p.numel() for p in block.parameters())
