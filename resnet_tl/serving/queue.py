"""The bounded micro-batch queue: threads decode, one computes, and a batch is what waits when it is free."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from starlette.requests import Request

from resnet_tl.data.pixels.decode import BadImage
from resnet_tl.data.threads import one_core_each
from resnet_tl.serving.engine import Engine
from resnet_tl.serving.metrics import Metrics
from resnet_tl.serving.settings import Refused, Settings
from resnet_tl.serving.uploads import check_pixels

log = logging.getLogger(__name__)
Result = TypeVar("Result")


class Answer(NamedTuple):
    """What a model says of one image."""

    shares: np.ndarray  # (classes,) float64
    familiarity: float  # nan where it is not known


@dataclass(eq=False)
class _Item:
    """One image on its way; it takes a place from `judge` or `run`, which has work of its own, until it leaves."""

    answer: asyncio.Future[Any]
    work: Callable[[Any], Any] | None
    prepared: Any = None
    decoding: Future[None] | None = None
    is_begun: bool = False  # the thread that computes has it
    is_abandoned: bool = False


class BatchQueue:
    """Takes images to the engine in batches, at most `max_waiting` at once.

    Decoding begins at once, in a pool of threads. The one thread that computes takes what has been decoded meanwhile,
    up to `batch_size` images, and waits for no more. What is abandoned, by a client that went away or by the time
    limit, gives its place back as soon as no thread is at work on it.
    """

    def __init__(self, engine: Engine, settings: Settings, metrics: Metrics) -> None:
        self.engine = engine
        self.settings = settings
        self.metrics = metrics
        self.places = settings.max_waiting
        self.is_ending = False  # the server takes no new connections
        self.is_stopping = False
        self._ready: deque[_Item] = deque()
        self._changed = threading.Condition()
        self._decoders = ThreadPoolExecutor(settings.decode_threads, "decode", initializer=one_core_each())
        self._computing = threading.Thread(target=self._compute, name="compute", daemon=True)
        self._loop: asyncio.AbstractEventLoop

    async def start(self, content: bytes) -> None:
        """Begins to compute, with one image file, however long that takes: the first batch is a slow one.

        What the model raises is raised.
        """
        self._loop = asyncio.get_running_loop()
        self._computing.start()
        await self._answers(self._accepted([content]), None)

    def stop(self) -> None:
        """Ends the threads once they have done what they have."""
        with self._changed:
            self.is_stopping = True
            self._changed.notify()
        self._decoders.shutdown(wait=False, cancel_futures=True)

    async def judge(self, contents: Sequence[bytes]) -> list[Answer | BadImage]:
        """What the model says of each image file, in order.

        Raises:
            Refused: there is no place for so many, or the time limit is over.
        """
        return await self._answers(self._accepted(contents), self.settings.answer_seconds)

    async def run(self, work: Callable[[Any], Result], content: bytes) -> Result | BadImage:
        """What `work` makes of one prepared image file, in the thread that computes, between two batches.

        Refused as by `judge`; what `work` raises is raised.
        """
        return (await self._answers(self._accepted([content], work), self.settings.answer_seconds))[0]

    def _accepted(self, contents: Sequence[bytes], work: Callable[[Any], Any] | None = None) -> list[_Item]:
        if len(contents) > self.places or self.is_stopping:
            raise Refused(503, "queue_full", "The queue is full; try again in a moment.", retry_after=1)
        self.places -= len(contents)
        self.metrics.waiting.inc(len(contents))
        items = [_Item(self._loop.create_future(), work) for _ in contents]
        for item, content in zip(items, contents, strict=True):
            item.decoding = self._decoders.submit(self._decode, item, content)
        return items

    async def _answers(self, items: list[_Item], limit: float | None) -> list[Any]:
        try:
            async with asyncio.timeout(limit):
                answers = [await item.answer for item in items]
        except TimeoutError:
            if all(item.is_begun for item in items):
                raise Refused(504, "too_slow", f"The answer was not there within {limit:g} s, the limit.") from None
            sentence = f"The request's turn did not come within {limit:g} s, the limit; try again later."
            raise Refused(503, "waited_too_long", sentence, retry_after=5) from None
        finally:
            for item in items:
                if not item.answer.done() or item.answer.cancelled():
                    self._abandon(item)
        for answer in answers:
            if isinstance(answer, Exception) and not isinstance(answer, BadImage):
                raise answer
        return answers

    def _abandon(self, item: _Item) -> None:
        with self._changed:
            item.is_abandoned = True
            is_idle = item in self._ready
            if is_idle:
                self._ready.remove(item)
        if is_idle or (item.decoding is not None and item.decoding.cancel()):
            self._leave(item)

    def _leave(self, *items: _Item) -> None:
        self.places += len(items)
        self.metrics.waiting.dec(len(items))

    def _deliver(self, items: Sequence[_Item], answers: Sequence[Any]) -> None:
        """In the event loop."""
        self._leave(*items)
        for item, answer in zip(items, answers, strict=True):
            if not item.answer.done():
                item.answer.set_result(answer)

    def _hand_over(self, items: Sequence[_Item], answers: Sequence[Any]) -> None:
        """From another thread."""
        try:
            self._loop.call_soon_threadsafe(self._deliver, items, answers)
        except RuntimeError:  # the loop is closed: nobody waits any more
            log.debug("answers after the end")

    def _put(self, item: _Item) -> bool:
        """Whether it is still wanted, and so waits for the thread that computes."""
        with self._changed:
            if not item.is_abandoned:
                self._ready.append(item)
                self._changed.notify()
            return not item.is_abandoned

    def _decode(self, item: _Item, content: bytes) -> None:
        start = time.perf_counter()
        try:
            check_pixels(content, self.settings)
            item.prepared = self.engine.prepare(content)
        except Exception as error:
            self._hand_over([item], [error])
            return
        self.metrics.decode_seconds.observe(time.perf_counter() - start)
        if not self._put(item):
            self._hand_over([item], [None])

    def _compute(self) -> None:
        while items := self._next():
            answers: list[Any]
            try:
                answers = [items[0].work(items[0].prepared)] if items[0].work else self._judged(items)
            except Exception as error:
                answers = [error] * len(items)
            self._hand_over(items, answers)

    def _next(self) -> list[_Item]:
        """The next batch, or the next piece of work alone; none when the queue has stopped."""
        with self._changed:
            while not self._ready:
                if self.is_stopping:
                    return []
                self._changed.wait()
            items = [self._ready.popleft()]
            while self._ready and len(items) < self.settings.batch_size and not items[0].work:
                if self._ready[0].work:
                    break
                items.append(self._ready.popleft())
            for item in items:
                item.is_begun = True
            return items

    def _judged(self, items: Sequence[_Item]) -> list[Answer]:
        start = time.perf_counter()
        shares, familiar = self.engine.judge([item.prepared for item in items])
        self.metrics.compute_seconds.observe(time.perf_counter() - start)
        self.metrics.batch_images.observe(len(items))
        return [Answer(one, float(known)) for one, known in zip(shares, familiar, strict=True)]


async def unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """What `work` gives; it is given up where the client goes away before."""
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(request.receive())  # the body is read: the next that comes is its end
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Refused(499, "gone", "The client has gone.")
        return working.result()
    finally:
        gone.cancel()
        working.cancel()
