from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_tl import ImageDataModule
from resnet_tl.data.content_hashes import hashes_and_headers
from resnet_tl.data.index import ImageIndex
from resnet_tl.data.pixels.decode import decode
from resnet_tl.data.pixels.deep import EIGHT_BITS, FLOATS, INTEGERS
from resnet_tl.data.reading.layouts import read_images
from resnet_tl.data.value_range import find_value_range, in_words, range_of
from resnet_tl.errors import UserError
from resnet_tl.inference.predictor import Predictor


def scans(seed: int = 0, low: int = 1100, high: int = 1900) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(low, high, (6, 24, 24)))


def write(root: Path, images: list[np.ndarray], suffix: str = ".png") -> Path:
    for number, values in enumerate(images):
        file = root / ("ab"[number % 2]) / f"{number}{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(file)
    return root


def found(root: Path) -> tuple[ImageIndex, tuple[float, float] | None]:
    index = read_images(root)
    hashes, _, kinds = hashes_and_headers(index)
    return index, find_value_range(index, hashes, kinds)


@pytest.mark.parametrize(("factor", "high"), [(1, 2047), (16, 32767)])
def test_pixels_do_not_depend_on_how_many_bits_the_scanner_left_empty(tmp_path: Path, factor: int, high: int) -> None:
    index, value_range = found(write(tmp_path, [(values * factor).astype(np.uint16) for values in scans()]))
    assert value_range == (0, high)
    for row, number in enumerate((0, 2, 4, 1, 3, 5)):
        expected = np.rint(scans()[number] * (255 / 2047))
        shown = decode(index.path(row), 1, None, value_range)[..., 0]
        assert np.abs(shown - expected).max() <= 1


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (np.arange(256), INTEGERS, (0, 255)),
        (np.arange(4096), INTEGERS, (0, 4095)),
        (np.append(np.arange(4000), [60_000] * 3), INTEGERS, (0, 4095)),  # a few hot pixels
        (np.arange(65536), INTEGERS, (0, 65535)),
        (np.linspace(29_000, 31_000, 1001), INTEGERS, (29_002, 30_998)),  # a thermal camera
        (np.linspace(-1000, 3000, 1001), INTEGERS, (-996, 2996)),
        (np.full(9, 500), INTEGERS, (0, 511)),
        (np.linspace(0, 1, 1001), FLOATS, (0, 1)),
        (np.linspace(0, 200, 1001), FLOATS, (0, 255)),
        (np.linspace(0.5, 0.6, 1001), FLOATS, (0.5001, 0.5999)),
        (np.linspace(-1, 1, 1001), FLOATS, (-0.998, 0.998)),
        (np.full(9, -2.0), FLOATS, (-2, -1)),
    ],
)
def test_the_rule(values: np.ndarray, kind: int, expected: tuple[float, float]) -> None:
    assert range_of(values, values.min(), values.max(), kind) == pytest.approx(expected)


def test_test_images_and_names_have_no_say(tmp_path: Path) -> None:
    train = [values.astype(np.uint16) for values in scans()]
    write(tmp_path / "one" / "train", train)
    write(tmp_path / "one" / "test", [values * 16 for values in train])
    write(tmp_path / "two", train[::-1])
    assert found(tmp_path / "one")[1] == found(tmp_path / "two")[1] == (0, 2047)


def test_images_of_8_bits_have_no_range_and_stay_as_they_are_beside_others(blobs: Path, tmp_path: Path) -> None:
    assert found(blobs)[1] is None
    grey = np.random.default_rng(0).integers(0, 256, (20, 20), np.uint8)
    write(tmp_path, [grey, grey.astype(np.uint16) * 16, grey, grey.astype(np.uint16) * 16])
    index, value_range = found(tmp_path)
    assert value_range == (0, 4095)
    assert all(
        np.abs(decode(index.path(row), 1, None, value_range)[..., 0] - grey.astype(int)).max() <= 1 for row in range(4)
    )
    kinds = hashes_and_headers(index)[2]
    assert in_words(kinds, value_range) == (
        "2 images have more than 8 bits: their values 0 to 4095 become 0 to 255 (data.value_range)"
    )
    assert in_words(np.full(4, EIGHT_BITS), None) == ""


def test_whole_numbers_and_floats_that_have_no_range_in_common_are_refused(tmp_path: Path) -> None:
    images = [values.astype(np.uint16) for values in scans()]
    write(tmp_path, images)
    write(tmp_path / "a", [np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)], ".tif")
    (tmp_path / "a" / "a" / "0.tif").rename(tmp_path / "a" / "float.tif")
    (tmp_path / "a" / "a").rmdir()
    with pytest.raises(UserError, match=r"whole numbers \(0 to 2047\) and others of floats \(0 to 1\)"):
        found(tmp_path)


def test_a_file_that_cannot_be_read_has_no_say(tmp_path: Path) -> None:
    write(tmp_path, [values.astype(np.uint16) for values in scans()])
    whole = (tmp_path / "a" / "0.png").read_bytes()
    (tmp_path / "a" / "0.png").write_bytes(whole[: len(whole) // 2])
    assert found(tmp_path)[1] == (0, 2047)
    for file in tmp_path.rglob("*.png"):
        file.write_bytes(file.read_bytes()[:60])
    assert found(tmp_path)[1] is None


def test_a_fit_says_stores_and_predicts_with_the_range(tmp_path: Path, fit, caplog: pytest.LogCaptureFixture) -> None:
    root = write(tmp_path / "images", [values.astype(np.uint16) for values in scans() + scans(1) + scans(2)])
    with caplog.at_level("INFO", logger="resnet_tl"):
        model = fit(data={"root": root, "val_fraction": 0.4})
    assert "18 images have more than 8 bits: their values 0 to 2047 become 0 to 255" in caplog.text
    assert model.resolved["data.value_range"][0] == [0, 2047]
    bundle = model.save(tmp_path / "model")
    assert bundle.preprocessing.value_range == (0, 2047)
    expected = model.prediction_table("val").set_index("path")
    table = Predictor(tmp_path / "model").predict(list(expected.index)).set_index("path").loc[expected.index]
    np.testing.assert_allclose(table["prob_a"], expected["prob_a"], atol=1e-6)


def test_another_range_makes_other_pixels_though_the_images_are_kept(
    tmp_path: Path, fit, caplog: pytest.LogCaptureFixture
) -> None:
    root = write(tmp_path, [values.astype(np.uint16) for values in scans() + scans(1) + scans(2)])
    means = {}
    for value_range in ((0, 2047), (1000, 2047), None):
        with caplog.at_level("INFO", logger="resnet_tl"):
            model = fit(mode="head", data={"root": root, "augmentation": "none", "value_range": value_range})
        means[value_range] = model.trainer.datamodule.train_dataloader().samples.stored(0).float().mean()
    assert means[0, 2047] == means[None] > means[1000, 2047] + 10
    assert "become 0 to 255 (data.value_range), as set" in caplog.text


def test_a_range_that_nothing_uses_says_so(blobs: Path, fit, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="resnet_tl"):
        fit(data={"value_range": (0, 4095)}, trainer={"fast_dev_run": True})
    assert "no images of more than 8 bits: data.value_range is not used in training" in caplog.text


@pytest.mark.parametrize("value_range", [(5, 1), (1, 2, 3), (0, float("inf")), (0, float("nan")), ("a", "b")])
def test_a_range_that_is_none_is_refused(value_range: tuple) -> None:
    with pytest.raises(UserError, match="must be two finite numbers, the smaller one first"):
        ImageDataModule(value_range=value_range)
