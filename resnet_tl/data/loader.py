"""Our own iterables of batches, sharded over processes, exact.

They are no DataLoader subclasses, since Lightning gives those a sampler that pads and so counts rows twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any, Protocol, TypedDict

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch.utils.data import DataLoader, Dataset

from resnet_tl.data.content_hashes import digest_of
from resnet_tl.data.index import ImageIndex
from resnet_tl.data.pixels.augmentation import Augmentation, write_centres
from resnet_tl.data.pixels.decode import BadImage, decode, read_file
from resnet_tl.data.pixels.pixel_cache import PixelCache
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.data.pixels.transform import UserTransform
from resnet_tl.errors import UserError

AHEAD = 2
"""Batches that threads make ready beyond the one that is asked for."""


class Batch(TypedDict, total=False):
    """What the network is given, with `label` (N,) int64, -1 where unknown, and `row` (N,) int64, of the index.

    Either `image` (N, C, H, W) uint8, channels last, and with it, where the augmentation changes colours, `colour`
    (N, 3) float32 for `adjust_colour`; or `activation`, what the frozen stages made of the images.
    """

    image: torch.Tensor
    colour: torch.Tensor
    activation: Any
    label: torch.Tensor
    row: torch.Tensor


class RowTable(Protocol):
    """Something for each row: `table[rows]` for rows (N,) int64 is what the batch of these rows holds."""

    def __getitem__(self, rows: np.ndarray) -> Any: ...


class ImageSamples(Dataset["Batch | UserError"]):
    """The samples of an index by (row, view): decoded, resized, then augmented or centre-cropped.

    Args:
        index: gives the files and labels.
        preprocessing: from decoded pixels to the network's input.
        augmentation: of training views; without it a view is the centre crop.
        cache: gives stored images that are kept, so that they are not decoded again.
        contents: the content hashes (N, 32) that the files must still have.
        transform: the user's own, in front of the augmentation.
    """

    def __init__(
        self,
        index: ImageIndex,
        preprocessing: Preprocessing,
        augmentation: Augmentation | None = None,
        cache: PixelCache | None = None,
        contents: np.ndarray | None = None,
        transform: UserTransform | None = None,
    ) -> None:
        self.index = index
        self.labels = index.labels
        self.preprocessing = preprocessing
        self.augmentation = augmentation
        self.cache = cache
        self.contents = contents
        self.transform = transform

    def stored(self, row: int) -> torch.Tensor:
        """The stored image (C, h, w) uint8 of a row; safe to call from threads, and not to be written to."""
        return self.cache(row, self._decoded) if self.cache else self._decoded(row)

    def _decoded(self, row: int) -> torch.Tensor:
        planned, path = self.preprocessing, self.index.path(row)
        content = read_file(path)
        if self.contents is not None and digest_of(content) != self.contents[row].tobytes():
            raise BadImage("has changed since the images were checked: start again when all are in place", path)
        try:
            return planned.store(decode(content, planned.channels, planned.storage_size))
        except BadImage as error:
            raise BadImage(error.reason, path) from None

    def empty(self, number: int) -> torch.Tensor:
        """Room for so many of the network's inputs."""
        size, channels = self.preprocessing.size, self.preprocessing.channels
        return torch.empty((number, size, size, channels), dtype=torch.uint8, device="cpu").permute(0, 3, 1, 2)

    def write(self, rows: np.ndarray, view: int, out: torch.Tensor) -> None:
        """Writes the network's inputs of some rows into `out`, (N, C, size, size) uint8.

        Safe to call from threads, but with a transform, which draws from global generators.
        """
        images = [self.stored(row) for row in rows.tolist()]
        if self.transform:
            images = [self.transform(image, view, row) for image, row in zip(images, rows.tolist(), strict=True)]
        if self.augmentation:
            self.augmentation.write(images, rows, view, out)
        else:
            write_centres(self.preprocessing, images, out)

    def describe(self, rows: np.ndarray) -> Batch:
        """A batch that lacks what the network is given."""
        return {"label": torch.from_numpy(self.labels[rows]), "row": torch.from_numpy(rows.astype(np.int64))}

    def complete(self, images: torch.Tensor, rows: np.ndarray, view: int) -> Batch:
        """The batch of images that were written."""
        batch: Batch = {"image": images, **self.describe(rows)}
        colour = self.augmentation.colour(rows, view) if self.augmentation else None
        if colour is not None:
            batch["colour"] = colour
        return batch

    def batch(self, rows: np.ndarray, view: int) -> Batch:
        """The batch of some rows, made here and now.

        Raises:
            BadImage: a file cannot be read any more.
        """
        images = self.empty(len(rows))
        self.write(rows, view, images)
        return self.complete(images, rows, view)

    def __getitem__(self, key: tuple[np.ndarray, int]) -> Batch | UserError:
        """A whole batch, so that a worker process makes one per request.

        An error is returned, for DataLoader would raise it with a stack trace instead of its own sentence.
        """
        try:
            return self.batch(*key)
        except UserError as error:
            return error


