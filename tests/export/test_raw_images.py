from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from onnx import parser

from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.export.onnx_graph import OPSET
from resnet_tl.export.raw_images import graph_text

SIZES = ((1, 5000), (5000, 1), (3, 3), (1, 1), (37, 53), (53, 38), (57, 57), (200, 331))


def prepared_by_onnx(planned: Preprocessing, images: np.ndarray) -> np.ndarray:
    model = parser.parse_model(graph_text(planned, OPSET)).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})[0]


def prepared_by_us(planned: Preprocessing, images: np.ndarray) -> np.ndarray:
    return np.stack([planned.centre(planned.store(image)).permute(1, 2, 0).numpy() for image in images])


def planned(channels: int = 3, **rest) -> Preprocessing:
    numbers = (1.0,) * channels
    sizes = {"size": 33, "storage_size": 57, "crop_size": 50}
    return Preprocessing(**{**sizes, **rest}, mean=numbers, std=numbers, channels=channels)


@pytest.mark.parametrize("rule", ["short_side", "squash"])
@pytest.mark.parametrize(("interpolation", "levels"), [("bilinear", 1), ("bicubic", 2)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_graph_gives_our_pixels_but_for_rounding(rule, interpolation, levels, channels):
    seen = planned(channels, resize_rule=rule, interpolation=interpolation)
    draws = np.random.default_rng(0)
    for size in SIZES:  # noise, in which a place or a side that is off by one changes nearly every pixel
        images = draws.integers(0, 256, (2, *size, channels), dtype=np.uint8)
        ours, theirs = prepared_by_us(seen, images), prepared_by_onnx(seen, images)
        differences = np.abs(ours.astype(int) - theirs)
        assert differences.max() <= levels, size
        assert (differences > 0).mean() < 0.1, size


def test_an_image_that_needs_no_resizing_is_the_very_same():
    seen = planned(size=50)
    images = np.random.default_rng(0).integers(0, 256, (3, 57, 70, 3), dtype=np.uint8)
    assert (prepared_by_onnx(seen, images) == prepared_by_us(seen, images)).all()


@pytest.mark.parametrize("height", [58, 59, 60, 61, 62])
def test_a_middle_between_two_pixels_is_the_same_as_ours(height: int):
    seen = planned(size=57, crop_size=57)
    images = np.random.default_rng(0).integers(0, 256, (1, height, 57, 3), dtype=np.uint8)
    assert (prepared_by_onnx(seen, images) == prepared_by_us(seen, images)).all()


@pytest.mark.slow  # half a gigabyte
def test_a_photo_of_24_megapixels():
    seen = replace(planned(), size=224, storage_size=256, crop_size=224)
    images = np.random.default_rng(0).integers(0, 256, (1, 4000, 6000, 3), dtype=np.uint8)
    assert np.abs(prepared_by_onnx(seen, images).astype(int) - prepared_by_us(seen, images)).max() <= 1
