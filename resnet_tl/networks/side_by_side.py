"""Several networks side by side, whose features one head takes: `resnet18+resnet50`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from resnet_tl.errors import UserError
from resnet_tl.networks.decomposition import make_head_linear

MOST = 8
"""Networks in one; a stranger's bundle may name any number."""


def names_of(network: object) -> list[str]:
    """The names of the networks that stand side by side in a name; none where there is but one. UserError for many."""
    names = network.split("+") if isinstance(network, str) else []
    if len(names) > MOST:
        raise UserError(f"model.network names {len(names)} networks side by side; it may be {MOST} at most.")
    return names if len(names) > 1 else []


class SideBySide(nn.Module):
    """Images (N, C, H, W), normalised for the first network, to logits (N, classes) of all networks' features.

    Args:
        bodies: networks that end with a linear layer, which is taken off.
        num_classes: width of the logits.
        in_chans: channels of the images.

    Raises:
        UserError: a network has no linear layer that could be its head.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, bodies: Sequence[nn.Module], num_classes: int, in_chans: int = 3) -> None:
        super().__init__()
        width = 0
        for body in bodies:
            make_head_linear(body)
            linear = [(path, module) for path, module in body.named_modules() if isinstance(module, nn.Linear)]
            if not linear:
                raise UserError(f"{type(body).__name__} cannot stand beside other networks: it has no linear head.")
            path, head = linear[-1]
            body.set_submodule(path, nn.Identity())
            width += head.in_features
        self.networks = nn.ModuleList(bodies)
        # What the first network's normalised image is multiplied by, and what is added, to be that of each.
        self.register_buffer("scale", torch.ones(len(bodies), in_chans, 1, 1))
        self.register_buffer("shift", torch.zeros(len(bodies), in_chans, 1, 1))
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        features = [
            network(x * scale + shift)
            for network, scale, shift in zip(self.networks, self.scale, self.shift, strict=True)
        ]
        return self.head(torch.cat(features, dim=1))

    def take(
        self, bodies: Sequence[nn.Module], means: Sequence[Sequence[float]], stds: Sequence[Sequence[float]]
    ) -> None:
        """Takes the weights of such networks, and the mean and deviation that each expects of pixels in [0, 1]."""
        for network, body in zip(self.networks, bodies, strict=True):
            own = network.state_dict().keys()
            network.load_state_dict({key: tensor for key, tensor in body.state_dict().items() if key in own})
        mean, std = (torch.tensor(values).view(len(bodies), -1, 1, 1) for values in (means, stds))
        self.scale.copy_(std[0] / std)
        self.shift.copy_((mean[0] - mean) / std)
