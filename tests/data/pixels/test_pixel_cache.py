"""What is kept is what would have been made, for all processes and later runs, and no more than there is room for."""

from __future__ import annotations

import multiprocessing
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from resnet_tl import cache
from resnet_tl.data.content_hashes import digest_of
from resnet_tl.data.index import ImageIndex
from resnet_tl.data.loader import ImageLoader
from resnet_tl.data.order import epoch_order, training_batches
from resnet_tl.data.pixels.augmentation import Augmentation
from resnet_tl.data.pixels.decode import decode
from resnet_tl.data.pixels.pixel_cache import PixelCache, keep_pixels, stored_bytes
from resnet_tl.data.pixels.preprocessing import MAX_ASPECT, Preprocessing
from resnet_tl.data.quality import audit as audit_module
from resnet_tl.data.quality.audit import audit_images
from resnet_tl.data.reading.layouts import read_images
from resnet_tl.data.samples import Batch, ImageSamples

PLANNED = Preprocessing(24, 28, 24)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNET_TL_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def index(blobs: Path) -> ImageIndex:
    return read_images(blobs)


def contents_of(index: ImageIndex) -> np.ndarray:
    digests = [digest_of(index.path(row).read_bytes()) for row in range(len(index))]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)


def sizes_of(index: ImageIndex) -> np.ndarray:
    return np.full((len(index), 2), 32, np.int32)


def kept(index: ImageIndex, planned: Preprocessing = PLANNED) -> PixelCache:
    contents = contents_of(index)
    folder = keep_pixels(index, contents, planned, sizes_of(index), contents)
    assert folder is not None
    return PixelCache(folder, contents, planned.channels)


def refuse(row: int) -> torch.Tensor:
    raise AssertionError(f"row {row} was decoded")


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("rule", ["short_side", "squash"])
def test_an_image_is_kept_as_it_was_made(index: ImageIndex, channels: int, rule: str) -> None:
    planned = replace(PLANNED, channels=channels, resize_rule=rule)
    pixels = kept(index, planned)
    for row in range(len(index)):
        made = planned.store(decode(index.path(row), channels))
        image = pixels(row, refuse)
        assert torch.equal(image, made)
        assert image.stride()[:0:-1] == made.stride()[:0:-1]  # channels last


