"""TrivialAugmentWide: one random operation of random strength (Müller and Hutter 2021, arXiv 2103.10158)."""

from __future__ import annotations

import math

import torch

BINS = 31
"""How many strengths each operation has."""
OPERATIONS = (
    *("identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "saturation"),
    *("contrast", "sharpness", "posterize", "solarize", "autocontrast", "equalize"),
)
MOVES = OPERATIONS[:6]
"""Those that move pixels, transparency included; the others change colours."""


def trivial_augment(image: torch.Tensor, which: float, strength: float, sign: float) -> torch.Tensor:
    """Changes an image (C, H, W) uint8, RGB, RGBA or grey, as torchvision's TrivialAugmentWide would.

    torchvision's own class draws from torch's global generator, which threads would share, and takes no RGBA. Here
    three numbers from [0, 1) choose the operation, one of `BINS` strengths and, below a half, the other way of those
    that have two. The image itself is not changed.
    """
    operation = OPERATIONS[int(which * len(OPERATIONS))]
    level = int(strength * BINS) / (BINS - 1)
    signed = -level if sign < 0.5 else level
    if operation in MOVES:
        return _apply(image, operation, level, signed)
    return torch.cat([_apply(image[:3], operation, level, signed), image[3:]])


def _apply(image: torch.Tensor, operation: str, level: float, signed: float) -> torch.Tensor:
    """`level` is from 0 to 1, `signed` from -1 to 1."""
    from torchvision.transforms.v2 import functional

    match operation:
        case "identity":
            return image
        case "shear_x" | "shear_y":
            degrees = math.degrees(math.atan(0.99 * signed))
            shear = [degrees, 0.0] if operation == "shear_x" else [0.0, degrees]
            return functional.affine(image, angle=0.0, translate=[0, 0], scale=1.0, shear=shear, center=[0, 0])
        case "translate_x" | "translate_y":
            pixels = int(32 * signed)
            translate = [pixels, 0] if operation == "translate_x" else [0, pixels]
            return functional.affine(image, angle=0.0, translate=translate, scale=1.0, shear=[0.0, 0.0])
        case "rotate":
            return functional.rotate(image, 135 * signed)
        case "posterize":
            return functional.posterize(image, 8 - round(6 * level))
        case "solarize":
            return functional.solarize(image, 255 * (1 - level))
        case "autocontrast" | "equalize":
            return getattr(functional, operation)(image)
    return getattr(functional, f"adjust_{operation}")(image, 1 + 0.99 * signed)
