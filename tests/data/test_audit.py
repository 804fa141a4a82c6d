from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_tl.data.audit import audit_images
from resnet_tl.data.layouts import read_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three good images (one lies on its side) and three bad files in two classes."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (31, 20)).save(tmp_path / name / "1.jpg")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (32, 20)).save(tmp_path / "a" / "2.jpg", exif=turned)
    (tmp_path / "a" / "3.jpg").write_bytes(b"")
    (tmp_path / "b" / "3.png").write_bytes(b"<html>not found</html>")
    (tmp_path / "b" / "4.jpg").write_bytes((tmp_path / "b" / "1.jpg").read_bytes()[:-100])
    return tmp_path


@pytest.mark.parametrize("threads", [None, 1, 5])
def test_the_audit_gives_upright_sizes_and_the_reasons_of_bad_files(folder: Path, threads: int | None) -> None:
    index = read_images(folder)
    audit = audit_images(index, threads)
    assert {index.id(row): reason for row, reason in audit.bad.items()} == {
        "a/3.jpg": "is empty",
        "b/3.png": "is not an image (HTML?)",
        "b/4.jpg": "is truncated",
    }
    assert list(audit.bad) == sorted(audit.bad)
    sizes = dict(zip(index.ids(), audit.sizes.tolist(), strict=True))
    assert (sizes["a/1.jpg"], sizes["a/2.jpg"], sizes["b/4.jpg"]) == ([31, 20], [20, 32], [0, 0])
    assert audit.sizes.dtype == np.int32


def test_an_index_without_its_bad_rows_is_clean(folder: Path) -> None:
    index = read_images(folder)
    assert audit_images(index.without(audit_images(index).bad)).bad == {}


@pytest.mark.parametrize(
    "name", ["imageNotFound.gif", "image_not_found.png", "photo-unavailable.png", "no image available.gif"]
)
def test_a_placeholder_for_a_missing_photo_is_bad_though_it_decodes(folder: Path, name: str) -> None:
    Image.new("RGB", (30, 30)).save(folder / "a" / name)
    index = read_images(folder)
    assert (
        audit_images(index).bad[index.ids().index(f"a/{name}")] == "is a placeholder for a missing photo, by its name"
    )


def test_real_photos_hold_one_placeholder(shared_data: Path) -> None:
    index = read_images(shared_data / "hymenoptera")
    audit = audit_images(index)
    assert [index.id(row) for row in audit.bad] == ["train/ants/imageNotFound.gif"]
    assert audit.sizes[index.ids().index("train/ants/formica.jpeg")].tolist() == [193, 130]
