from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

from resnet_tl.data.index import ImageIndex
from resnet_tl.data.loader import ImageLoader
from resnet_tl.data.order import epoch_order, evaluation_batches, training_batches
from resnet_tl.data.pixels.augmentation import Augmentation
from resnet_tl.data.pixels.decode import BadImage, decode
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.data.reading.layouts import read_images
from resnet_tl.data.samples import Batch, ImageSamples

PREPROCESSING = Preprocessing(size=24, storage_size=28, crop_size=24)


@pytest.fixture(scope="module")
def index(blobs: Path) -> ImageIndex:
    return read_images(blobs)


@pytest.fixture
def make(index: ImageIndex) -> Callable[..., ImageLoader]:
    """A training loader of the 24 training pictures in batches of 5."""
    rows = index.rows("train")

    def make(epoch: int = 0, seed: int = 0, policy: str | None = "standard", **options) -> ImageLoader:
        samples = ImageSamples(index, PREPROCESSING, Augmentation(policy, PREPROCESSING, seed) if policy else None)
        return ImageLoader(
            samples,
            lambda epoch: training_batches(epoch_order(rows, seed, epoch), 5),
            lambda: epoch,
            **options,
        )

    return make


def same(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(one[key], other[key])  # type: ignore[literal-required]
        for one, other in zip(first, second, strict=True)
        for key in ("image", "label", "row")
    )


def test_a_rank_without_rows_gets_empty_batches(index: ImageIndex) -> None:
    batches = evaluation_batches(index.rows("test")[:2], 4, rank=2, world=3)
    assert [len(rows) for rows in batches] == [0]
    for workers in (0, 1):
        loader = ImageLoader(ImageSamples(index, PREPROCESSING), lambda epoch: batches, workers=workers)
        (batch,) = list(loader)
        assert (batch["image"].shape, batch["image"].dtype) == ((0, 3, 24, 24), torch.uint8)
        assert (batch["label"].shape, batch["row"].shape) == ((0,), (0,))
        assert batch["label"].dtype == batch["row"].dtype == torch.int64


# From rows to tensors


def test_a_batch_carries_the_pixels_label_and_row_of_each_image(index: ImageIndex, make) -> None:
    batches = list(make(policy=None))
    assert [len(batch["row"]) for batch in batches] == [5, 5, 5, 5, 4]
    for batch in batches:
        assert batch["image"].dtype == torch.uint8
        assert batch["label"].dtype == batch["row"].dtype == torch.int64
        for image, label, row in zip(batch["image"], batch["label"], batch["row"], strict=True):
            assert torch.equal(image, PREPROCESSING.centre(PREPROCESSING.store(decode(index.path(int(row))))))
            assert index.path(int(row)).parent.name == index.classes[int(label)]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("policy", ["standard", "trivial_augment"])
def test_the_tensors_are_the_same_for_any_number_of_workers_and_threads(make, policy: str) -> None:
    expected = list(make(1, policy=policy, threads=1))
    assert len(expected) == 5
    for options in ({"threads": 4}, {"workers": 1}, {"workers": 3}):
        assert same(list(make(1, policy=policy, **options)), expected), options


def test_worker_processes_make_the_batches_and_are_gone_at_the_end(make) -> None:
    loader = make(policy=None, workers=2)
    loader.samples.stored = lambda row: torch.full((3, 28, 28), os.getpid() % 256, dtype=torch.uint8)
    seen = {int(batch["image"].max()) for _ in range(2) for batch in loader}  # the second pass asks the same ones
    children = {child.pid % 256 for child in multiprocessing.active_children()}
    assert len(seen) == 2
    assert seen <= children
    assert os.getpid() % 256 not in seen
    loader.close()
    assert not seen & {child.pid % 256 for child in multiprocessing.active_children()}


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("policy", [None, "standard", "trivial_augment", "shift"])
def test_batches_come_out_on_the_cpu_whatever_the_default_device(make, workers: int, policy: str | None) -> None:
    """Lightning builds models, and may ask for data, under the device that trains."""
    expected = list(make(policy=policy, threads=1))
    with torch.device("meta"):
        found = list(make(policy=policy, workers=workers))
        here = make(policy=policy).samples.batch(expected[0]["row"].numpy(), 0)
    assert same(found, expected)
    assert same([here], expected[:1])


