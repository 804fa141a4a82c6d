from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from resnet_tl import cache
from resnet_tl.data import kept_arrays
from resnet_tl.data.content_hashes import hashes_and_headers
from resnet_tl.data.quality import duplicates as duplicates_module
from resnet_tl.data.quality.audit import audit_images
from resnet_tl.data.quality.duplicates import Duplicates, find_duplicates
from resnet_tl.data.reading.layouts import read_images


def searched(root: Path) -> tuple[set[tuple[str, str]], set[tuple[str, str]], Duplicates]:
    """The equal pairs and the near ones, by path."""
    index = read_images(root)
    contents = hashes_and_headers(index)[0]
    duplicates = find_duplicates(index, contents, audit_images(index, contents))
    pairs = [(index.id(one), index.id(other)) for one, other in duplicates.pairs.tolist()]
    equal = {pair for pair, likeness in zip(pairs, duplicates.likeness, strict=True) if likeness == 1}
    return equal, set(pairs) - equal, duplicates


@pytest.fixture
def folder(tmp_path: Path, photo: Callable[..., Image.Image]) -> Path:
    """Ten photos in two classes."""
    for number in range(10):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(number).save(path)
    return tmp_path / "photos"


def test_photos_that_differ_are_not_duplicates(folder: Path) -> None:
    assert searched(folder)[:2] == (set(), set())


def test_equal_files_are_paired_with_the_first_of_them(folder: Path) -> None:
    for name in ("a/x.png", "b/y.png"):
        shutil.copy(folder / "a" / "0.png", folder / name)
    equal, near, duplicates = searched(folder)
    assert equal == {("a/0.png", "a/x.png"), ("a/0.png", "b/y.png")}
    assert near == set()
    clusters = duplicates.clusters(12)
    assert np.unique(clusters, return_counts=True)[1].tolist().count(3) == 1
    assert len(set(clusters.tolist())) == 10


def test_equal_pixels_in_another_file_are_equal(folder: Path) -> None:
    Image.open(folder / "a" / "0.png").save(folder / "a" / "x.bmp")
    assert searched(folder)[0] == {("a/0.png", "a/x.bmp")}


@pytest.mark.parametrize("change", ["quality", "size", "light", "grey", "tint"])
def test_nearly_the_same_picture_is_a_near_duplicate(folder: Path, photo, change: str) -> None:
    image, options = photo(0), {}
    if change == "quality":
        options = {"quality": 30}
    elif change == "size":
        image = photo(0, 150)
    elif change == "light":
        image = ImageEnhance.Brightness(image).enhance(0.8)
    elif change == "grey":
        image = image.convert("L")
    else:
        image = ImageEnhance.Color(image).enhance(0.5)
    image.save(folder / "b" / "x.jpg", **options)
    equal, near, _ = searched(folder)
    assert (equal, near) == (set(), {("a/0.png", "b/x.jpg")})


def test_images_that_show_nothing_are_not_compared(folder: Path) -> None:
    for number in range(3):
        Image.new("RGB", (40, 40), "white").save(folder / "a" / f"blank {number}.png")
        faint = np.random.default_rng(number).integers(200, 204, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(faint).save(folder / "a" / f"faint {number}.png")
    assert searched(folder)[:2] == (set(), set())


def test_strokes_of_two_hands_are_not_duplicates_and_the_same_stroke_is(tmp_path: Path) -> None:
    for name, shift in (("a/1.png", 0), ("a/2.png", 2), ("b/3.png", 0)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        image = Image.new("L", (56, 56))
        ImageDraw.Draw(image).line([(24, 10), (30 + shift, 46)], fill=255, width=6)
        image.save(tmp_path / name)
    assert searched(tmp_path)[0] == {("a/1.png", "b/3.png")}
    assert searched(tmp_path)[1] == set()


def test_noise_is_never_alike(blobs: Path) -> None:
    assert searched(blobs)[:2] == (set(), set())


def test_images_alike_by_nature_are_said_to_be_so(tmp_path: Path, photo) -> None:
    ground = photo(0)
    for number in range(30):
        image = ground.copy()
        image.putpixel((number, 5), (255, 0, 0))
        path = tmp_path / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        image.save(path)
    shutil.copy(tmp_path / "a" / "0.png", tmp_path / "b" / "copy.png")
    equal, near, duplicates = searched(tmp_path)
    assert duplicates.too_many
    assert (equal, near) == ({("a/0.png", "b/copy.png")}, set())


def test_bad_and_unlabelled_images_are_left_out(folder: Path) -> None:
    for name in ("a/x.jpg", "b/y.jpg"):
        (folder / name).write_bytes(b"no image")
    assert searched(folder)[:2] == (set(), set())


def test_the_pairs_of_many_images_are_kept(folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("RESNET_TL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept_arrays, "WORTH_KEEPING", 5)
    Image.open(folder / "a" / "0.png").save(folder / "b" / "x.jpg")
    Image.open(folder / "a" / "0.png").save(folder / "b" / "y.bmp")
    made = searched(folder)
    assert "duplicates among 12 images" in cache.entries()[-1].about

    def refuse(*words: object) -> None:
        raise AssertionError("searched again")

    monkeypatch.setattr(duplicates_module, "_search", refuse)
    kept = searched(folder)
    assert kept[:2] == made[:2]
    np.testing.assert_array_equal(kept[2].likeness, made[2].likeness)
    Image.open(folder / "a" / "2.png").save(folder / "b" / "z.bmp")
    with pytest.raises(AssertionError, match="searched again"):
        searched(folder)


def test_the_pairs_do_not_depend_on_how_large_photos_were_decoded(tmp_path: Path, photo) -> None:
    """A JPEG that the pass before has read at a fraction of its size gives the same likeness to the last bit."""
    from resnet_tl.data.quality.audit import decode_all

    for name, seed in (("a/1.jpg", 1), ("a/2.jpg", 2), ("b/3.jpg", 1)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        photo(seed, 500).save(tmp_path / name, quality=90 - len(name) - seed * ord(name[0]) % 7)
    index = read_images(tmp_path)
    contents = hashes_and_headers(index)[0]
    whole, part = (find_duplicates(index, contents, decode_all(index, contents, 3, side)) for side in (None, 30))
    assert len(whole.pairs) == 1
    np.testing.assert_array_equal(whole.pairs, part.pairs)
    np.testing.assert_array_equal(whole.likeness, part.likeness)


def test_pairs_join_rows_to_the_first_of_their_cluster() -> None:
    def clusters(pairs: list[list[int]], count: int) -> list[int]:
        table = np.array(pairs, np.int64).reshape(-1, 2)
        return Duplicates(table, np.ones(len(table), np.float32)).clusters(count).tolist()

    assert clusters([[4, 5], [1, 4], [2, 3], [1, 5]], 7) == [0, 1, 2, 2, 1, 1, 6]
    assert clusters([], 3) == [0, 1, 2]
    assert set(clusters([[number, number + 1] for number in range(4999)], 5000)) == {0}
