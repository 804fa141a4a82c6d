"""The residual networks with pre-activation of He et al. 2016: ResNet-164 and ResNet-1001 for small images."""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar

from torch import Tensor, nn

from resnet_tl.errors import UserError


class PreActivationBottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, each behind its own BatchNorm and ReLU; nothing follows the addition.

    (N, in, H, W) -> (N, out, ceil(H / stride), ceil(W / stride)). The two inner layers have out / 4 channels.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        width = out_channels // 4
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.act1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(in_channels, width, 1, stride, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.act2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.act3 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.downsample: nn.Conv2d | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.act1(self.bn1(x))
        # The identity takes x itself, so that it reaches every block unchanged; a projection shares the activation.
        shortcut = x if self.downsample is None else self.downsample(activated)
        residual = self.conv2(self.act2(self.bn2(self.conv1(activated))))
        return self.conv3(self.act3(self.bn3(residual))) + shortcut


class CifarResNetV2(nn.Sequential):
    """A 9n + 2 layer ResNet: a 3x3 stem, three stacks of n bottlenecks with 64, 128 and 256 channels, a linear layer.

    BatchNorm and ReLU stand before each convolution, and once more before the pool. Takes images (N, in_chans, H, W)
    of any size from 8 x 8 on, since it ends in a global average pool.

    Raises:
        UserError: the depth is not 9n + 2.

    He et al. 2016, Identity Mappings in Deep Residual Networks, arXiv 1603.05027; details in its appendix.
    """

    # In timm's words: what the network takes, and where its stages end.
    pretrained_cfg: ClassVar = {"input_size": (3, 32, 32), "crop_pct": 1.0, "interpolation": "bilinear"}
    feature_info = tuple(
        {"module": module, "num_chs": channels, "reduction": reduction}
        for module, channels, reduction in (("conv1", 16, 1), ("layer1", 64, 1), ("layer2", 128, 2), ("layer3", 256, 4))
    )

    def __init__(self, depth: int = 164, num_classes: int = 10, in_chans: int = 3) -> None:
        blocks, rest = divmod(depth - 2, 9)
        if rest or blocks < 1:
            raise UserError(f"A CIFAR ResNet v2 has 9n + 2 layers (20, 56, 110, 164, ...), but its depth is {depth}.")

        def stack(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
            first = PreActivationBottleneck(in_channels, out_channels, stride)
            return nn.Sequential(
                first, *(PreActivationBottleneck(out_channels, out_channels, 1) for _ in range(blocks - 1))
            )

        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(in_chans, 16, 3, padding=1, bias=False),
                layer1=stack(16, 64, stride=1),
                layer2=stack(64, 128, stride=2),
                layer3=stack(128, 256, stride=2),
                bn=nn.BatchNorm2d(256),
                act=nn.ReLU(inplace=True),
                avgpool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                fc=nn.Linear(256, num_classes),
            )
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
