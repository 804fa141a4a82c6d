"""Colours change as torchvision's functions change them, each image by its own factors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional

from resnet_tl.data.pixels.colour import adjust_colour


def pictures(number: int = 4) -> torch.Tensor:
    pixels = np.random.default_rng(0).integers(0, 256, (number, 20, 24, 3), dtype=np.uint8)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


FACTORS = torch.tensor([[0.8, 1.2, 0.9], [1.2, 0.8, 1.2], [1.0, 1.0, 1.0], [1.1, 0.9, 0.8]])


@pytest.mark.parametrize(
    ("place", "adjust"),
    [(0, functional.adjust_brightness), (1, functional.adjust_contrast), (2, functional.adjust_saturation)],
)
def test_each_factor_does_what_torchvisions_function_does(place: int, adjust) -> None:
    images = pictures()
    factors = torch.ones(4, 3)
    factors[:, place] = FACTORS[:, place]
    adjusted = adjust_colour(images, factors)
    expected = torch.stack(
        [adjust(image, factor.item()) for image, factor in zip(images, factors[:, place], strict=True)]
    )
    assert (adjusted.int() - expected.int()).abs().max() <= 1  # torchvision rounds down


def test_they_are_done_one_after_another() -> None:
    images = pictures()
    adjusted = adjust_colour(images, FACTORS)
    for image, factors, result in zip(images, FACTORS.tolist(), adjusted, strict=True):
        expected = functional.adjust_brightness(image, factors[0])
        expected = functional.adjust_contrast(expected, factors[1])
        expected = functional.adjust_saturation(expected, factors[2])
        assert (result.int() - expected.int()).abs().max() <= 4  # torchvision rounds down three times


def test_an_image_does_not_depend_on_the_rest_of_its_batch() -> None:
    images, before = pictures(), pictures()
    adjusted = adjust_colour(images, FACTORS)
    assert torch.equal(images, before)
    assert torch.equal(adjusted[2], images[2])
    assert adjusted.is_contiguous(memory_format=torch.channels_last)
    for row in range(4):
        alone = adjust_colour(images[row : row + 1].contiguous(), FACTORS[row : row + 1])
        assert torch.equal(alone[0], adjusted[row])


def test_grey_has_no_saturation_and_transparency_stays() -> None:
    images = pictures()
    grey, as_rgb = (adjust_colour(images[:, :1].expand(-1, number, -1, -1), FACTORS) for number in (1, 3))
    assert (grey.int() - as_rgb[:, :1].int()).abs().max() <= 1  # the weights of the colours add up to 0.9999
    rgba = adjust_colour(torch.cat([images, images[:, :1]], dim=1), FACTORS)
    assert torch.equal(rgba[:, :3], adjust_colour(images, FACTORS))
    assert torch.equal(rgba[:, 3:], images[:, :1])
    assert rgba.is_contiguous(memory_format=torch.channels_last)


def test_no_images_are_no_images() -> None:
    assert adjust_colour(pictures(0), torch.empty(0, 3)).shape == (0, 3, 20, 24)


def test_the_number_of_threads_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 3, 288, 288), generator=generator, dtype=torch.uint8)
    factors = 0.8 + 0.4 * torch.rand(4, 3, generator=generator)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(adjust_colour(images, factors))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(results[0], result) for result in results)
