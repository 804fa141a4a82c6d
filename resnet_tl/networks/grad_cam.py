"""Grad-CAM: where in an image the evidence for a class lies, as a coarse map.

Selvaraju et al. 2017, Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization, arXiv
1610.02391.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from resnet_tl.errors import UserError
from resnet_tl.networks.stages import StagedNetwork


def grad_cam(network: StagedNetwork, images: Tensor, classes: Tensor) -> Tensor:
    """Maps (N, h, w) float32 from 0 to 1 of what speaks for a class each, at the last feature maps of the stages.

    The weight of a feature map is the mean gradient of the class's logit; the weighted sum of the maps, where it is
    above 0, is divided by its largest value. All of a map is 0 where nothing speaks for the class. A map covers the
    whole image that the network is given.

    Args:
        network: in eval mode; nothing of it changes.
        images: normalised, (N, C, H, W).
        classes: class numbers (N,).

    Raises:
        UserError: the network is no chain of stages, or none of them gives feature maps with more than one place.
    """
    if not network.is_chain:
        raise UserError(f"the network '{network.name}' is no chain of stages, so that it has no last feature maps")
    parts: list[nn.Module] = [module for name in network.stage_names for module in network.stage(name)]
    maps, rest = _last_maps(parts, images if network.is_channels_last else images.contiguous())
    if maps is None:
        raise UserError(f"no stage of the network '{network.name}' gives feature maps with more than one place")
    with torch.inference_mode(False), torch.enable_grad():
        maps = maps.clone().requires_grad_()
        x = maps.clone()  # a layer that works in place may not write into what a gradient is taken of
        for module in rest:
            x = module(x)
        logits = network.head(x.float())
        chosen = logits.gather(1, classes[:, None].clone()).sum()
        (gradient,) = torch.autograd.grad(chosen, maps)
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    found = (weights * maps.detach()).sum(dim=1).relu().float()
    highest = found.amax(dim=(1, 2), keepdim=True)
    return torch.where(highest > 0, found / highest.clamp_min(torch.finfo(torch.float32).tiny), 0.0)


def _last_maps(parts: list[nn.Module], images: Tensor) -> tuple[Tensor | None, list[nn.Module]]:
    """The last feature maps (N, C, h, w) with more than one place, and the modules behind them."""
    found, rest, x = None, parts, images
    with torch.no_grad():
        for place, module in enumerate(parts):
            x = module(x)
            if isinstance(x, Tensor) and x.ndim == 4 and x.shape[2] * x.shape[3] > 1:
                found, rest = x.clone(), parts[place + 1 :]  # what follows may work in place
    return found, rest
