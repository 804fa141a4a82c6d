"""Two networks for 28 px digits as courses teach them: a plain CNN, and one of two branches that are joined."""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar

import torch
from torch import Tensor, nn

from resnet_tl.networks.articles.initialisation import initialise_he

Pair = tuple[Tensor, Tensor]

# In timm's words: what the networks take.
DIGITS = {"input_size": (1, 28, 28), "crop_pct": 1.0, "interpolation": "bilinear"}


class MnistCnn(nn.Sequential):
    """Three 3x3 convolutions of 64 filters, max pooling after the first two, dropout, a linear layer.

    80,266 parameters for grey images and 10 classes. Takes images (N, in_chans, H, W) from 18 x 18 on: an average pool
    brings the last maps to 3 x 3, which changes nothing at 28 px.

    Atienza 2018, Advanced Deep Learning with Keras, chapter 1.
    """

    pretrained_cfg: ClassVar = DIGITS

    def __init__(self, num_classes: int = 10, in_chans: int = 1, dropout: float = 0.3) -> None:
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(in_chans, 64, 3),
                act1=nn.ReLU(inplace=True),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(64, 64, 3),
                act2=nn.ReLU(inplace=True),
                pool2=nn.MaxPool2d(2),
                conv3=nn.Conv2d(64, 64, 3),
                act3=nn.ReLU(inplace=True),
                avgpool=nn.AdaptiveAvgPool2d(3),
                flatten=nn.Flatten(),
                dropout=nn.Dropout(dropout),
                fc=nn.Linear(64 * 3 * 3, num_classes),
            )
        )
        initialise_he(self)


class Split(nn.Module):
    """One image for both branches."""

    def forward(self, images: Tensor) -> Pair:
        return images, images


class Branches(nn.Module):
    """A pair of feature maps to a pair: each branch takes its own."""

    def __init__(self, left: nn.Module, right: nn.Module) -> None:
        super().__init__()
        self.left = left
        self.right = right

    def forward(self, maps: Pair) -> Pair:
        left, right = maps
        return self.left(left), self.right(right)


class Concatenate(nn.Module):
    """A pair of feature maps (N, C, H, W) to one (N, 2 C, H, W)."""

    def forward(self, maps: Pair) -> Tensor:
        return torch.cat(maps, dim=1)


class MnistTwoBranch(nn.Sequential):
    """The Y-network: two branches of three 3x3 convolutions with 32, 64 and 128 filters look at one image and join.

    The right branch's convolutions are dilated by 2, so that it sees 5x5 neighbourhoods with the same number of
    weights. 208,394 parameters for grey images and 10 classes. Takes images (N, in_chans, H, W) from 8 x 8 on: an
    average pool brings the last maps to 3 x 3, which changes nothing at 28 px.

    Atienza 2018, Advanced Deep Learning with Keras, chapter 2.
    """

    pretrained_cfg: ClassVar = DIGITS

    def __init__(self, num_classes: int = 10, in_chans: int = 1, dropout: float = 0.4) -> None:
        def branch(in_channels: int, out_channels: int, dilation: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation),
                nn.ReLU(inplace=True),
                nn.Dropout(dropout),
                nn.MaxPool2d(2),
            )

        def branches(in_channels: int, out_channels: int) -> Branches:
            return Branches(*(branch(in_channels, out_channels, dilation) for dilation in (1, 2)))

        super().__init__(
            OrderedDict(
                split=Split(),
                branches1=branches(in_chans, 32),
                branches2=branches(32, 64),
                branches3=branches(64, 128),
                concatenate=Concatenate(),
                avgpool=nn.AdaptiveAvgPool2d(3),
                flatten=nn.Flatten(),
                dropout=nn.Dropout(dropout),
                fc=nn.Linear(2 * 128 * 3 * 3, num_classes),
            )
        )
        initialise_he(self)
