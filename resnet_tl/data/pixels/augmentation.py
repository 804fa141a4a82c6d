"""Named augmentation policies on batches of uint8 images, each a pure function of (seed, view, row)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image

from resnet_tl.data.draws import Purpose, uniform
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.data.pixels.symmetry import SYMMETRIES, Symmetry, draw_orientations, orient
from resnet_tl.data.pixels.trivial_augment import trivial_augment

Policy = Literal["none", "light", "standard", "trivial_augment", "shift"]
POLICIES: tuple[str, ...] = get_args(Policy)

CROP_SCALE, CROP_RATIO = (0.7, 1.0), (3 / 4, 4 / 3)
ERASED_SCALE, ERASED_RATIO = (0.02, 0.33), (1 / 3.3, 1 / 0.3)
ROTATION = 10
"""Degrees, either way."""
COLOUR = 0.2
"""Brightness, contrast and saturation change by up to this share."""

_TRIES = 10
_MODES = {1: "L", 3: "RGB", 4: "CMYK"}  # CMYK: four plain channels, where Pillow would weigh RGBA by its transparency


def bounds() -> tuple[Any, ...]:
    """What views are drawn within, so that what is kept of them is not taken for that of others."""
    return CROP_SCALE, CROP_RATIO, ERASED_SCALE, ERASED_RATIO, ROTATION, COLOUR


class Augmentation:
    """Turns stored images (C, h, w) uint8 into training views (C, size, size) uint8; safe to call from threads.

    The size is that of what is written into. `DataOptions` describes the policies and the symmetries; `none` is the
    centre crop, and `shift` goes by up to a tenth, the border repeated. `random_erasing` is the chance that a rectangle
    is painted over with the mean colour (Zhong et al. 2017, arXiv 1708.04896); `standard` changes the colours after
    that.
    """

    def __init__(
        self,
        policy: Policy,
        preprocessing: Preprocessing,
        seed: int,
        random_erasing: float = 0.0,
        symmetry: Symmetry = "none",
    ) -> None:
        for value, kind, values in ((policy, "policy", POLICIES), (symmetry, "symmetry", SYMMETRIES)):
            if value not in values:
                raise ValueError(f"'{value}' is not a {kind}; they are {', '.join(values)}.")
        self.policy = policy
        self.preprocessing = preprocessing
        self.seed = seed
        self.random_erasing = random_erasing
        self.symmetry = symmetry

    def write(self, images: Sequence[torch.Tensor], rows: np.ndarray, view: int, out: torch.Tensor) -> None:
        """Writes the views of stored images into `out` (N, C, size, size) uint8, channels last."""
        draw = partial(uniform, self.seed, view, rows)
        if self.policy in ("none", "shift"):
            write_centres(self.preprocessing, images, out)
        else:
            self._crop(images, draw, out)
        if self.policy == "shift":
            self._shift(draw, out)
        if self.symmetry != "none":
            orient(out, draw_orientations(self.symmetry, self.seed, view, rows))
        if self.policy == "trivial_augment":
            for image, numbers in zip(out, draw(Purpose.TRIVIAL_AUGMENT, 3), strict=True):
                image.copy_(trivial_augment(image, *numbers))
        if self.random_erasing:
            self._erase(draw, out)

    def colour(self, rows: np.ndarray, view: int) -> torch.Tensor | None:
        """What `adjust_colour` takes, (N, 3) float32, for the policy that changes colours; else None."""
        if self.policy != "standard":
            return None
        numbers = uniform(self.seed, view, rows, Purpose.COLOUR, 3)
        return torch.from_numpy(1 + COLOUR * (2 * numbers - 1)).float()

    def _crop(self, images: Sequence[torch.Tensor], draw: partial[np.ndarray], out: torch.Tensor) -> None:
        """Random resized crops (Szegedy et al. 2015, arXiv 1409.4842), drawn as torchvision draws them."""
        size = out.shape[-1]
        heights, widths = np.array([image.shape[1:] for image in images]).reshape(-1, 2).T
        boxes = crop_boxes(draw(Purpose.CROP, 2 * _TRIES + 2), heights, widths)
        angles = ROTATION * (2 * draw(Purpose.ROTATION, 1)[:, 0] - 1) if self.policy == "standard" else None
        for position, (image, (top, left, height, width)) in enumerate(zip(images, boxes.tolist(), strict=True)):
            if angles is None:
                crop = image[:, top : top + height, left : left + width]
            else:
                crop = _rotated_crop(image, angles[position], top, left, height, width)
            out[position] = self.preprocessing.resize(crop, size, size)

    def _shift(self, draw: partial[np.ndarray], out: torch.Tensor) -> None:
        """Crops of the padded images: whole pixels need no interpolation."""
        images = out.permute(0, 2, 3, 1).numpy()
        number, size, _, channels = images.shape
        border = max(1, round(size / 10))
        down, across = (draw(Purpose.SHIFT, 2) * (2 * border + 1)).astype(np.int64).T
        padded = np.pad(images, ((0, 0), (border, border), (border, border), (0, 0)), "edge")
        rows = padded.reshape(number, size + 2 * border, (size + 2 * border) * channels)
        windows = np.lib.stride_tricks.sliding_window_view(rows, (size, size * channels), axis=(1, 2))
        images[:] = windows[np.arange(number), down, across * channels].reshape(images.shape)

    def _erase(self, draw: partial[np.ndarray], out: torch.Tensor) -> None:
        sides = np.full(len(out), out.shape[-1])
        numbers = draw(Purpose.ERASING, 2 * _TRIES + 3)
        boxes = random_boxes(numbers[:, 1:], sides, sides, ERASED_SCALE, ERASED_RATIO)
        colour = np.array([int(255 * mean) for mean in self.preprocessing.mean], np.uint8)
        images = out.permute(0, 2, 3, 1).numpy()
        for position in np.flatnonzero(numbers[:, 0] < self.random_erasing):
            top, left, height, width = boxes[position]
            images[position, top : top + height, left : left + width] = colour


def write_centres(preprocessing: Preprocessing, images: Sequence[torch.Tensor], out: torch.Tensor) -> None:
    """Writes the centre crops of stored images into `out` (N, C, size, size) uint8."""
    for image, target in zip(images, out, strict=True):
        # By numpy, since `out` may have been made in inference mode, in which a thread of the loader is not.
        target.permute(1, 2, 0).numpy()[:] = preprocessing.centre(image, len(target[0])).permute(1, 2, 0).numpy()


def random_boxes(
    numbers: np.ndarray, heights: np.ndarray, widths: np.ndarray, scale: tuple[float, float], ratio: tuple[float, float]
) -> np.ndarray:
    """Random parts of images: (N, 4) int64, each row top, left, height, width in pixels; all 0 where no try fits.

    The share of an image's area is drawn uniformly within `scale`, and width / height within `ratio`, on a logarithmic
    scale, by `numbers` (N, 2 * tries + 2) from [0, 1); `heights` and `widths` are (N,), in pixels.
    """
    tries = numbers.shape[1] // 2 - 1
    areas = (heights * widths)[:, None] * (scale[0] + (scale[1] - scale[0]) * numbers[:, :tries])
    low, high = np.log(ratio)
    ratios = np.exp(low + (high - low) * numbers[:, tries:-2])
    tall, wide = (np.rint(np.sqrt(area)).astype(np.int64) for area in (areas / ratios, areas * ratios))
    fits = (tall > 0) & (wide > 0) & (tall <= heights[:, None]) & (wide <= widths[:, None])
    first = fits.argmax(axis=1)[:, None]
    height, width = (np.take_along_axis(side * fits, first, axis=1)[:, 0] for side in (tall, wide))
    top = (numbers[:, -2] * (heights - height + 1)).astype(np.int64)
    left = (numbers[:, -1] * (widths - width + 1)).astype(np.int64)
    return np.stack([top, left, height, width], axis=1) * fits.any(axis=1)[:, None]


def crop_boxes(numbers: np.ndarray, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Random parts for `light`; where no try fits the central part, as large as the ratio allows, as in torchvision."""
    tall = np.minimum(heights, np.rint(widths / CROP_RATIO[0])).astype(np.int64)
    wide = np.minimum(widths, np.rint(heights * CROP_RATIO[1])).astype(np.int64)
    central = np.stack([(heights - tall) // 2, (widths - wide) // 2, tall, wide], axis=1)
    boxes = random_boxes(numbers, heights, widths, CROP_SCALE, CROP_RATIO)
    return np.where(boxes[:, 2:3] > 0, boxes, central)


def _rotated_crop(image: torch.Tensor, degrees: float, top: int, left: int, height: int, width: int) -> torch.Tensor:
    """A part of an image that was turned about its centre, counter-clockwise; black where it does not reach."""
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    rows, columns, channels = pixels.shape
    mode = _MODES[channels]
    source = Image.frombuffer(mode, (columns, rows), pixels, "raw", mode, 0, 1)
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    x, y = left - columns / 2, top - rows / 2  # the crop's corner, seen from the centre
    across = (cosine, -sine, columns / 2 + cosine * x - sine * y)
    down = (sine, cosine, rows / 2 + sine * x + cosine * y)
    turned = source.transform((width, height), Image.Transform.AFFINE, (*across, *down), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(turned).reshape(height, width, channels)).permute(2, 0, 1)
