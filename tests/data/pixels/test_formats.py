from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import features

from resnet_tl.data.pixels.decode import decode
from resnet_tl.data.pixels.formats import HEIF_READER, IMAGE_SUFFIXES, UNREAD_SUFFIXES, count_unread, suffix_of

FORMATS = {"JPEG": ".jfif .jpe .jif .mpo", "PPM": ".ppm .pgm .pnm", "PNG": ".apng"}
OPTIONAL = {"AVIF": ("avif", ".avif"), "JPEG2000": ("jpg_2000", ".jp2 .j2k")}
FORMATS |= {name: suffixes for name, (feature, suffixes) in OPTIONAL.items() if features.check(feature)}


@pytest.mark.parametrize(("name", "suffixes"), FORMATS.items(), ids=FORMATS)
def test_what_pillow_reads_without_help_is_read(name: str, suffixes: str, tmp_path: Path, photo) -> None:
    picture = photo(1)
    for suffix in suffixes.split():
        path = tmp_path / f"photo{suffix}"
        picture.save(path, format=name)
        assert suffix in IMAGE_SUFFIXES
        assert np.abs(decode(path).astype(float) - np.asarray(picture)).mean() < 6


@pytest.mark.parametrize("mode", ["1", "L"])
def test_maps_of_bits_and_of_grey_are_read(mode: str, photo) -> None:
    content = BytesIO()
    photo(1).convert(mode).save(content, format="PPM")
    assert np.array_equal(
        decode(content.getvalue(), channels=1)[..., 0], np.asarray(photo(1).convert(mode).convert("L"))
    )


@pytest.mark.skipif(not HEIF_READER, reason="pillow-heif is not installed")
def test_photos_of_iphones_are_read_with_the_extra(tmp_path: Path, photo) -> None:
    photo(1).save(tmp_path / "IMG_0001.HEIC", format="HEIF", quality=90)
    assert np.abs(decode(tmp_path / "IMG_0001.HEIC").astype(float) - np.asarray(photo(1))).mean() < 6


def test_a_suffix_is_read_or_counted_never_both() -> None:
    assert not IMAGE_SUFFIXES & UNREAD_SUFFIXES
    assert {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"} <= IMAGE_SUFFIXES
    assert {".dcm", ".nii", ".cr2", ".nef", ".psd", ".svg", ".exr", ".npy"} <= UNREAD_SUFFIXES
    assert ".heic" in IMAGE_SUFFIXES | UNREAD_SUFFIXES


def test_each_suffix_has_a_way_out() -> None:
    assert suffix_of("a.b.HEIC") == ".heic"
    assert suffix_of("README") == ""
    assert count_unread(["1.heic", "2.HEIC", "x.dcm"]) == (
        "1 .dcm, 2 .heic (`pip install pillow-heif` and .heic is read; convert the others to PNG or JPEG)"
    )
