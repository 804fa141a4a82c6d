"""What is remembered is what would have been made, and no more than fits."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from resnet_tl.data.augmentation import Augmentation
from resnet_tl.data.layouts import read_images
from resnet_tl.data.loader import ImageLoader, ImageSamples, epoch_order, training_batches
from resnet_tl.data.pixel_cache import PixelCache
from resnet_tl.data.preprocessing import Preprocessing


class Counting:
    """Images of 48 bytes, and how often each was made."""

    def __init__(self) -> None:
        self.made: Counter[int] = Counter()

    def __call__(self, row: int) -> torch.Tensor:
        self.made[row] += 1
        return torch.full((3, 4, 4), row, dtype=torch.uint8)


def test_an_image_is_made_once() -> None:
    make = Counting()
    cache = PixelCache()
    for _ in range(3):
        assert [int(cache(row, make)[0, 0, 0]) for row in range(5)] == list(range(5))
    assert set(make.made.values()) == {1}


def test_what_does_not_fit_is_made_anew_and_the_rest_is_kept() -> None:
    make = Counting()
    cache = PixelCache(capacity=3 * 48 + 47)
    for _ in range(4):
        assert [int(cache(row, make)[0, 0, 0]) for row in range(5)] == list(range(5))
    assert [make.made[row] for row in range(5)] == [1, 1, 1, 4, 4]
    assert len(cache.images) == 3


def test_threads_share_it() -> None:
    cache, make = PixelCache(capacity=20 * 48), Counting()
    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(lambda row: cache(row, make), list(range(40)) * 20))
    assert [int(image[0, 0, 0]) for image in seen] == list(range(40)) * 20
    assert len(cache.images) <= 20


def test_batches_are_the_same_with_and_without_it(blobs: Path) -> None:
    index, preprocessing = read_images(blobs), Preprocessing(24, 28, 24)
    rows, now = index.rows("train"), 0

    def passes(cache: PixelCache | None) -> list[torch.Tensor]:
        nonlocal now
        samples = ImageSamples(index, preprocessing, Augmentation("standard", preprocessing, 0), cache)
        batches = lambda epoch: training_batches(epoch_order(rows, 0, epoch), 5)  # noqa: E731
        loader = ImageLoader(samples, batches, lambda: now)
        images = []
        for now in range(3):  # noqa: B007 -- the loader asks for it
            images += [batch["image"] for batch in loader]
        return images

    cache = PixelCache()
    for kept, fresh in zip(passes(cache), passes(None), strict=True):
        assert torch.equal(kept, fresh)
    assert sorted(cache.images) == rows.tolist()
