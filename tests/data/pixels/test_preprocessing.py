from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from resnet_tl.data.pixels.preprocessing import MAX_ASPECT, Preprocessing, plan_preprocessing

PLAIN = Preprocessing(size=16, storage_size=20, crop_size=16)


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "stored"),
    [
        (60, 40, (30, 20)),
        (40, 60, (20, 30)),
        (40, 40, (20, 20)),
        (33, 47, (20, 28)),
        (48, 64, (20, 26)),  # 26.7: rounded down, as torchvision does
        (7, 5, (28, 20)),  # smaller than the network's input: enlarged
        (1, 1, (20, 20)),
        (1, 3, (20, 60)),
        (20, 20, (20, 20)),
    ],
)
def test_the_short_side_becomes_the_storage_size_and_the_shape_is_kept(
    height: int, width: int, stored: tuple[int, int]
) -> None:
    image = PLAIN.store(picture(height, width))
    assert image.shape == (3, *stored)
    assert image.dtype == torch.uint8


def test_squash_stretches_any_shape_to_a_square() -> None:
    squash = replace(PLAIN, resize_rule="squash")
    for height, width in ((60, 40), (40, 60), (3, 200), (20, 20)):
        assert squash.store(picture(height, width)).shape == (3, 20, 20)
    left_half_white = np.zeros((10, 40, 3), np.uint8)
    left_half_white[:, :20] = 255
    columns = squash.store(left_half_white).float().mean(dim=(0, 1))
    assert (columns[:9] == 255).all()
    assert (columns[11:] == 0).all()


@pytest.mark.parametrize(("height", "width"), [(1, 100_000), (100_000, 1), (2, 60_000)])
def test_a_line_of_pixels_does_not_grow_into_gigabytes(height: int, width: int) -> None:
    image = PLAIN.store(picture(height, width))
    assert sorted(image.shape[1:]) == [20, 20 * MAX_ASPECT]
    assert PLAIN.centre(image).shape == (3, 16, 16)


def test_of_a_line_of_pixels_the_middle_is_kept() -> None:
    line = np.zeros((1, 101, 3), np.uint8)
    line[0, 50] = 255
    profile = PLAIN.store(line).float().mean(dim=(0, 1))
    assert abs(int(profile.argmax()) - len(profile) / 2) <= 20


def test_antialiasing_turns_a_fine_chessboard_into_grey() -> None:
    board = np.indices((300, 300)).sum(axis=0) % 2 * 255
    stored = PLAIN.store(np.repeat(board[..., None], 3, axis=2).astype(np.uint8))
    assert stored.float().sub(127.5).abs().max() <= 4


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_resizing_agrees_with_pillow(interpolation: str) -> None:
    pixels = picture(48, 64)
    planned = replace(PLAIN, interpolation=interpolation)
    expected = Image.fromarray(pixels).resize((26, 20), getattr(Image.Resampling, interpolation.upper()))
    difference = planned.store(pixels).permute(1, 2, 0).numpy().astype(int) - np.asarray(expected)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("rule", ["short_side", "squash"])
def test_pixels_are_uint8_all_along_for_grey_rgb_and_rgba(channels: int, rule: str) -> None:
    planned = replace(PLAIN, channels=channels, resize_rule=rule)
    stored = planned.store(picture(31, 45, channels))
    centre = planned.centre(stored)
    assert (stored.dtype, stored.shape[0]) == (torch.uint8, channels)
    assert (centre.dtype, centre.shape) == (torch.uint8, (channels, 16, 16))


@pytest.mark.parametrize(("height", "width"), [(20, 20), (20, 31), (35, 20)])
def test_the_centre_crop_is_in_the_centre(height: int, width: int) -> None:
    stored = torch.from_numpy(picture(height, width)).permute(2, 0, 1)
    top, left = round((height - 16) / 2), round((width - 16) / 2)
    assert torch.equal(PLAIN.centre(stored), stored[:, top : top + 16, left : left + 16])


def test_a_crop_that_is_not_the_networks_size_is_resized() -> None:
    centre = replace(PLAIN, size=32).centre(torch.full((3, 20, 24), 77, dtype=torch.uint8))
    assert centre.shape == (3, 32, 32)
    assert (centre == 77).all()


