from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_tl import cache
from resnet_tl.data.content_hashes import hashes_and_headers
from resnet_tl.data.index import ImageIndex
from resnet_tl.data.kept_arrays import WORTH_KEEPING
from resnet_tl.data.quality import audit as audit_module
from resnet_tl.data.quality.audit import Audit, audit_images, decode_all
from resnet_tl.data.reading.layouts import read_images
from resnet_tl.errors import UserError


def audited(index: ImageIndex, channels: int = 3) -> Audit:
    return audit_images(index, hashes_and_headers(index)[0], channels)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNET_TL_CACHE", str(tmp_path_factory.mktemp("cache")))


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


def test_the_audit_gives_upright_sizes_and_the_reasons_of_bad_files(folder: Path) -> None:
    index = read_images(folder)
    audit = audited(index)
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
    assert audited(index.without(audited(index).bad)).bad == {}


@pytest.mark.parametrize(
    "name", ["imageNotFound.gif", "image_not_found.png", "photo-unavailable.png", "no image available.gif"]
)
def test_a_placeholder_for_a_missing_photo_is_bad_though_it_decodes(folder: Path, name: str) -> None:
    Image.new("RGB", (30, 30)).save(folder / "a" / name)
    index = read_images(folder)
    assert audited(index).bad[index.ids().index(f"a/{name}")] == "is a placeholder for a missing photo, by its name"


def test_real_photos_hold_one_placeholder(shared_data: Path) -> None:
    index = read_images(shared_data / "hymenoptera")
    audit = audited(index)
    assert [index.id(row) for row in audit.bad] == ["train/ants/imageNotFound.gif"]
    assert audit.sizes[index.ids().index("train/ants/formica.jpeg")].tolist() == [193, 130]


# Kept for the next time


@pytest.fixture
def nothing_is_decoded(monkeypatch: pytest.MonkeyPatch):
    """Once called, decoding is an error."""

    def refuse(*args: object) -> None:
        raise AssertionError("an image was decoded")

    return lambda: monkeypatch.setattr(audit_module, "decode_with_size", refuse)


@pytest.fixture
def many(folder: Path) -> Path:
    """The folder with so many images that an audit is kept."""
    for number in range(WORTH_KEEPING):
        Image.new("RGB", (30 + number, 40)).save(folder / "a" / f"more {number}.png")
    return folder


def test_files_of_the_same_content_are_not_decoded_again(many: Path, tmp_path_factory, nothing_is_decoded) -> None:
    made = audited(read_images(many))
    moved = shutil.copytree(many, tmp_path_factory.mktemp("moved") / "here")
    nothing_is_decoded()
    for root in (many, moved):
        kept = audited(read_images(root))
        np.testing.assert_array_equal(kept.sizes, made.sizes)
        assert kept.bad == made.bad
        assert len(kept.bad) == 3


@pytest.mark.parametrize("change", ["content", "new file", "placeholder", "channels"])
def test_what_an_audit_depends_on_makes_a_new_one(many: Path, change: str) -> None:
    audited(read_images(many))
    channels = 3
    if change == "content":
        Image.new("RGB", (7, 5)).save(many / "a" / "more 1.png")
    elif change == "new file":
        Image.new("RGB", (7, 5)).save(many / "b" / "new.png")
    elif change == "placeholder":
        (many / "a" / "more 1.png").rename(many / "a" / "no image available.png")
    else:
        channels = 1
    index = read_images(many)
    audit = audited(index, channels)
    assert len(audit.bad) == (4 if change == "placeholder" else 3)
    assert len(cache.entries()) == 2


def test_a_file_that_can_be_read_again_is_looked_at_again(many: Path) -> None:
    path = many / "a" / "more 1.png"
    content = path.read_bytes()
    index = read_images(many)
    path.unlink()
    assert audited(index).bad[index.ids().index("a/more 1.png")] == "cannot be read: No such file or directory"
    path.write_bytes(content)
    assert len(audited(index).bad) == 3


def test_the_audit_of_a_few_images_is_not_kept(folder: Path) -> None:
    audited(read_images(folder))
    assert cache.entries() == []


def test_without_a_cache_folder_it_is_made_again(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("RESNET_TL_CACHE", str(tmp_path / "file" / "cache"))
    for _ in range(2):
        assert len(audited(read_images(many)).bad) == 3


def test_the_pixels_of_good_images_are_given_out_on_the_way(folder: Path) -> None:
    index = read_images(folder)
    shapes: dict[int, tuple[int, ...]] = {}
    audit = decode_all(
        index, hashes_and_headers(index)[0], 1, None, lambda row, pixels: shapes.update({row: pixels.shape})
    )
    assert shapes == {row: (*size[::-1], 1) for row, size in enumerate(audit.sizes.tolist()) if row not in audit.bad}


def test_a_large_photo_is_read_at_a_fraction_of_its_size_and_measured_whole(folder: Path, photo) -> None:
    photo(1, 1600).resize((2000, 1600)).save(folder / "a" / "1.jpg")
    index = read_images(folder)
    contents, row = hashes_and_headers(index)[0], index.ids().index("a/1.jpg")
    shapes: dict[int, tuple[int, ...]] = {}
    stored = decode_all(index, contents, 3, 256, lambda row, pixels: shapes.update({row: pixels.shape}))
    assert shapes[row] == (800, 1000, 3)
    audit = audit_images(index, contents)
    assert audit.sizes[row].tolist() == [2000, 1600]
    np.testing.assert_array_equal(audit.thumbnails, stored.thumbnails)


def test_a_file_that_changes_meanwhile_stops_it(folder: Path) -> None:
    index = read_images(folder)
    contents = hashes_and_headers(index)[0]
    Image.new("RGB", (7, 5)).save(folder / "a" / "1.jpg")
    with pytest.raises(UserError, match=r"1\.jpg has changed while the images were read"):
        decode_all(index, contents)


def test_the_audit_of_the_good_images_alone_is_renumbered(many: Path) -> None:
    index = read_images(many)
    for audit in (audited(index), audited(index)):  # the second one is kept
        good = audit.without_bad()
        rows = np.setdiff1d(np.arange(len(index)), list(audit.bad))
        assert good.bad == {}
        for name in ("sizes", "thumbnails"):
            np.testing.assert_array_equal(getattr(good, name), getattr(audit, name)[rows])
