"""Each operation is that of torchvision's TrivialAugmentWide, and the numbers alone choose it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode, TrivialAugmentWide

from resnet_tl.data.pixels.trivial_augment import BINS, MOVES, OPERATIONS, trivial_augment

THEIRS = TrivialAugmentWide()


def picture(channels: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (channels, 40, 36), dtype=np.uint8))


@pytest.mark.parametrize(("number", "name"), list(enumerate(THEIRS._AUGMENTATION_SPACE)))
@pytest.mark.parametrize("sign", [0.2, 0.7])
def test_each_operation_is_torchvisions(number: int, name: str, sign: float) -> None:
    assert len(OPERATIONS) == len(THEIRS._AUGMENTATION_SPACE)
    strengths, is_signed = THEIRS._AUGMENTATION_SPACE[name]
    magnitudes = strengths(BINS, 40, 36)
    for level in (0, 1, 7, 22, 30):
        magnitude = 0.0 if magnitudes is None else float(magnitudes[level])
        magnitude *= -1 if is_signed and sign < 0.5 else 1
        expected = THEIRS._apply_image_or_video_transform(
            picture(), name, magnitude, interpolation=InterpolationMode.NEAREST, fill=THEIRS._fill
        )
        ours = trivial_augment(picture(), (number + 0.5) / len(OPERATIONS), (level + 0.5) / BINS, sign)
        assert (ours.int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize("number", range(len(OPERATIONS)))
def test_transparency_moves_with_the_pixels_and_has_no_colour(number: int) -> None:
    image = picture(4)
    changed = trivial_augment(image, (number + 0.5) / len(OPERATIONS), 0.8, 0.7)
    assert torch.equal(changed[:3], trivial_augment(image[:3], (number + 0.5) / len(OPERATIONS), 0.8, 0.7))
    alone = trivial_augment(image[3:], (number + 0.5) / len(OPERATIONS), 0.8, 0.7)
    assert torch.equal(changed[3:], alone if OPERATIONS[number] in MOVES else image[3:])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_number_from_zero_to_one_is_taken_and_the_global_generator_left_alone(channels: int) -> None:
    before, image = torch.get_rng_state(), picture(channels)
    for which in np.linspace(0, 1, 40, endpoint=False):
        for strength in (0.0, 0.5, 1 - 1e-9):
            changed = trivial_augment(image, which, strength, 0.3)
            assert (changed.shape, changed.dtype) == (image.shape, torch.uint8)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(image, picture(channels))