def test_another_size_shows_the_same_part() -> None:
    stored = torch.from_numpy(picture(40, 55)).permute(2, 0, 1)
    planned = replace(PLAIN, storage_size=40, crop_size=32, size=32)
    assert torch.equal(planned.centre(stored, 12), planned.resize(planned.centre(stored), 12, 12))


def test_images_are_stored_for_the_largest_size() -> None:
    planned = plan_preprocessing(96, crop_ratio=0.875, largest=160)
    assert (planned.size, planned.storage_size, planned.crop_size) == (96, 183, 160)


def test_neither_storing_nor_cropping_changes_the_decoded_pixels() -> None:
    pixels = picture(20, 20)
    before = pixels.copy()
    PLAIN.centre(PLAIN.store(pixels))
    assert (pixels == before).all()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("sides", [(48, 64), (9, 12)])
def test_resizing_is_that_of_torchvision_in_either_order_in_memory(
    interpolation: str, channels: int, sides: tuple[int, int]
) -> None:
    planned = replace(PLAIN, interpolation=interpolation, channels=channels)
    pixels = torch.from_numpy(picture(*sides, channels)).permute(2, 0, 1)
    planes = pixels.contiguous()
    expected = resize(planes, [20, 30], InterpolationMode(interpolation), antialias=True)
    assert torch.equal(planned.resize(pixels, 20, 30), expected)
    assert torch.equal(planned.resize(planes, 20, 30), expected)


def test_normalised_pixels_are_those_of_the_definition() -> None:
    planned = replace(PLAIN, mean=(0.5, 0.25, 0.1), std=(0.5, 0.2, 0.4))
    images = torch.from_numpy(picture(16, 16)).permute(2, 0, 1)[None]
    before = images.clone()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (planned.mean, planned.std))
    normalised = planned.normalise(images)
    torch.testing.assert_close(normalised, (images / 255 - mean) / std, rtol=0, atol=1e-6)
    assert normalised.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, before)


@pytest.mark.parametrize("number", [1, 3])
def test_normalising_does_not_depend_on_the_batch_nor_on_the_order_in_memory(number: int) -> None:
    planes = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (number, 3, 16, 20), dtype=np.uint8))
    normalised = PLAIN.normalise(planes)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PLAIN.mean, PLAIN.std))
    torch.testing.assert_close(normalised, (planes / 255 - mean) / std, rtol=0, atol=1e-6)
    assert torch.equal(PLAIN.normalise(planes.contiguous(memory_format=torch.channels_last)), normalised)
    for row in range(number):
        assert torch.equal(PLAIN.normalise(planes[row : row + 1])[0], normalised[row])


@pytest.mark.parametrize("channels", [1, 4])
def test_other_numbers_of_channels_are_normalised_by_their_own_statistics(channels: int) -> None:
    planned = replace(PLAIN, channels=channels, mean=(0.5,) * channels, std=(0.25,) * channels)
    normalised = planned.normalise(torch.full((2, channels, 4, 4), 255, dtype=torch.uint8))
    torch.testing.assert_close(normalised, torch.full((2, channels, 4, 4), 2.0))


def test_no_images_are_normalised_to_no_images() -> None:
    assert PLAIN.normalise(torch.empty((0, 3, 16, 16), dtype=torch.uint8)).shape == (0, 3, 16, 16)


def test_the_preprocessing_survives_json() -> None:
    planned = plan_preprocessing(
        224, crop_ratio=0.875, interpolation="bicubic", mean=(0.1, 0.2, 1 / 3), decoder="pillow 11"
    )
    assert Preprocessing.from_dict(json.loads(json.dumps(planned.to_dict()))) == planned


@pytest.mark.parametrize(
    ("size", "crop_ratio", "storage", "expected"),
    [
        (224, 0.875, None, (224, 256, 224)),  # as timm and torchvision evaluate
        (224, 0.95, None, (224, 236, 224)),
        (32, 1.0, None, (32, 32, 32)),
        (64, 1.0, 32, (64, 32, 32)),  # small images: their own size is stored, the crop is enlarged
        (64, 0.875, 128, (64, 128, 112)),
    ],
)
def test_a_plan_covers_the_same_share_of_the_image_at_any_size(
    size: int, crop_ratio: float, storage: int | None, expected: tuple[int, int, int]
) -> None:
    planned = plan_preprocessing(size, crop_ratio=crop_ratio, storage_size=storage)
    assert (planned.size, planned.storage_size, planned.crop_size) == expected
