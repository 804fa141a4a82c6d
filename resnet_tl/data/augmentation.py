"""Named augmentation policies on uint8 images, each a pure function of (seed, view, row)."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from torchvision.transforms import v2

from resnet_tl.data.preprocessing import Preprocessing

Policy = Literal["none", "light", "standard", "trivial_augment", "shift", "shift_flip"]
POLICIES: tuple[str, ...] = get_args(Policy)


def sample_seed(seed: int, view: int, row: int) -> int:
    """A 64-bit seed that depends on (seed, view, row) alone: never on a worker, a process or a clock."""
    return int(np.random.SeedSequence([seed, view, row]).generate_state(1, np.uint64)[0] >> np.uint64(1))


class Augmentation:
    """Turns a stored image (C, h, w) uint8 into a training view (C, size, size) uint8.

    Args:
        policy: `none`: the centre crop; `light`: random resized crop and horizontal flip; `standard`: light with
            colour and a small rotation; `trivial_augment`: light with TrivialAugmentWide (Müller and Hutter 2021,
            arXiv 2103.10158); `shift`: shifts by up to a tenth, the border repeated, for what must not be flipped, such
            as digits; `shift_flip`: shift with horizontal flip, as in the CIFAR-10 articles.
        preprocessing: gives the sizes and the interpolation.
        seed: the run's seed.
        random_erasing: the chance that a rectangle is painted over with the mean colour (Zhong et al. 2017,
            arXiv 1708.04896).
    """

    def __init__(self, policy: Policy, preprocessing: Preprocessing, seed: int, random_erasing: float = 0.0) -> None:
        self.preprocessing = preprocessing
        self.seed = seed
        self.transform = _transform(policy, preprocessing)
        if random_erasing:
            colour = [255 * value for value in preprocessing.mean]
            erasing = v2.RandomErasing(random_erasing, value=colour)
            self.transform = v2.Compose([self.transform or preprocessing.centre, erasing])

    def __call__(self, image: torch.Tensor, view: int, row: int) -> torch.Tensor:
        if self.transform is None:
            return self.preprocessing.centre(image)
        # torchvision draws from torch's global generator: seed it for this sample, and put it back afterwards.
        before = torch.default_generator.get_state()
        try:
            torch.default_generator.manual_seed(sample_seed(self.seed, view, row))
            return self.transform(image).contiguous()
        finally:
            torch.default_generator.set_state(before)


def _transform(policy: Policy, preprocessing: Preprocessing) -> v2.Transform | None:
    size = preprocessing.size
    interpolation = v2.InterpolationMode(preprocessing.interpolation)
    crop = v2.RandomResizedCrop(size, scale=(0.35, 1.0), ratio=(3 / 4, 4 / 3), interpolation=interpolation)
    flip = v2.RandomHorizontalFlip()
    colourful = preprocessing.channels == 3
    if policy == "none":
        return None
    if policy == "light":
        return v2.Compose([crop, flip])
    if policy == "standard":
        rotation = v2.RandomRotation(10, interpolation=v2.InterpolationMode.BILINEAR)
        colour = v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2) if colourful else v2.Identity()
        return v2.Compose([rotation, crop, flip, colour])
    if policy == "trivial_augment":
        # Its colour operations are defined for one or three channels.
        trivial = v2.TrivialAugmentWide() if preprocessing.channels != 4 else v2.Identity()
        return v2.Compose([crop, flip, trivial])
    if policy in ("shift", "shift_flip"):
        # A crop of the padded image: whole pixels need no interpolation, which would take five times as long.
        border = v2.Pad(max(1, round(size / 10)), padding_mode="edge")
        return v2.Compose(
            [preprocessing.centre, border, v2.RandomCrop(size), *([flip] if policy == "shift_flip" else [])]
        )
    raise ValueError(f"'{policy}' is not a policy; they are {', '.join(POLICIES)}.")
