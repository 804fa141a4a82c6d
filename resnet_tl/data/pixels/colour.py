"""Brightness, contrast and saturation of a whole batch, on the device that trains."""

from __future__ import annotations

import torch

LUMA = (0.2989, 0.587, 0.114)
"""How much red, green and blue count in grey: ITU-R BT.601, as Pillow and torchvision have it."""


def adjust_colour(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Changes the colours of each image by its own factors, as torchvision's adjust functions do, one after another.

    The images (N, C, H, W) uint8, RGB, RGBA or grey, are not changed themselves; the new ones lie channels last.
    Transparency stays as it is. The factors (N, 3) are of brightness, contrast and saturation; 1 changes nothing.
    """
    adjusted = torch.empty_like(images, memory_format=torch.channels_last)
    # On a CPU image by image, so that each step finds in its cache what the one before it wrote.
    block = 1 if images.device.type == "cpu" else max(1, len(images))
    parts = (values.split(block) for values in (images, factors, adjusted))
    for pixels, factor, result in zip(*parts, strict=True):
        brightness, contrast, saturation = factor.view(-1, 3, 1, 1).unbind(1)
        colours = pixels[:, :3].to(torch.float32, memory_format=torch.contiguous_format)  # grey is faster on planes
        colours.mul_(brightness[:, None]).clamp_(0, 255)
        # Line by line: a sum over more numbers than that is divided among threads, and rounded by their number.
        mean = _grey(colours).mean(dim=3, keepdim=True).mean(dim=2, keepdim=True)
        colours = torch.lerp(mean, colours, contrast[:, None]).clamp_(0, 255)
        colours = torch.lerp(_grey(colours), colours, saturation[:, None]).clamp_(0, 255)
        result[:, :3] = colours.round_()
        result[:, 3:] = pixels[:, 3:]
    return adjusted


def _grey(colours: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W) to (N, 1, H, W); what is grey stays as it is."""
    if colours.shape[1] == 1:
        return colours
    red, green, blue = colours.split(1, dim=1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
