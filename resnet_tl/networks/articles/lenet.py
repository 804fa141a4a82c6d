"""LeNet-5 of LeCun et al. 1998, in the form that is taught today."""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar

from torch import nn

from resnet_tl.networks.articles.initialisation import initialise_he


class LeNet5(nn.Sequential):
    """Two 5x5 convolutions with pooling, then fully connected layers of 120, 84 and `num_classes`.

    Of the variants this is the modern one, since it is what courses and libraries mean by LeNet-5 and trains with
    today's defaults: ReLU instead of a scaled tanh, max pooling instead of trainable subsampling, every filter of the
    second convolution sees all six maps instead of the paper's table of connections, and a linear output instead of
    radial basis functions. Widths and kernels are the paper's. With 10 classes it has 61,706 parameters for grey
    images and 62,006 for RGB.

    Takes images (N, in_chans, H, W) from 16 x 16 on: an average pool brings the maps to 5 x 5, which changes nothing
    at 32 px.

    LeCun et al. 1998, Gradient-Based Learning Applied to Document Recognition, section II.
    """

    # In timm's words: what the network takes, and where its stages end.
    pretrained_cfg: ClassVar = {"input_size": (1, 32, 32), "crop_pct": 1.0, "interpolation": "bilinear"}
    feature_info = (
        {"module": "pool1", "num_chs": 6, "reduction": 2},
        {"module": "pool2", "num_chs": 16, "reduction": 4},
        {"module": "act4", "num_chs": 84, "reduction": 32},
    )

    def __init__(self, num_classes: int = 10, in_chans: int = 1) -> None:
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(in_chans, 6, 5),
                act1=nn.ReLU(inplace=True),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(6, 16, 5),
                act2=nn.ReLU(inplace=True),
                pool2=nn.MaxPool2d(2),
                avgpool=nn.AdaptiveAvgPool2d(5),
                flatten=nn.Flatten(),
                fc1=nn.Linear(16 * 5 * 5, 120),
                act3=nn.ReLU(inplace=True),
                fc2=nn.Linear(120, 84),
                act4=nn.ReLU(inplace=True),
                fc=nn.Linear(84, num_classes),
            )
        )
        initialise_he(self)
