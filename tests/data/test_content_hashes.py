from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from resnet_tl import cache
from resnet_tl.data import content_hashes
from resnet_tl.data.content_hashes import digest_in_order, hashes_and_headers
from resnet_tl.data.reading.layouts import read_images


def test_a_row_has_the_digest_of_its_files_bytes(blobs: Path) -> None:
    index = read_images(blobs)
    digests = hashes_and_headers(index)[0]
    assert (digests.shape, digests.dtype) == ((44, 32), np.uint8)
    for row in (0, 17, 43):
        assert digests[row].tobytes() == hashlib.sha256(index.path(row).read_bytes()).digest()


def test_names_places_and_dates_change_nothing(blobs: Path, tmp_path: Path) -> None:
    for source in (blobs / "train").rglob("*.png"):
        target = tmp_path / source.parent.name / f"renamed {source.name}"
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(source, target)
    moved = hashes_and_headers(read_images(tmp_path))[0]
    np.testing.assert_array_equal(moved, hashes_and_headers(read_images(blobs / "train"))[0])


def test_a_file_that_cannot_be_read_has_the_digest_of_the_reason(blobs: Path, tmp_path: Path) -> None:
    shutil.copytree(blobs / "train", tmp_path / "train")
    index = read_images(tmp_path / "train")
    before = hashes_and_headers(index)[0]
    index.path(3).unlink()
    index.path(9).unlink()
    after = hashes_and_headers(index)[0]
    assert np.flatnonzero((before != after).any(axis=1)).tolist() == [3, 9]
    np.testing.assert_array_equal(after[3], after[9])


def test_the_digest_of_a_selection_depends_on_its_contents_and_order(blobs: Path) -> None:
    digests = hashes_and_headers(read_images(blobs))[0]
    first = digest_in_order(digests[[1, 2, 3]])
    assert first == digest_in_order(digests[1:4].copy())
    assert len({first, digest_in_order(digests[[2, 1, 3]]), digest_in_order(digests[[1, 2]])}) == 3


# What is kept of files that nobody has touched


@pytest.fixture
def settled(blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the pictures whose times tell of any further change, and a cache of its own."""
    monkeypatch.setenv("RESNET_TL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(content_hashes, "SETTLED", 0.0)
    return shutil.copytree(blobs, tmp_path / "copy")


def test_untouched_files_are_not_read_again(settled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = read_images(settled)
    hashes, sizes, kinds = hashes_and_headers(index)
    assert hashes[3].tobytes() == hashlib.sha256(index.path(3).read_bytes()).digest()
    assert (sizes == 32).all()
    assert not kinds.any()
    monkeypatch.setattr(content_hashes, "read_file", None)
    monkeypatch.setattr(content_hashes, "header_facts", None)
    again = hashes_and_headers(read_images(settled))
    np.testing.assert_array_equal(again[0], hashes)
    np.testing.assert_array_equal(again[1], sizes)


def test_a_touched_file_is_read_again_even_if_size_and_date_are_the_same(settled: Path) -> None:
    index = read_images(settled)
    before, *_ = hashes_and_headers(index)
    file = index.path(3)
    status = file.stat()
    file.write_bytes(bytes(reversed(file.read_bytes())))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    after, sizes, _ = hashes_and_headers(index)
    assert np.flatnonzero((before != after).any(axis=1)).tolist() == [3]
    assert sizes[3].tolist() == [0, 0]


def test_of_new_and_missing_files_and_of_damaged_entries_nothing_is_believed(
    settled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = read_images(settled)
    monkeypatch.setattr(content_hashes, "SETTLED", 3600.0)
    expected, *_ = hashes_and_headers(index)
    assert cache.entries() == []
    monkeypatch.setattr(content_hashes, "SETTLED", 0.0)
    hashes_and_headers(index)
    (entry,) = cache.entries()
    (entry.path / "sizes.npy").write_bytes(b"")
    np.testing.assert_array_equal(hashes_and_headers(index)[0], expected)
    index.path(0).unlink()
    assert (hashes_and_headers(index)[0] != expected).any(axis=1).tolist() == [True] + [False] * 43
