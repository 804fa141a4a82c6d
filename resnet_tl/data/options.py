"""What the data module's options may be."""

from __future__ import annotations

from typing import Any, Literal, get_args

from resnet_tl.data.pixels.augmentation import Policy
from resnet_tl.data.pixels.preprocessing import ResizeRule
from resnet_tl.errors import UserError, nearest

Channels = Literal[1, 3, 4]
OnBadImage = Literal["stop", "skip"]
OnLeak = Literal["stop", "warn"]
PixelCacheMode = Literal["auto", "on", "off"]
SamplerName = Literal["shuffled", "balanced"]

_WORDS = {
    "augmentation": Policy,
    "resize_rule": ResizeRule,
    "channels": Channels,
    "on_bad_image": OnBadImage,
    "on_leak": OnLeak,
    "sampler": SamplerName,
    "pixel_cache": PixelCacheMode,
}
_LEAST = {
    "batch_size": "1",
    "image_size": "8 pixels",
    "storage_size": "8 pixels",
    "views": "1",
    "workers": "0",
    "seed": "0",
    "split_seed": "0",
}


def check_options(options: Any) -> None:
    """Raises UserError for options, by name as attributes, that a plain caller gave: the command line has a parser."""
    for name, words in _WORDS.items():
        value, choices = getattr(options, name), get_args(words)
        if value not in choices:
            raise UserError(
                f"data.{name} is '{value}'; it must be one of {', '.join(map(str, choices))}.{nearest(value, choices)}"
            )
    for name, least in _LEAST.items():
        value = getattr(options, name)
        if value is not None and value < int(least.split()[0]):
            raise UserError(f"data.{name} is {value}; it must be {least} or more.")
    if not 0 <= options.random_erasing <= 1:
        raise UserError(f"data.random_erasing is {options.random_erasing}; it must be from 0 to 1.")
    for name in ("val_fraction", "test_fraction"):
        value = getattr(options, name)
        if not 0 <= value < 1:
            raise UserError(f"data.{name} is {value}; it must be at least 0 and below 1.")
    if options.val_fraction + options.test_fraction >= 1:
        raise UserError("data.val_fraction and data.test_fraction add up to 1 or more: nothing is left to train on.")
    if options.transform is not None and options.workers == 0:
        raise UserError(
            "data.workers is 0, but data.transform draws from generators that threads share, so that it runs in worker "
            "processes only: give data.workers 1 or more, or leave it out."
        )
