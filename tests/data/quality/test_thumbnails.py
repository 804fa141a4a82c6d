from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from resnet_tl.data.quality.thumbnails import contrast, directions, extent, thumbnail


@pytest.mark.parametrize("size", [(16, 16), (64, 64), (5, 3), (1, 400), (300, 200)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_shape_gives_sixteen_by_sixteen(size: tuple[int, int], channels: int) -> None:
    pixels = np.zeros((*size, channels), np.uint8)
    assert (thumbnail(pixels).shape, thumbnail(pixels).dtype) == ((16, 16), np.uint8)


def test_it_holds_the_means_of_its_fields() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 32, 3), dtype=np.uint8)
    grey = pixels @ np.array([0.25, 0.5, 0.25])
    means = grey.reshape(16, 4, 16, 2).mean(axis=(1, 3))
    assert (
        thumbnail(pixels[..., :1]).tolist()
        == np.rint(pixels[..., 0].reshape(16, 4, 16, 2).mean(axis=(1, 3)) + 1e-6).tolist()
    )
    assert np.abs(thumbnail(pixels) + 1.25 - means).max() < 2  # each of three divisions rounds down


def test_the_same_photo_in_another_size_and_quality_correlates(photo) -> None:
    large = np.asarray(photo(1, 400))
    small = np.asarray(photo(1, 400).resize((90, 90)).convert("P").convert("RGB"))
    other = np.asarray(photo(2, 400))
    vectors = directions(np.stack([thumbnail(pixels) for pixels in (large, small, other)]))
    products = vectors @ vectors.T
    assert products[0, 1] > 0.98
    assert products[0, 2] < 0.5
    np.testing.assert_allclose(np.diag(products), 1, rtol=1e-5)


def test_an_even_image_has_no_contrast_and_no_direction() -> None:
    even = np.full((1, 16, 16), 200, np.uint8)
    assert contrast(even) == 0
    assert not directions(even).any()


def test_a_stroke_on_an_empty_ground_has_little_extent(photo) -> None:
    stroke = np.zeros((16, 16), np.uint8)
    stroke[4:12, 8] = 255
    full = np.asarray(photo(3, 16).convert("L"))
    found = extent(np.stack([stroke, full]))
    assert found[0] == pytest.approx(8 / 256, rel=0.15)
    assert found[1] > 0.25


def test_no_images_are_no_trouble() -> None:
    assert directions(np.empty((0, 16, 16), np.uint8)).shape == (0, 256)


def test_image_is_read_where_it_lies() -> None:
    assert thumbnail(np.asarray(Image.new("RGB", (70, 130), "white"))).tolist() == [[253] * 16] * 16
