"""The network as it is shipped: 8-bit pixels in, calibrated probabilities out, all in one module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from resnet_tl.bundle import Bundle
from resnet_tl.networks.stages import StagedNetwork


class Deployed(nn.Module):
    """Pixels (N, size, size, C) uint8 -> probabilities (N, classes) float32, and on request features (N, F).

    Normalisation, stages, head, temperature and softmax, in float32 and in eval mode; what `Preprocessing.store` and
    `centre` do is not in it.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, bundle: Bundle, network: StagedNetwork, with_features: bool = False) -> None:
        super().__init__()
        seen = bundle.preprocessing
        mean, deviation = torch.tensor(seen.mean), torch.tensor(seen.std)
        self.register_buffer("scale", (1 / (255 * deviation)).view(-1, 1, 1))
        self.register_buffer("shift", (-mean / deviation).view(-1, 1, 1))
        self.network = network
        self.temperature = bundle.temperature
        self.with_features = with_features
        self.input_shape = (seen.size, seen.size, seen.channels)
        self.eval().requires_grad_(False)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Of what `forward` gives, in order."""
        return ("probabilities", "features") if self.with_features else ("probabilities",)

    def forward(self, pixels: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Pixels (N, size, size, C) uint8 -> probabilities (N, classes), features (N, F) with `with_features`."""
        images = pixels.permute(0, 3, 1, 2).float() * self.scale + self.shift
        features = self.network.forward_stages(images)
        probabilities = torch.softmax(self.network.head(features) / self.temperature, dim=1)
        return (probabilities, features) if self.with_features else probabilities
