"""The frozen stages in front of what trains: computed for a batch, or read from the activation cache."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import lightning as L
import numpy as np
import torch
from torch import Tensor

from resnet_tl import cache, stopping
from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.data.index import ImageIndex
from resnet_tl.data.loader import ImageLoader
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.data.samples import Batch
from resnet_tl.finetuning.activation_cache import (
    ALONE,
    ActivationCacheMode,
    ActivationTable,
    LocalRanks,
    find_or_compute,
    specs_of,
    stages_key,
)
from resnet_tl.finetuning.activation_plan import ActivationPlan, plan_activations
from resnet_tl.networks.frozen import Activation, FrozenStages
from resnet_tl.timing import measure

log = logging.getLogger(__name__)
FILLED_AT_ONCE = 64
"""Images in one batch of the frozen stages."""
Splits: TypeAlias = tuple[str, ...]
TRAIN: Splits = ("train",)
EVALUATED: Splits = ("val", "test")


@dataclass(eq=False)
class FrozenPrefix:
    """The same computation whether it is kept or not, so that a cached run equals one without a cache."""

    stages: FrozenStages
    digest: str  # of their weights
    preprocessing: Preprocessing  # of the network, in evaluation
    train_size: int  # side in pixels of training images while these stages are frozen
    images: Callable[[Batch], Tensor]  # makes the network's input (N, C, H, W) of a batch
    data: ImageDataModule  # gives the images
    trainer: L.Trainer  # gives the processes
    mode: ActivationCacheMode  # auto, on or off
    epochs: int  # for how many epochs these stages are frozen; 0 outside of a fit
    # Whether training images are mixed with each other in each step, so that only evaluation can use what was kept
    is_mixed: bool
    _plans: dict[Splits, ActivationPlan] = field(default_factory=dict)
    _tables: dict[tuple[Splits, int | None], ActivationTable] = field(default_factory=dict)

    def __call__(self, batch: Batch) -> Activation:
        """What the suffix takes, for one batch."""
        activation = batch.get("activation")
        if activation is not None:
            return activation
        with measure("activations"):
            return self.stages(self.images(batch))

    def table(self, loader: ImageLoader, view: int) -> ActivationTable | None:
        """The kept activations of a loader's images in a view; None where they are computed batch by batch."""
        if self.takes_images(loader) or not self._has_rows(loader):
            return None
        splits, seen = self.splits(loader), view if self.is_augmented(loader) else None
        if (splits, seen) not in self._tables:
            if not self.plan(loader, view).is_kept:
                return None
            rows, key = self._rows_and_key(loader, view)
            if seen is not None:  # one view at a time
                self._tables = {name: table for name, table in self._tables.items() if name[1] is None}
            about = f"{len(rows)} images, {', '.join(self.stages.names)}" + ("" if seen is None else f", view {seen}")
            with measure("activations"):
                table = find_or_compute(key, about, rows, self.compute(loader, seen), self._ranks())
            if table is None:
                self._plans[splits] = ActivationPlan(False, "the cache folder cannot keep them")
                return None
            self._tables[splits, seen] = table.to(self.stages.device)
        return self._tables[splits, seen]

    def _has_rows(self, loader: ImageLoader) -> bool:
        """Whether its table has a loader's images: not where training images are evaluated beside augmented ones."""
        rows = self._rows(loader.samples.index, self.splits(loader))
        return bool(np.isin(np.concatenate([rows[:0], *loader.batches(loader.epoch())]), rows).all())

    def takes_images(self, loader: ImageLoader) -> bool:
        """Whether a loader's images are mixed in each step, so that there is nothing to keep of them."""
        return self.is_mixed and loader.samples.augmentation is not None

    def plan(self, loader: ImageLoader, view: int) -> ActivationPlan:
        """Whether the activations of a loader's images are kept: the same on every process, and told once."""
        splits = self.splits(loader)
        if splits not in self._plans:
            decided = self._decided(loader) if self.trainer.is_global_zero else None
            plan: ActivationPlan = self.trainer.strategy.broadcast(decided)  # type: ignore[assignment]
            self._plans[splits] = plan
            if self.epochs:
                role = "training images" if splits == TRAIN else "images at their centre"
                log.info(f"Activations of the {role}: {plan.reason} (model.activation_cache)")
        return self._plans[splits]

    def missing(self, loader: ImageLoader, view: int) -> np.ndarray:
        """The rows whose activations in a view would have to be computed for a table: none where it is kept already."""
        rows, key = self._rows_and_key(loader, view)
        return rows[:0] if cache.find("activations", key) else rows

    def _decided(self, loader: ImageLoader) -> ActivationPlan:
        splits, is_augmented = self.splits(loader), self.is_augmented(loader)
        if self.mode == "off":
            return ActivationPlan(False, "computed in each pass, as asked for")
        if self.stages.code is None:
            return ActivationPlan(False, "computed in each pass, since the network's own code has no source file")
        if self.trainer.num_nodes > 1:
            return ActivationPlan(False, "computed in each pass, since several machines do not share a cache")
        if is_augmented and self.data.view_facts(0) is None:
            return ActivationPlan(False, "computed in each pass, since no recipe names the transform")
        folds = self.data.folds or 1
        views = self.data.views if is_augmented else 1
        if folds > 1 and views is None:
            views = self.epochs or None  # which each fold sees again
        passes = folds * (self.epochs if "train" in splits else self.epochs + 1)
        computed = max(1, min(views or passes, passes))
        if not any(len(self.missing(loader, view)) for view in range(computed)):
            return ActivationPlan(True, "found in the cache")
        rows = self._rows(loader.samples.index, splits)
        nbytes, seconds = self._measure(self._size(splits))
        size = computed * len(rows) * nbytes
        if self.mode == "on":
            return ActivationPlan(True, f"{size / 1e6:.1f} MB kept")
        asked = min(self._asked(splits), len(rows))
        has_room = cache.has_room(size)
        plan = plan_activations(self.stages.names, len(rows), asked, views, passes, nbytes, seconds, has_room)
        return replace(plan, reason=f"{plan.reason}, in {folds} folds") if folds > 1 else plan

    def _asked(self, splits: Splits) -> int:
        """Images that a pass of this fit asks for at most; the trainer may limit its batches."""
        batches: float = 0
        training = self.trainer.num_training_batches
        if "train" in splits and math.isfinite(training):  # it is endless where nothing trains
            batches += training
        if "val" in splits:
            batches += sum(self.trainer.num_val_batches)
        return int(batches * self.data.batch_size * self.trainer.world_size)

    def _measure(self, size: int) -> tuple[int, float]:
        """Bytes of the activations of one image of `size` pixels, and the seconds that they take."""
        shape = (8, self.preprocessing.channels, size, size)
        zeros = torch.zeros(shape, dtype=torch.uint8, device=self.stages.device)
        images = self.preprocessing.normalise(zeros)
        specs = specs_of(self.stages(images))  # the first call also plans the kernels
        _wait_for(self.stages.device)
        started = time.perf_counter()
        self.stages(images)
        _wait_for(self.stages.device)
        return sum(spec.nbytes for spec in specs), (time.perf_counter() - started) / len(images)

    def is_augmented(self, loader: ImageLoader) -> bool:
        """Whether a loader's images depend on the view."""
        return loader.samples.augmentation is not None and self.data.augments

    def splits(self, loader: ImageLoader) -> Splits:
        """Whose images are in a loader's table: what is seen at its centre and at one size is kept together.

        Another split of it is served as well then.
        """
        if not self.data.augments and self.train_size == self.preprocessing.size:
            return (*TRAIN, *EVALUATED)
        return EVALUATED if loader.samples.augmentation is None else TRAIN

    def _size(self, splits: Splits) -> int:
        """The side in pixels of the images of a table."""
        return self.train_size if splits == TRAIN else self.preprocessing.size

    def _rows_and_key(self, loader: ImageLoader, view: int) -> tuple[np.ndarray, str]:
        """Of a loader's table."""
        splits = self.splits(loader)
        rows = self._rows(loader.samples.index, splits)
        return rows, self._key(rows, self._size(splits), view if self.is_augmented(loader) else None)

    def _rows(self, index: ImageIndex, splits: Splits) -> np.ndarray:
        """Of a table; all folds share one, since what trains in one of them is judged in another."""
        if self.data.folds:
            splits = (*TRAIN, "val") if splits == TRAIN else (*TRAIN, *EVALUATED)
        return np.sort(np.concatenate([index.rows(split) for split in splits]))

    def _key(self, rows: np.ndarray, size: int, view: int | None) -> str:
        seen = replace(self.preprocessing, size=size)
        key = {} if view is None else {"view": self.data.view_facts(view), "rows": rows.tolist()}
        return stages_key(self.stages, self.digest, seen, self.data.contents_digest(rows), **key)

    def compute(self, loader: ImageLoader, view: int | None) -> Callable[[np.ndarray], Iterator]:
        """What fills a table with a loader's images in a view: gives batches of (rows, activations) of any rows."""

        def compute(rows: np.ndarray) -> Iterator[tuple[np.ndarray, Activation]]:
            if not len(rows):  # more processes than images
                return
            batches = np.array_split(rows, -(-len(rows) // FILLED_AT_ONCE))
            for batch in loader.over(batches, view or 0):
                stopping.check()
                moved = self.data.transfer_batch_to_device(batch, self.stages.device, 0)
                yield batch["row"].numpy(), self.stages(self.images(moved))

        return compute

    def _ranks(self) -> LocalRanks:
        """The processes of this machine."""
        trainer = self.trainer
        if trainer.world_size == 1:
            return ALONE
        world, first = trainer.num_devices, trainer.global_rank - trainer.local_rank

        def exchange(value: object) -> object:
            values: list[object] = [None] * trainer.world_size
            torch.distributed.all_gather_object(values, value)
            return values[first]

        return LocalRanks(trainer.local_rank, world, exchange, trainer.strategy.barrier)


def _wait_for(device: torch.device) -> None:
    """Until a GPU has done what it was told to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
