"""He initialisation, for networks that have no normalisation to forgive another."""

from __future__ import annotations

from torch import nn


def initialise_he(network: nn.Module) -> None:
    """Draws all convolutions and linear layers so that ReLU layers keep the size of the signal; biases are zero.

    He et al. 2015, Delving Deep into Rectifiers, arXiv 1502.01852.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
