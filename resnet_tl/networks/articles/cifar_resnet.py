"""The residual networks for small images of He et al. 2015, section 4.2: ResNet-20, 32, 44, 56, 110."""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from resnet_tl.errors import UserError

Shortcut = Literal["identity", "projection"]


class PaddedIdentity(nn.Module):
    """The parameter-free shortcut (option A of the paper): every `stride`-th pixel, missing channels are zeros."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.missing = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        before = self.missing // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.missing - before))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: (N, in, H, W) -> (N, out, ceil(H / stride), ceil(W / stride))."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.act2 = nn.ReLU(inplace=True)
        self.downsample: nn.Module
        if stride == 1 and in_channels == out_channels:
            self.downsample = nn.Identity()
        elif shortcut == "identity":
            self.downsample = PaddedIdentity(in_channels, out_channels, stride)
        else:
            projection = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))
        return self.act2(residual + self.downsample(x))


class CifarResNet(nn.Sequential):
    """A 6n + 2 layer ResNet: a 3x3 stem, three stacks of n basic blocks with 16, 32 and 64 filters, a linear layer.

    Takes images (N, in_chans, H, W) of any size from 8 x 8 on, since it ends in a global average pool. The names of
    its parameters are those of torchvision and timm (`conv1.weight`, `layer1.0.bn2.bias`, `fc.weight`).

    Args:
        depth: 6n + 2; the paper has 20, 32, 44, 56 and 110 (table 6).
        num_classes: width of the logits.
        in_chans: channels of the images.
        shortcut: where a stack changes the shape, `identity` (option A, the paper's choice for CIFAR-10) or
            `projection` (option B, a 1x1 convolution).

    Raises:
        UserError: the depth is not 6n + 2, or the shortcut is unknown.
    """

    # In timm's words: what the network takes, and where its stages end.
    pretrained_cfg: ClassVar = {"input_size": (3, 32, 32), "crop_pct": 1.0, "interpolation": "bilinear"}
    feature_info = tuple(
        {"module": module, "num_chs": channels, "reduction": reduction}
        for module, channels, reduction in (("act1", 16, 1), ("layer1", 16, 1), ("layer2", 32, 2), ("layer3", 64, 4))
    )

    def __init__(
        self, depth: int = 20, num_classes: int = 10, in_chans: int = 3, shortcut: Shortcut = "identity"
    ) -> None:
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise UserError(f"A CIFAR ResNet has 6n + 2 layers (20, 32, 44, 56, 110, ...), but its depth is {depth}.")
        if shortcut not in ("identity", "projection"):
            raise UserError(f"The shortcut of a CIFAR ResNet is '{shortcut}'; it must be identity or projection.")

        def stack(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
            first = BasicBlock(in_channels, out_channels, stride, shortcut)
            return nn.Sequential(
                first, *(BasicBlock(out_channels, out_channels, 1, shortcut) for _ in range(blocks - 1))
            )

        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(in_chans, 16, 3, padding=1, bias=False),
                bn1=nn.BatchNorm2d(16),
                act1=nn.ReLU(inplace=True),
                layer1=stack(16, 16, stride=1),
                layer2=stack(16, 32, stride=2),
                layer3=stack(32, 64, stride=2),
                avgpool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                fc=nn.Linear(64, num_classes),
            )
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