def test_it_is_made_once_with_the_audit(index: ImageIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = contents_of(index)
    first = keep_pixels(index, contents, PLANNED, sizes_of(index), contents)
    monkeypatch.setattr(audit_module, "decode_all", refuse)
    assert (audit_images(index, contents).sizes == 32).all()
    assert keep_pixels(index, contents, PLANNED, sizes_of(index), contents) == first
    assert sorted(entry.kind for entry in cache.entries()) == ["audits", "pixels"]


def test_order_names_and_places_change_nothing(index: ImageIndex, blobs: Path, tmp_path: Path) -> None:
    first = kept(index)
    assert kept(read_images(shutil.copytree(blobs, tmp_path / "moved"))).file == first.file
    backwards = np.arange(len(index))[::-1]
    turned = PixelCache(first.file.parent, contents_of(index)[backwards], 3)
    for row in backwards:
        assert torch.equal(turned(len(index) - 1 - row, refuse), first(row, refuse))


@pytest.mark.parametrize(
    "change", [{"storage_size": 20}, {"resize_rule": "squash"}, {"interpolation": "bicubic"}, {"channels": 1}]
)
def test_what_shapes_a_stored_image_has_a_cache_of_its_own(index: ImageIndex, change: dict) -> None:
    assert kept(index, replace(PLANNED, **change)).file != kept(index).file


def test_what_comes_after_storing_shares_one(index: ImageIndex) -> None:
    other = replace(PLANNED, size=16, crop_size=20, mean=(0.5, 0.5, 0.5))
    assert kept(index, other).file == kept(index).file


def test_an_image_that_is_not_kept_is_made(index: ImageIndex, blobs: Path, tmp_path: Path) -> None:
    root = shutil.copytree(blobs, tmp_path / "damaged")
    (root / "train" / "red" / "0.png").write_bytes(b"")
    damaged = read_images(root)
    row = damaged.ids().index("train/red/0.png")
    pixels = kept(damaged)
    made = torch.zeros(3, 28, 28, dtype=torch.uint8)
    assert pixels(row, lambda row: made) is made
    assert pixels(row - 1, refuse).shape == (3, 28, 28)


def test_the_same_photo_is_written_once(blobs: Path, tmp_path: Path) -> None:
    for name in ("red", "red again"):
        shutil.copytree(blobs / "train" / "red", tmp_path / "twice" / name)
    pixels = kept(read_images(tmp_path / "twice"))
    assert pixels.file.stat().st_size == 8 * 28 * 28 * 3
    assert torch.equal(pixels(0, refuse), pixels(8, refuse))


def test_an_index_without_its_bad_files_finds_what_was_kept_with_them(blobs: Path, tmp_path: Path) -> None:
    root = shutil.copytree(blobs, tmp_path / "damaged")
    (root / "train" / "blue" / "0.png").write_bytes(b"")
    damaged = read_images(root)
    contents = contents_of(damaged)
    folder = keep_pixels(damaged, contents, PLANNED, sizes_of(damaged), contents)
    assert folder is not None
    (row,) = audit_images(damaged, contents).bad
    sound = damaged.without([row])
    without = np.delete(contents, row, axis=0)
    assert keep_pixels(sound, without, PLANNED, sizes_of(sound), contents) == folder
    pixels = PixelCache(folder, without, 3)
    for row in range(len(sound)):
        assert torch.equal(pixels(row, refuse), PLANNED.store(decode(sound.path(row))))


def test_what_it_takes_is_known_before() -> None:
    sizes = np.array([[40, 30], [30, 41], [3, 3000], [0, 0], [28, 28]])
    images = 28 * (38 + 39 + 28 * MAX_ASPECT + 28) * 3
    assert images <= stored_bytes(sizes, PLANNED) <= images + 2048
    squashed = 4 * 28 * 28 * 3
    assert squashed <= stored_bytes(sizes, replace(PLANNED, resize_rule="squash")) <= squashed + 2048


def test_a_real_cache_takes_no_more_than_was_said(shared_data: Path) -> None:
    index = read_images(shared_data / "hymenoptera" / "val")
    contents = contents_of(index)
    folder = keep_pixels(index, contents, PLANNED, np.zeros((len(index), 2), np.int32), contents)
    audit = audit_images(index, contents)
    assert folder is not None
    size = sum(file.stat().st_size for file in folder.iterdir())
    assert 0.9 * stored_bytes(audit.sizes, PLANNED) < size < stored_bytes(audit.sizes, PLANNED)


def test_without_room_nothing_is_kept_nor_decoded(index: ImageIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = contents_of(index)
    monkeypatch.setenv("RESNET_TL_CACHE_LIMIT", str(stored_bytes(sizes_of(index), PLANNED) / 2**30 * 0.99))
    assert keep_pixels(index, contents, PLANNED, sizes_of(index), contents) is None
    assert cache.entries() == []


def batches_of(index: ImageIndex, pixels: PixelCache | None, context: str = "", **options) -> list[Batch]:
    rows, now = index.rows("train"), 0
    samples = ImageSamples(index, PLANNED, Augmentation("standard", PLANNED, 0), pixels)
    batches = lambda epoch: training_batches(epoch_order(rows, 0, epoch), 5)  # noqa: E731
    loader = ImageLoader(samples, batches, lambda: now, **options)
    if context:
        assert loader.processes is not None
        loader.processes.multiprocessing_context = multiprocessing.get_context(context)
    found: list[Batch] = []
    for now in range(2):  # noqa: B007 -- the loader asks for it
        found += list(loader)
    loader.close()
    return found


@pytest.mark.parametrize(
    ("context", "options"),
    [
        ("", {}),
        ("", {"threads": 5}),
        ("fork", {"workers": 2}),
        pytest.param("spawn", {"workers": 1}, marks=[pytest.mark.slow]),
    ],
)
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_batches_are_the_same_with_and_without_it(index: ImageIndex, context: str, options: dict) -> None:
    pixels = kept(index)
    for one, other in zip(batches_of(index, pixels, context, **options), batches_of(index, None), strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)  # type: ignore[literal-required]


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_the_same_when_it_is_removed_meanwhile(index: ImageIndex, workers: int) -> None:
    expected = batches_of(index, None)
    pixels = kept(index)
    shutil.rmtree(pixels.file.parent)
    for one, other in zip(batches_of(index, pixels, workers=workers), expected, strict=True):
        assert torch.equal(one["image"], other["image"])


def test_worker_processes_are_sent_the_path_and_not_the_pixels(index: ImageIndex) -> None:
    pixels = kept(index)
    state = pixels.__getstate__()
    assert set(state) == {"file", "channels", "places"}
    assert not any(isinstance(value, torch.Tensor) for value in state.values())
    sent = PixelCache.__new__(PixelCache)
    sent.__dict__.update(state)
    assert torch.equal(sent(5, refuse), pixels(5, refuse))
    shutil.rmtree(pixels.file.parent)
    late = PixelCache.__new__(PixelCache)
    late.__dict__.update(state)
    made = torch.zeros(3, 28, 28, dtype=torch.uint8)
    assert late(5, lambda row: made) is made


def test_augmentation_writes_nothing_into_it(index: ImageIndex) -> None:
    pixels = kept(index)
    before = pixels.file.read_bytes()
    for policy in ("none", "light", "standard", "trivial_augment", "shift"):
        augmentation = Augmentation(policy, PLANNED, 0, random_erasing=1.0, symmetry="dihedral")
        samples = ImageSamples(index, PLANNED, augmentation, pixels)
        samples.batch(index.rows("train"), 0)
    assert pixels.file.read_bytes() == before
