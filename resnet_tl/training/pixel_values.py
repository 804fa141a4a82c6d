"""What `model(x)` may be given: images as uint8 or as floats from 0 to 1, as torchvision's."""

from __future__ import annotations

import torch
from torch import Tensor

from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.errors import UserError


def normalised(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """The network's input (N, C, H, W) float32, as the weights expect it; gradients flow back to floats.

    Images are uint8 from 0 to 255, or floats from 0 to 1; UserError for another type, shape or range.
    """
    _check_shape(images, preprocessing.channels)
    if images.dtype == torch.uint8:
        return preprocessing.normalise(images)
    if not images.is_floating_point():
        raise UserError(f"model(x) takes uint8 from 0 to 255 or floats from 0 to 1, but x is {images.dtype}.")
    _check_range(images)
    moments = (preprocessing.mean, preprocessing.std)
    mean, std = (images.new_tensor(values, dtype=torch.float32)[:, None, None] for values in moments)
    return (images.float() - mean) / std


def _check_shape(images: Tensor, channels: int) -> None:
    if not isinstance(images, Tensor):
        raise UserError(
            f"model(x) takes a tensor of images (N, {channels}, H, W), but x is {type(images).__name__}; files, PIL "
            "images and arrays go through a Predictor of the folder that model.save(folder) writes."
        )
    shape = tuple(images.shape)
    way = ""
    if len(shape) == 3 and shape[0] == channels:
        way = ": a single image needs a batch around it, x[None]"
    elif len(shape) == 3 and shape[-1] == channels:
        way = ": give x.permute(2, 0, 1)[None]"
    elif len(shape) == 4 and shape[-1] == channels and shape[1] != channels:
        way = ": give x.permute(0, 3, 1, 2)"
    if len(shape) != 4 or shape[1] != channels:
        raise UserError(f"model(x) takes images (N, {channels}, H, W), but x has the shape {shape}{way}.")


def _check_range(images: Tensor) -> None:
    if not images.numel() or torch.compiler.is_compiling() or torch.jit.is_tracing():  # an export has no values yet
        return
    low, high = (float(one) for one in images.detach().aminmax())
    if not (low >= 0 and high <= 1):
        found = "that are no numbers" if low != low else f"from {low:g} to {high:g}"
        raise UserError(
            f"model(x) takes floats from 0 to 1, or uint8 from 0 to 255, but x has values {found}; the model "
            "normalises them itself: give pixels as they are, x.to(torch.uint8), or x / 255."
        )
