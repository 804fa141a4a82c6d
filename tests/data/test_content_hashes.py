from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from resnet_tl.data.content_hashes import content_digests, digest_in_order
from resnet_tl.data.reading.layouts import read_images


@pytest.mark.parametrize("threads", [None, 1])
def test_a_row_has_the_digest_of_its_files_bytes(blobs: Path, threads: int | None) -> None:
    index = read_images(blobs)
    digests = content_digests(index, threads)
    assert (digests.shape, digests.dtype) == ((44, 32), np.uint8)
    for row in (0, 17, 43):
        assert digests[row].tobytes() == hashlib.sha256(index.path(row).read_bytes()).digest()


def test_names_places_and_dates_change_nothing(blobs: Path, tmp_path: Path) -> None:
    for source in (blobs / "train").rglob("*.png"):
        target = tmp_path / source.parent.name / f"renamed {source.name}"
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(source, target)
    moved = content_digests(read_images(tmp_path))
    np.testing.assert_array_equal(moved, content_digests(read_images(blobs / "train")))


def test_a_file_that_cannot_be_read_has_the_digest_of_the_reason(blobs: Path, tmp_path: Path) -> None:
    shutil.copytree(blobs / "train", tmp_path / "train")
    index = read_images(tmp_path / "train")
    before = content_digests(index)
    index.path(3).unlink()
    index.path(9).unlink()
    after = content_digests(index)
    assert np.flatnonzero((before != after).any(axis=1)).tolist() == [3, 9]
    np.testing.assert_array_equal(after[3], after[9])


def test_the_digest_of_a_selection_depends_on_its_contents_and_order(blobs: Path) -> None:
    digests = content_digests(read_images(blobs))
    first = digest_in_order(digests[[1, 2, 3]])
    assert first == digest_in_order(digests[1:4].copy())
    assert len({first, digest_in_order(digests[[2, 1, 3]]), digest_in_order(digests[[1, 2]])}) == 3