@pytest.mark.slow
def test_worker_processes_that_are_started_afresh_give_the_same_tensors(make) -> None:
    """As on macOS and Windows, where nothing is inherited and the samples are sent."""
    loader = make(workers=1)
    loader.processes.multiprocessing_context = multiprocessing.get_context("spawn")
    assert same(list(loader), list(make()))


def test_an_image_is_the_same_whenever_and_with_whomever_it_is_asked_for(make) -> None:
    loader = make(epoch=2)
    by_row = {int(row): image for batch in loader for row, image in zip(batch["row"], batch["image"], strict=True)}
    assert len(by_row) == 24
    backwards = np.array(sorted(by_row, reverse=True))
    for rows in (backwards, backwards[3:4], backwards[::7]):
        batch = loader.samples[rows, 2]
        assert all(torch.equal(image, by_row[int(row)]) for row, image in zip(rows, batch["image"], strict=True))


def test_another_epoch_and_another_seed_give_other_views(make) -> None:
    def views(epoch: int, seed: int) -> dict[int, bytes]:
        loader = make(epoch, seed)
        return {
            int(row): image.numpy().tobytes()
            for batch in loader
            for row, image in zip(batch["row"], batch["image"], strict=True)
        }

    first = views(0, 0)
    assert views(0, 0) == first
    for other in (views(1, 0), views(0, 1)):
        assert other.keys() == first.keys()
        assert sum(other[row] != first[row] for row in first) >= 22


@pytest.mark.parametrize("workers", [0, 2])
def test_each_pass_takes_the_epoch_of_its_start(index: ImageIndex, workers: int) -> None:
    rows, now = index.rows("train"), 0
    samples = ImageSamples(index, PREPROCESSING, Augmentation("light", PREPROCESSING, 0))
    loader = ImageLoader(
        samples, lambda epoch: training_batches(epoch_order(rows, 0, epoch), 8), lambda: now, workers=workers
    )
    passes = []
    for now in (0, 1, 0):  # noqa: B007 -- the loader asks for it
        passes.append(list(loader))
    assert not same(passes[0], passes[1])
    assert same(passes[0], passes[2])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_pass_that_was_broken_off_leaves_no_trace(make, workers: int) -> None:
    loader = make(workers=workers)
    first = next(iter(loader))
    assert same([first], list(loader)[:1])
    assert same(list(loader), list(make()))


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_leaves_the_global_generator_as_it_was(make, workers: int) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    loader = make(workers=workers)
    for _ in loader:
        assert torch.equal(torch.get_rng_state(), before)
    assert len(list(loader)) == 5
    assert torch.equal(torch.get_rng_state(), before)


def test_what_the_training_step_draws_changes_no_image(make) -> None:
    expected = list(make())
    disturbed = []
    for batch in make():
        torch.manual_seed(int(torch.randint(1000, ())))
        disturbed.append(batch)
    assert same(disturbed, expected)


def test_the_length_is_the_number_of_batches(make) -> None:
    for loader in (make(), make(workers=1)):
        assert len(loader) == 5


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_vanishes_during_training_is_named_in_one_sentence(
    tmp_path: Path, blobs: Path, workers: int
) -> None:
    for name in ("blue", "red"):
        (tmp_path / name).mkdir()
        for file in sorted((blobs / "train" / name).iterdir()):
            (tmp_path / name / file.name).write_bytes(file.read_bytes())
    index = read_images(tmp_path)
    (tmp_path / "red" / "1.png").unlink()
    rows = np.arange(len(index))
    loader = ImageLoader(ImageSamples(index, PREPROCESSING), lambda epoch: evaluation_batches(rows, 4), workers=workers)
    with pytest.raises(BadImage) as caught:
        list(loader)
    assert str(caught.value) == f"{tmp_path / 'red' / '1.png'} cannot be read: No such file or directory."


