"""From images to what networks are shown, one at a time or in threads ahead of the network."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from resnet_tl.data.pixels.decode import BadImage
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.data.threads import one_core_each, usable_cores
from resnet_tl.inference.given_images import Checked, stored_image
from resnet_tl.inference.tta import Tta, crops

AHEAD = 2
"""Batches that threads prepare beyond the one that is judged."""


class Prepared(NamedTuple):
    """One image as `Predictor.judge` takes it."""

    seen: tuple[torch.Tensor, ...]  # by each group of models: (1, C, size, size) uint8, or its crops instead of the 1
    has_unknown_range: bool  # more than 8 bits, but the model was trained on images of 8


def prepare(image: Checked, groups: Collection[Preprocessing], tta: Tta | None = None) -> Prepared:
    """An image, decoded, resized and cropped for each preprocessing; safe to call from threads, BadImage if it is."""
    seen, is_unknown = [], False
    for planned in groups:
        stored, is_unknown_here = stored_image(image, planned)
        is_unknown |= is_unknown_here
        parts = crops(planned, stored) if tta == "crops" else [planned.centre(stored)]
        seen.append(_stacked(parts))  # a copy: what waits in a queue keeps no more of a long image than is seen
    return Prepared(tuple(seen), is_unknown)


def batches_of(prepared: Sequence[Prepared], tta: Tta | None = None) -> list[torch.Tensor]:
    """The batch (N, C, size, size) uint8 that each group is shown, or for crops (N, crops, C, size, size)."""
    batches = [_stacked(images) for images in zip(*(one.seen for one in prepared), strict=True)]
    return batches if tta == "crops" else [batch[:, 0] for batch in batches]


def in_batches(
    images: Sequence[Checked], prepare: Callable[[Checked], Prepared], batch_size: int, bad: dict[int, str] | None
) -> Iterator[tuple[list[int], list[Prepared]]]:
    """Places of images and what `prepare` makes of them, so many at a time and in their order.

    Images in `bad` are left out, and those that turn out to be bad are added to it; without it BadImage is raised.
    Threads share each batch out among them, so that the first one is there as soon as can be.
    """

    def work(places: Sequence[int]) -> tuple[list[int], list[Prepared]]:
        good, made = [], []
        for place in places:
            if bad is not None and place in bad:
                continue
            try:
                made.append(prepare(images[place]))
                good.append(place)
            except BadImage as error:
                if bad is None:
                    raise
                bad[place] = error.reason
        return good, made

    if len(images) == 1:  # to start threads takes longer than to decode a small image
        yield work([0])
        return
    threads = min(8, usable_cores())
    coming = iter(range(0, len(images), batch_size))
    waiting: deque[list[Future[tuple[list[int], list[Prepared]]]]] = deque()
    with ThreadPoolExecutor(threads, initializer=one_core_each()) as pool:

        def submit() -> None:
            if (start := next(coming, None)) is not None:
                shares = np.array_split(np.arange(start, min(start + batch_size, len(images))), threads)
                waiting.append([pool.submit(work, share.tolist()) for share in shares if len(share)])

        try:
            for _ in range(AHEAD):
                submit()
            while waiting:
                submit()
                found = [part.result() for part in waiting.popleft()]
                yield [place for good, _ in found for place in good], [one for _, made in found for one in made]
        finally:
            pool.shutdown(cancel_futures=True)


def _stacked(images: Sequence[torch.Tensor]) -> torch.Tensor:
    """Images (..., C, H, W) as one tensor, in memory with the channels last."""
    return torch.stack([image.movedim(-3, -1) for image in images]).movedim(-1, -3)
