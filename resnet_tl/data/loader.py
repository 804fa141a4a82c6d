"""Our own iterables of batches, sharded over processes, exact.

They are no DataLoader subclasses, since Lightning gives those a sampler that pads and so counts rows twice.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch.utils.data import DataLoader

from resnet_tl.data.samples import ActivationBatch, Batch, ImageSamples
from resnet_tl.data.threads import one_core_each
from resnet_tl.errors import UserError

AHEAD = 2
"""Batches that threads make ready beyond the one that is asked for."""


class RowTable(Protocol):
    """Something for each row: `table[rows]` for rows (N,) int64 is what the batch of these rows holds."""

    def __getitem__(self, rows: np.ndarray) -> Any: ...


Source: TypeAlias = "Callable[[ImageLoader, int], RowTable | None]"
"""Gives what a loader serves in a view instead of images, if anything."""


class ImageLoader:
    """An iterable of batches for one rank.

    Args:
        samples: makes batches from (rows, view).
        batches: gives the batches of rows of an epoch.
        epoch: gives the current epoch, 0-based.
        size: gives the side in pixels of an epoch's images; default: the preprocessing's in each.
        done: gives how many of the epoch's batches are done already, where a pass begins in the middle of one.
        workers: worker processes; with 0, `threads` of this process make batches ahead of the training step.
        views: how many views each image has: epoch e shows view e mod `views`; None: each epoch has its own.
        source: asked, with this loader and the view, when a pass begins; a table's activations replace the images.
        data: the data module that made it.
    """

    def __init__(
        self,
        samples: ImageSamples,
        batches: Callable[[int], list[np.ndarray]],
        epoch: Callable[[], int] = lambda: 0,
        size: Callable[[int], int] | None = None,
        done: Callable[[], int] = lambda: 0,
        workers: int = 0,
        threads: int = 2,
        views: int | None = None,
        source: Source | None = None,
        data: Any = None,
    ) -> None:
        if samples.transform and not workers:
            raise ValueError("A transform needs a worker process.")
        self.samples = samples
        self.batches = batches
        self.epoch = epoch
        self.size = size or (lambda epoch: samples.preprocessing.size)
        self.done = done
        self.threads = threads
        self.views = views
        self.source = source
        self.data = data
        self.requests: list[tuple[np.ndarray, int, int]] = []  # what the processes are asked for in the present pass
        self.processes: DataLoader[Batch | UserError] | None = None
        if workers:
            self.processes = DataLoader(
                samples,
                sampler=self.requests,
                batch_size=None,
                num_workers=workers,
                persistent_workers=True,
                pin_memory=torch.cuda.is_available(),
                worker_init_fn=_ignore_ctrl_c,
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
        """The images of any batches of rows, in their order, whatever tables there are; as large as the epoch's."""
        size = self.size(self.epoch())
        if self.processes is None:
            return self._from_threads(batches, view, size)
        return self._from_processes(self.processes, batches, view, size)

    def close(self) -> None:
        """Ends the worker processes, for which torch (2.14) has no public call; the garbage collector takes seconds."""
        if self.processes is not None and self.processes._iterator is not None:
            self.processes._iterator._shutdown_workers()  # type: ignore[attr-defined]
            self.processes._iterator = None

    def _rows_of(self, table: RowTable, batches: Sequence[np.ndarray]) -> Iterator[Batch]:
        for rows in batches:
            kept: Any = ActivationBatch(activation=table[rows.astype(np.int64)], **self.samples.describe(rows))
            yield kept

    def _from_processes(
        self, processes: DataLoader, batches: Sequence[np.ndarray], view: int, size: int
    ) -> Iterator[Batch]:
        self.requests[:] = [(rows, view, size) for rows in batches]
        with torch.device("cpu"):  # DataLoader draws a number there, and the processes inherit it
            made = iter(processes)
        for batch in made:
            if isinstance(batch, UserError):
                raise batch
            yield batch

    def _from_threads(self, batches: Sequence[np.ndarray], view: int, size: int) -> Iterator[Batch]:
        """Each thread writes its share of every batch, so that the first batch is there as soon as can be."""
        ahead: deque[tuple[np.ndarray, torch.Tensor, list[Future[None]]]] = deque()
        coming = iter(batches)
        with ThreadPoolExecutor(self.threads, initializer=one_core_each()) as pool:

            def submit() -> None:
                if (rows := next(coming, None)) is not None:
                    images = self.samples.empty(len(rows), size)
                    shares = np.array_split(np.arange(len(rows)), self.threads)
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


def _ignore_ctrl_c(worker: int) -> None:
    """It reaches every process of a terminal or notebook; this one ends with the one that it works for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