def test_the_loader_decodes_two_batches_ahead_and_no_more(index: ImageIndex, make) -> None:
    loader = make(policy=None, threads=1)
    decoded: Counter[int] = Counter()
    stored = loader.samples.stored

    def counting(row: int) -> torch.Tensor:
        decoded[row] += 1
        return stored(row)

    loader.samples.stored = counting
    batches = iter(loader)
    next(batches)
    deadline = time.monotonic() + 10
    while sum(decoded.values()) < 15 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    batches.close()
    assert sum(decoded.values()) == 15
    assert set(decoded.values()) == {1}


def test_batches_are_channels_last(make) -> None:
    for options in ({}, {"policy": None}, {"workers": 1}):
        for batch in make(**options):
            assert batch["image"].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("workers", [0, 1])
def test_colours_come_with_the_policy_that_changes_them(make, workers: int) -> None:
    for batch in make(policy="standard", workers=workers):
        assert batch["colour"].shape == (len(batch["row"]), 3)
        assert torch.equal(batch["colour"], make(policy="standard").samples.batch(batch["row"].numpy(), 0)["colour"])
    assert all("colour" not in batch for batch in make(policy="light", workers=workers))


def test_loading_threads_leave_torchs_threads_to_the_training_step(make) -> None:
    before, seen = torch.get_num_threads(), set()
    torch.set_num_threads(2)
    try:
        loader = make(threads=2)
        write = loader.samples.write

        def watching(*arguments) -> None:
            seen.add(torch.get_num_threads())
            write(*arguments)

        loader.samples.write = watching
        list(loader)
        assert (torch.get_num_threads(), seen) == (2, {1})
    finally:
        torch.set_num_threads(before)


# Views and activations


def by_row(batches: Iterable[Batch]) -> dict[int, bytes]:
    return {
        int(row): image.numpy().tobytes()
        for batch in batches
        for row, image in zip(batch["row"], batch["image"], strict=True)
    }


@pytest.mark.parametrize("workers", [0, 1])
def test_with_two_views_the_third_epoch_shows_the_first_ones_in_an_order_of_its_own(make, workers: int) -> None:
    first, second, third = (list(make(epoch, views=2, workers=workers)) for epoch in range(3))
    assert by_row(first) == by_row(third) == by_row(make(0))
    assert by_row(second) == by_row(make(1))
    assert by_row(first) != by_row(second)
    assert not same(first, third)
    assert by_row(make(7, views=1)) == by_row(first)


class Table:
    """A number for each row, and which rows it was asked for."""

    def __init__(self) -> None:
        self.asked: list[np.ndarray] = []

    def __getitem__(self, rows: np.ndarray) -> torch.Tensor:
        self.asked.append(rows)
        return torch.from_numpy(rows).float().mul(10)


@pytest.mark.parametrize("workers", [0, 1])
def test_with_a_table_of_activations_no_image_is_read(make, workers: int) -> None:
    table, asked = Table(), []

    def activations(loader: ImageLoader, view: int) -> Table:
        asked.append((loader, view))
        return table

    loader = make(epoch=5, views=3, source=activations, workers=workers)
    loader.samples.write = None
    batches = list(loader)
    assert asked == [(loader, 2)]
    for batch, with_images in zip(batches, make(epoch=5), strict=True):
        assert set(batch) == {"activation", "label", "row"}
        assert torch.equal(batch["row"], with_images["row"])
        assert torch.equal(batch["label"], with_images["label"])
        assert torch.equal(batch["activation"], batch["row"] * 10.0)
    assert all(rows.dtype == np.int64 for rows in table.asked)


@pytest.mark.parametrize("workers", [0, 1])
def test_activations_may_be_computed_from_the_loaders_own_images(make, workers: int) -> None:
    seen: list[Batch] = []

    def activations(loader: ImageLoader, view: int) -> Table | None:
        seen.extend(loader.over([np.arange(4), np.arange(4, 6)], view))
        return None

    batches = list(make(epoch=1, source=activations, workers=workers))
    assert [batch["row"].tolist() for batch in seen] == [[0, 1, 2, 3], [4, 5]]
    assert same(batches, list(make(epoch=1)))
    whole = make(epoch=1).samples.batch(np.arange(6), 1)
    assert torch.equal(torch.cat([batch["image"] for batch in seen]), whole["image"])
