"""Our own iterables of batches: which (row, view) comes next, sharded over processes, exact.

They are no DataLoader subclasses, since Lightning gives those a sampler that pads and so counts rows twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypedDict

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from resnet_tl.data.augmentation import Augmentation
from resnet_tl.data.decode import BadImage, decode
from resnet_tl.data.index import ImageIndex
from resnet_tl.data.pixel_cache import PixelCache
from resnet_tl.data.preprocessing import Preprocessing


class Batch(TypedDict):
    """`image` (N, C, H, W) uint8; `label` (N,) int64, -1 where unknown; `row` (N,) int64, the rows of the index."""

    image: torch.Tensor
    label: torch.Tensor
    row: torch.Tensor


def epoch_order(rows: np.ndarray, seed: int, epoch: int, balanced_by: np.ndarray | None = None) -> np.ndarray:
    """The order of an epoch, a function of (seed, epoch) alone.

    Args:
        rows: the training rows.
        seed: the run's seed.
        epoch: counts from 0.
        balanced_by: the label of each of `rows`; when given, as many rows are drawn, with replacement, so that
            every class is equally likely.
    """
    generator = np.random.default_rng([seed, epoch])
    if balanced_by is None:
        return generator.permutation(rows)
    _, inverse, counts = np.unique(balanced_by, return_inverse=True, return_counts=True)
    weights = 1.0 / counts[inverse]
    return generator.choice(rows, size=len(rows), p=weights / weights.sum())


def training_batches(order: np.ndarray, batch_size: int, rank: int = 0, world: int = 1) -> list[np.ndarray]:
    """This rank's share of each step; every rank makes the same number of steps and no row comes twice.

    A last step with a single image for some rank is left out, unless that is the batch size: BatchNorm cannot train
    on one.
    """
    step = batch_size * world
    chunks = [order[start : start + step] for start in range(0, len(order), step)]
    if len(chunks) > 1 and len(chunks[-1]) < min(2, batch_size) * world:
        chunks.pop()
    return [chunk[rank::world] for chunk in chunks]


def evaluation_batches(rows: np.ndarray, batch_size: int, rank: int = 0, world: int = 1) -> list[np.ndarray]:
    """This rank's `rows[rank::world]`, unpadded, in as many batches on every rank.

    Equal counts keep the collective operations of all ranks in step; a rank with too few rows ends on empty batches.
    """
    longest = -(-len(rows) // world)
    return np.array_split(rows[rank::world], -(-longest // batch_size)) if longest else []


class ImageSamples(Dataset["Batch | BadImage"]):
    """The samples of an index by (row, view): decoded, resized, then augmented or centre-cropped.

    Args:
        index: gives the files and labels.
        preprocessing: from decoded pixels to the network's input.
        augmentation: of training views; without it a view is the centre crop.
        cache: keeps stored images in memory for the next epoch.
    """

    def __init__(
        self,
        index: ImageIndex,
        preprocessing: Preprocessing,
        augmentation: Augmentation | None = None,
        cache: PixelCache | None = None,
    ) -> None:
        self.index = index
        self.labels = index.labels
        self.preprocessing = preprocessing
        self.augmentation = augmentation
        self.cache = cache

    def stored(self, row: int) -> torch.Tensor:
        """The stored image (C, h, w) uint8 of a row; safe to call from threads."""
        return self.cache(row, self._decoded) if self.cache else self._decoded(row)

    def _decoded(self, row: int) -> torch.Tensor:
        return self.preprocessing.store(decode(self.index.path(row), self.preprocessing.channels))

    def view(self, stored: torch.Tensor, row: int, view: int) -> torch.Tensor:
        """The network's input (C, size, size) uint8. Not for threads: augmentation seeds a global generator."""
        return self.augmentation(stored, view, row) if self.augmentation else self.preprocessing.centre(stored)

    def batch(self, images: list[torch.Tensor], rows: np.ndarray) -> Batch:
        size, channels = self.preprocessing.size, self.preprocessing.channels
        empty = torch.empty((0, channels, size, size), dtype=torch.uint8)
        return {
            "image": torch.stack(images) if images else empty,
            "label": torch.from_numpy(self.labels[rows]),
            "row": torch.from_numpy(rows.astype(np.int64)),
        }

    def __getitem__(self, key: tuple[np.ndarray, int]) -> Batch | BadImage:
        """A whole batch, so that a worker process makes one per request.

        An error is returned, for DataLoader would raise it with a stack trace instead of its own sentence.
        """
        rows, view = key
        try:
            return self.batch([self.view(self.stored(int(row)), int(row), view) for row in rows], rows)
        except BadImage as error:
            return error


class ImageLoader:
    """An iterable of batches for one rank.

    Args:
        samples: makes an image from (row, view).
        batches: gives the batches of rows of an epoch.
        epoch: tells the current epoch, 0-based; also the view of every sample.
        workers: worker processes; with 0, threads of this process decode ahead of the training step.
        threads: threads that decode when there are no worker processes.
    """

    def __init__(
        self,
        samples: ImageSamples,
        batches: Callable[[int], list[np.ndarray]],
        epoch: Callable[[], int] = lambda: 0,
        workers: int = 0,
        threads: int = 2,
    ) -> None:
        self.samples = samples
        self.requests = _Requests(batches, epoch)
        self.threads = threads
        self.processes: DataLoader[Batch | BadImage] | None = None
        if workers:
            self.processes = DataLoader(
                samples,
                sampler=self.requests,
                batch_size=None,
                num_workers=workers,
                persistent_workers=True,
                pin_memory=torch.cuda.is_available(),
                generator=torch.Generator(),  # else each pass would draw a seed from the global generator
            )

    def __len__(self) -> int:
        return len(self.requests)

    def __iter__(self) -> Iterator[Batch]:
        return self._ask_processes(self.processes) if self.processes else self._decode_in_threads()

    def close(self) -> None:
        """Ends the worker processes; left to the garbage collector, each would take seconds to end."""
        if self.processes:
            self.processes._iterator = None

    def _ask_processes(self, processes: DataLoader[Batch | BadImage]) -> Iterator[Batch]:
        for batch in processes:
            if isinstance(batch, BadImage):
                raise batch
            yield batch

    def _decode_in_threads(self) -> Iterator[Batch]:
        ahead: deque = deque()
        requests = iter(self.requests)
        with ThreadPoolExecutor(self.threads) as pool:

            def submit() -> None:
                if request := next(requests, None):
                    ahead.append((request, [pool.submit(self.samples.stored, int(row)) for row in request[0]]))

            try:
                submit()
                while ahead:
                    submit()
                    (rows, view), decoded = ahead.popleft()
                    images = [
                        self.samples.view(image.result(), int(row), view)
                        for row, image in zip(rows, decoded, strict=True)
                    ]
                    yield self.samples.batch(images, rows)
            finally:
                pool.shutdown(cancel_futures=True)


class _Requests(Sampler):
    """What threads or worker processes are asked for; drawn in the main process, which knows the epoch.

    It does not hold the loader: in a cycle of references worker processes would end by a timeout of seconds each.
    """

    def __init__(self, batches: Callable[[int], list[np.ndarray]], epoch: Callable[[], int]) -> None:
        self.batches = batches
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[np.ndarray, int]]:
        epoch = self.epoch()
        return iter([(rows, epoch) for rows in self.batches(epoch)])

    def __len__(self) -> int:
        return len(self.batches(self.epoch()))
