"""What `auto` and an unset option become, and why: told in the resolved recipe."""

from __future__ import annotations

from typing import Any

from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.data.pixels.decode import DECODER
from resnet_tl.data.pixels.preprocessing import Preprocessing, plan_preprocessing
from resnet_tl.finetuning.defaults import ModeDefaults
from resnet_tl.networks.weights import WeightsOrigin

SMALL = 64  # pixels: up to this short side the built-in network for small images is the right one


def choose_network(name: str, short_side: int) -> tuple[str, str]:
    """What `auto` becomes for images of a median short side in pixels, and why."""
    if name != "auto":
        return name, "as given"
    if short_side <= SMALL:
        why = f"the images' short side is {short_side} px (median), and up to {SMALL} px it has weights built in"
        return "resnet20", why
    return "resnet18", f"the images' short side is {short_side} px (median): photos"


def choose_preprocessing(
    data: ImageDataModule, origin: WeightsOrigin
) -> tuple[Preprocessing, dict[str, tuple[Any, str]]]:
    """The preprocessing for some weights and images, and what was chosen for it, with the reason."""
    choices: dict[str, tuple[Any, str]] = {}
    size = data.image_size
    if size is None:
        size, why = _choose_size(data.short_side, origin)
        choices["data.image_size"] = (size, why)
    crop_ratio = origin.crop_ratio if size > SMALL else 1.0  # nothing to spare at the border of small images
    planned = plan_preprocessing(
        size,
        crop_ratio=crop_ratio,
        storage_size=data.storage_size,
        mean=origin.mean,
        std=origin.std,
        channels=data.channels,
        resize_rule=data.resize_rule,
        interpolation=origin.interpolation,
        decoder=DECODER,
    )
    if data.storage_size is None:
        choices["data.storage_size"] = (planned.storage_size, f"image_size / {crop_ratio:g}")
    return planned, choices


def _choose_size(short_side: int, origin: WeightsOrigin) -> tuple[int, str]:
    if origin.source == "none" and short_side <= SMALL:
        return short_side, "the images' short side (median)"
    if origin.source.startswith("built-in"):
        # Features for small images are bound to a scale: the built-in resnet20 has 78 % accuracy on CIFAR-10 at its
        # size, 80 % at 1.5 times that and 74 % at twice; its features of MNIST's digits of 28 px are better at 32 px.
        why = "the images' short side, but 1 to 1.5 times the weights' size"
        return min(max(short_side, origin.image_size), origin.image_size * 3 // 2), why
    return origin.image_size, "the size that the weights were trained at"


def choose_backbone_lr_factor(defaults: ModeDefaults, origin: WeightsOrigin) -> tuple[float, str]:
    """How fast the backbone learns beside the head, and why."""
    if origin.source == "none":
        return 1.0, "trained from scratch"
    return defaults.backbone_lr_factor, "pretrained"
