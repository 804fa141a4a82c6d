"""The preprocessing that travels with the weights: from decoded pixels to what the network sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    import numpy as np
    import torch

    from resnet_tl.data.pixels.deep import ValueRange

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
ResizeRule = Literal["short_side", "squash"]
MAX_SIDE = 10_000
"""Of what a network sees or is stored, in pixels; a model file that asks for more would fill the memory."""
MAX_ASPECT = 16
"""Of a longer image only the middle is kept: whole, a line of one pixel would grow into gigabytes."""


def check_value_range(values: Sequence[Any]) -> None:
    """Raises ValueError unless it is two finite numbers, the smaller one first."""
    is_number = [isinstance(value, int | float) and abs(value) <= 1e38 for value in values]
    if len(values) != 2 or not all(is_number) or values[0] >= values[1]:
        raise ValueError(f"value_range is {list(values)!r}; it must be two finite numbers, the smaller one first")


@dataclass(frozen=True)
class Preprocessing:
    """Decode, resize to `storage_size`, centre crop of `crop_size`, resize to `size`, normalise.

    Every image takes this path in training, validation, prediction and export; training replaces the centre crop
    by its augmentation, and may ask for another `size`: the same part of the image in other pixels. Pixels stay uint8
    until `normalise`, so that caches and batches are small. Sizes are in pixels.
    """

    size: int  # side of the network's square input
    storage_size: int  # length of the short side after the first resize (of both sides under `squash`)
    crop_size: int  # side of the centre crop taken from it; resized to `size` where the two differ
    resize_rule: ResizeRule = "short_side"  # keeps the shape of the image; `squash` stretches it to a square
    interpolation: str = "bilinear"  # or `bicubic`, always with antialiasing
    mean: tuple[float, ...] = IMAGENET_MEAN  # per channel, of pixels in [0, 1]
    std: tuple[float, ...] = IMAGENET_STD  # likewise
    channels: int = 3  # 1 (grey), 3 (RGB) or 4 (RGBA)
    decoder: str = ""  # name and version of the one that the model was trained with
    value_range: ValueRange | None = None  # what becomes 0 and 255 in images of more than 8 bits; None: there were none

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """What `to_dict` gave; ValueError for what no network takes, for it may come from a stranger's file."""
        value_range = values.get("value_range")
        known = {"mean": tuple(values["mean"]), "std": tuple(values["std"])}
        made = cls(**values | known | {"value_range": None if value_range is None else tuple(value_range)})
        for name in ("size", "storage_size", "crop_size"):
            side = getattr(made, name)
            if type(side) is not int or not 1 <= side <= MAX_SIDE:
                raise ValueError(f"{name} is {side!r}; it must be a whole number of 1 to {MAX_SIDE}")
        words = {"resize_rule": get_args(ResizeRule), "interpolation": ("bilinear", "bicubic")}
        for name, allowed in {"channels": (1, 3, 4), **words}.items():
            if getattr(made, name) not in allowed:
                raise ValueError(f"{name} is {getattr(made, name)!r}; it must be one of {', '.join(map(str, allowed))}")
        if made.crop_size > made.storage_size:
            raise ValueError(f"crop_size {made.crop_size} is above storage_size {made.storage_size}")
        for name in ("mean", "std"):
            numbers = getattr(made, name)
            is_number = [isinstance(number, int | float) and abs(number) <= 1e6 for number in numbers]
            if len(numbers) != made.channels or not all(is_number) or (name == "std" and min(numbers) <= 0):
                raise ValueError(f"{name} is {list(numbers)!r}; it must be {made.channels} finite numbers")
        if made.value_range is not None:
            check_value_range(made.value_range)
        return made

    def store(self, pixels: np.ndarray) -> torch.Tensor:
        """Resizes decoded pixels (H, W, C) uint8 to the storage size: (C, h, w) uint8, in memory still (h, w, C)."""
        import torch

        image = torch.from_numpy(pixels).permute(2, 0, 1)
        height, width = image.shape[1:]
        if self.resize_rule == "squash":
            return self.resize(image, self.storage_size, self.storage_size)
        short = min(height, width)
        image = _middle(image, min(height, MAX_ASPECT * short), min(width, MAX_ASPECT * short))
        # Rounded down, as torchvision and timm do: their weights then see the very same pixels.
        height, width = (self.storage_size * side // short for side in image.shape[1:])
        return self.resize(image, height, width)

    def centre(self, image: torch.Tensor, size: int | None = None) -> torch.Tensor:
        """The centre crop of a stored image (C, h, w) uint8 as the network's input (C, size, size) uint8.

        The crop is the same for every `size`, and with it what is seen; only the pixels are larger or smaller.
        Where the sizes agree it is a part of the stored image, not a copy. Of an image that is smaller than the crop,
        as a user's transform may make it, it is the largest square.
        """
        side = min(self.crop_size, *image.shape[1:])
        size = size or self.size
        return self.resize(_middle(image, side, side), size, size)

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Turns (N, C, H, W) uint8 into float32 with the mean and deviation that the weights expect, channels last."""
        import torch

        number, channels, height, width = images.shape
        scale, shift = _scale_and_shift(self.mean, self.std, width, images.device)
        rows = images.permute(0, 2, 3, 1).reshape(number, height, width * channels)
        normalised = torch.empty(rows.shape, device=images.device)
        # On a CPU image by image, so that the second step finds in its cache what the first one wrote.
        block = 1 if images.device.type == "cpu" else max(1, number)
        for pixels, result in zip(rows.split(block), normalised.split(block), strict=True):
            torch.addcmul(shift, result.copy_(pixels), scale, out=result)
        return normalised.view(number, height, width, channels).permute(0, 3, 1, 2)

    def resize(self, image: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Resizes (C, h, w) uint8 to (C, height, width), antialiased; the image itself where that is its size."""
        from torch.nn.functional import interpolate

        if image.shape[1:] == (height, width):
            return image
        # A batch of one with the strides of a batch: torch's fast way for pixels in (h, w, C) order asks for them.
        batch = image.permute(1, 2, 0)[None].permute(0, 3, 1, 2)
        return interpolate(batch, size=(height, width), mode=self.interpolation, antialias=True)[0]


@lru_cache(maxsize=16)
def _scale_and_shift(
    mean: tuple[float, ...], std: tuple[float, ...], width: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """What pixels are multiplied by, and what is added, for whole rows of width x channels numbers: the fast way."""
    import torch

    with torch.inference_mode(False):  # or no training step could use what an evaluation has made
        scale = torch.tensor([1 / (255 * one) for one in std], device=device)
        shift = torch.tensor([-centre / one for centre, one in zip(mean, std, strict=True)], device=device)
        return scale.repeat(width), shift.repeat(width)


def _middle(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    top, left = round((image.shape[1] - height) / 2), round((image.shape[2] - width) / 2)
    return image[:, top : top + height, left : left + width]


def plan_preprocessing(
    size: int, *, crop_ratio: float, storage_size: int | None = None, largest: int = 0, **rest: Any
) -> Preprocessing:
    """Fills in what follows from the size: a centre crop covers `crop_ratio` of the stored image's short side.

    `largest` is the largest size at which images are seen, where that is another one.
    """
    storage_size = round(max(size, largest) / crop_ratio) if storage_size is None else storage_size
    crop_size = min(storage_size, round(storage_size * crop_ratio))
    return Preprocessing(size, storage_size, crop_size, **rest)