class ImageLoader:
    """An iterable of batches for one rank.

    Args:
        samples: makes batches from (rows, view).
        batches: gives the batches of rows of an epoch.
        epoch: tells the current epoch, 0-based.
        done: tells how many of the epoch's batches are done already, where a pass begins in the middle of one.
        workers: worker processes; with 0, threads of this process make batches ahead of the training step.
        threads: threads that make batches when there are no worker processes.
        views: how many views each image has: epoch e shows view e mod `views`; None: each epoch has its own.
        source: asked, with this loader and the view, when a pass begins; where it gives a table, the batches hold that
            table's activations, and no image is read.
    """

    def __init__(
        self,
        samples: ImageSamples,
        batches: Callable[[int], list[np.ndarray]],
        epoch: Callable[[], int] = lambda: 0,
        done: Callable[[], int] = lambda: 0,
        workers: int = 0,
        threads: int = 2,
        views: int | None = None,
        source: Callable[[ImageLoader, int], RowTable | None] | None = None,
    ) -> None:
        if samples.transform and not workers:
            raise ValueError("A transform needs a worker process.")
        self.samples = samples
        self.batches = batches
        self.epoch = epoch
        self.done = done
        self.threads = threads
        self.views = views
        self.source = source
        self.requests: list[tuple[np.ndarray, int]] = []  # what the processes are asked for in the present pass
        self.processes: DataLoader[Batch | UserError] | None = None
        if workers:
            self.processes = DataLoader(
                samples,
                sampler=self.requests,  # a list: one that held this loader would keep the processes alive
                batch_size=None,
                num_workers=workers,
                persistent_workers=True,
                pin_memory=torch.cuda.is_available(),
                generator=torch.Generator("cpu"),  # else each pass would draw a seed from the global generator
            )

    def __len__(self) -> int:
        return len(self.batches(self.epoch()))

    def __iter__(self) -> Iterator[Batch]:
        epoch = self.epoch()
        view, batches = epoch % self.views if self.views else epoch, self.batches(epoch)[self.done() :]
        # When the first batch is wanted: Lightning makes the iterator of the first epoch before that epoch begins, and
        # what is frozen in it is not known until then.
        table = self.source(self, view) if self.source else None
        yield from self.over(batches, view) if table is None else self._rows_of(table, batches)

    def over(self, batches: Sequence[np.ndarray], view: int) -> Iterator[Batch]:
        """The images of any batches of rows, in their order, whatever tables there are."""
        if self.processes is None:
            return self._from_threads(batches, view)
        return self._from_processes(self.processes, batches, view)

    def close(self) -> None:
        """Ends the worker processes; left to the garbage collector, each would take seconds to end."""
        if self.processes is not None:
            self.processes._iterator = None

    def _rows_of(self, table: RowTable, batches: Sequence[np.ndarray]) -> Iterator[Batch]:
        for rows in batches:
            yield {"activation": table[rows.astype(np.int64)], **self.samples.describe(rows)}

    def _from_processes(self, processes: DataLoader, batches: Sequence[np.ndarray], view: int) -> Iterator[Batch]:
        self.requests[:] = [(rows, view) for rows in batches]
        # No variable holds the iterator: that of an error's traceback would keep the processes alive.
        for batch in _begun(processes):
            if isinstance(batch, UserError):
                raise batch
            yield batch

    def _from_threads(self, batches: Sequence[np.ndarray], view: int) -> Iterator[Batch]:
        """Each thread writes its share of every batch, so that the first batch is there as soon as can be."""
        ahead: deque[tuple[np.ndarray, torch.Tensor, list[Future[None]]]] = deque()
        coming = iter(batches)
        with ThreadPoolExecutor(self.threads, initializer=_one_core_each()) as pool:

            def submit() -> None:
                if (rows := next(coming, None)) is not None:
                    images = self.samples.empty(len(rows))
                    shares = np.array_split(np.arange(len(rows)), min(self.threads, max(1, len(rows))))
                    bounds = [slice(share[0], share[-1] + 1) for share in shares if len(share)]
                    parts = [pool.submit(self.samples.write, rows[part], view, images[part]) for part in bounds]
                    ahead.append((rows, images, parts))

            try:
                for _ in range(AHEAD):
                    submit()
                while ahead:
                    submit()
                    rows, images, parts = ahead.popleft()
                    for part in parts:
                        part.result()
                    yield self.samples.complete(images, rows, view)
            finally:
                pool.shutdown(cancel_futures=True)


def _begun(processes: DataLoader) -> Iterator:
    with torch.device("cpu"):  # DataLoader draws a number there, and the processes inherit it
        return iter(processes)


@cache
def _one_core_each() -> Callable[[], None]:
    """What a loading thread does first: it keeps torch from sharing its small steps out to further threads of its own.

    Those would take the cores of the training step, which waits for its slowest core.
    """
    pools = ThreadpoolController().select(user_api="openmp")

    def begin() -> None:
        torch.get_num_threads()  # torch sets this thread's number once, when it is first asked: not after us
        pools.limit(limits=1)

    return begin
