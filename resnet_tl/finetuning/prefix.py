"""The frozen stages in front of what trains: computed for a batch, or read from the activation cache."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import version

import lightning as L
import numpy as np
import torch
from torch import Tensor

from resnet_tl import __version__, cache, stopping
from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.data.index import ImageIndex
from resnet_tl.data.loader import ImageLoader
from resnet_tl.data.pixels.decode import DECODER
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.data.samples import Batch
from resnet_tl.finetuning.activation_cache import (
    ALONE,
    ActivationCacheMode,
    ActivationTable,
    LocalRanks,
    activation_key,
    find_or_compute,
    specs_of,
)
from resnet_tl.finetuning.activation_plan import ActivationPlan, plan_activations
from resnet_tl.networks.frozen import Activation, FrozenStages
from resnet_tl.timing import measure

log = logging.getLogger(__name__)
FILLED_AT_ONCE = 64
"""Images in one batch of the frozen stages."""
COMPUTED_BY = ("torch", "torchvision", "timm", "numpy")


@dataclass(eq=False)
class FrozenPrefix:
    """The same computation whether it is kept or not, so that a cached run equals one without a cache."""

    stages: FrozenStages
    digest: str  # of their weights
    preprocessing: Preprocessing  # of the network
    images: Callable[[Batch], Tensor]  # makes the network's input (N, C, H, W) of a batch
    data: ImageDataModule  # gives the images
    trainer: L.Trainer  # gives the processes
    mode: ActivationCacheMode  # auto, on or off
    epochs: int  # for how many epochs these stages are frozen; 0 outside of a fit
    # Whether training images are mixed with each other in each step, so that only evaluation can use what was kept
    is_mixed: bool
    _plans: dict[bool, ActivationPlan] = field(default_factory=dict)
    _tables: dict[int | None, ActivationTable] = field(default_factory=dict)

    def __call__(self, batch: Batch) -> Activation:
        """What the suffix takes, for one batch."""
        activation = batch.get("activation")
        if activation is not None:
            return activation
        with measure("activations"):
            return self.stages(self.images(batch))

    def table(self, loader: ImageLoader, view: int) -> ActivationTable | None:
        """The kept activations of a loader's images in a view; None where they are computed batch by batch."""
        if self.takes_images(loader):
            return None
        is_augmented = self.is_augmented(loader)
        name = view if is_augmented else None
        if name not in self._tables:
            if not self.plan(loader, view).is_kept:
                return None
            rows, key = self._rows_and_key(loader, view)
            if is_augmented:  # one view at a time
                self._tables = {kept: table for kept, table in self._tables.items() if kept is None}
            about = f"{len(rows)} images, {', '.join(self.stages.names)}" + ("" if name is None else f", view {name}")
            with measure("activations"):
                table = find_or_compute(key, about, rows, self.compute(loader, name), self._ranks())
            if table is None:
                self._plans[is_augmented] = ActivationPlan(False, "the cache folder cannot keep them")
                return None
            self._tables[name] = table.to(self.stages.device)
        return self._tables[name]

    def takes_images(self, loader: ImageLoader) -> bool:
        """Whether a loader's images are mixed in each step, so that there is nothing to keep of them."""
        return self.is_mixed and loader.samples.augmentation is not None

    def plan(self, loader: ImageLoader, view: int) -> ActivationPlan:
        """Whether the activations of a loader's images are kept: the same on every process, and told once."""
        is_augmented = self.is_augmented(loader)
        if is_augmented not in self._plans:
            decided = self._decided(loader, is_augmented) if self.trainer.is_global_zero else None
            plan: ActivationPlan = self.trainer.strategy.broadcast(decided)  # type: ignore[assignment]
            self._plans[is_augmented] = plan
            if self.epochs:
                role = "training images" if is_augmented else "images at their centre"
                log.info(f"Activations of the {role}: {plan.reason} (model.activation_cache)")
        return self._plans[is_augmented]

    def missing(self, loader: ImageLoader, view: int) -> np.ndarray:
        """The rows whose activations in a view would have to be computed for a table: none where it is kept already."""
        rows, key = self._rows_and_key(loader, view)
        return rows[:0] if cache.find("activations", key) else rows

    def _decided(self, loader: ImageLoader, is_augmented: bool) -> ActivationPlan:
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
        passes = folds * (self.epochs if is_augmented or not self.data.augments else self.epochs + 1)
        computed = max(1, min(views or passes, passes))
        if not any(len(self.missing(loader, view)) for view in range(computed)):
            return ActivationPlan(True, "found in the cache")
        rows = self._rows(loader.samples.index, is_augmented)
        nbytes, seconds = self._measure()
        size = computed * len(rows) * nbytes
        if self.mode == "on":
            return ActivationPlan(True, f"{size / 1e6:.1f} MB kept")
        asked = min(self._asked(is_augmented), len(rows))
        has_room = cache.has_room(size)
        plan = plan_activations(self.stages.names, len(rows), asked, views, passes, nbytes, seconds, has_room)
        return replace(plan, reason=f"{plan.reason}, in {folds} folds") if folds > 1 else plan

    def _asked(self, is_augmented: bool) -> int:
        """Images that a pass of this fit asks for at most; the trainer may limit its batches."""
        batches: float = 0
        training = self.trainer.num_training_batches
        if (is_augmented or not self.data.augments) and math.isfinite(training):  # it is endless where nothing trains
            batches += training
        if not is_augmented:
            batches += sum(self.trainer.num_val_batches)
        return int(batches * self.data.batch_size * self.trainer.world_size)

    def _measure(self) -> tuple[int, float]:
        """Bytes of one image's activations, and the seconds that they take."""
        preprocessing = self.preprocessing
        size = (8, preprocessing.channels, preprocessing.size, preprocessing.size)
        images = preprocessing.normalise(torch.zeros(size, dtype=torch.uint8, device=self.stages.device))
        specs = specs_of(self.stages(images))  # the first call also plans the kernels
        _wait_for(self.stages.device)
        started = time.perf_counter()
        self.stages(images)
        _wait_for(self.stages.device)
        return sum(spec.nbytes for spec in specs), (time.perf_counter() - started) / len(images)

    def is_augmented(self, loader: ImageLoader) -> bool:
        """Whether a loader's images depend on the view."""
        return loader.samples.augmentation is not None and self.data.augments

    def _rows_and_key(self, loader: ImageLoader, view: int) -> tuple[np.ndarray, str]:
        """Of a loader's table."""
        is_augmented = self.is_augmented(loader)
        rows = self._rows(loader.samples.index, is_augmented)
        return rows, self._key(rows, view if is_augmented else None)

    def _rows(self, index: ImageIndex, is_augmented: bool) -> np.ndarray:
        """Of a table: what is seen at its centre is kept together, so that another split of it is served as well.

        All folds share one: what trains in one of them is judged in another.
        """
        splits: tuple[str, ...] = ("train", "val", "test")
        if is_augmented:
            splits = ("train", "val") if self.data.folds else ("train",)
        elif self.data.augments and not self.data.folds:
            splits = ("val", "test")
        return np.sort(np.concatenate([index.rows(split) for split in splits]))

    def _key(self, rows: np.ndarray, view: int | None) -> str:
        """Of all that the activations depend on; versions stand for code that computes them."""
        device = self.stages.device
        facts: dict[str, object] = {
            "weights": self.digest,
            "network": {key: value for key, value in self.stages.description.items() if not key.startswith("head_")},
            "code": self.stages.code,
            "stages": self.stages.names,
            "dtype": str(self.stages.dtype),
            "preprocessing": self.preprocessing.to_dict(),
            "contents": self.data.contents_digest(rows),
            "decoder": DECODER,
            "versions": {name: version(name) for name in COMPUTED_BY} | {"resnet_tl": __version__},
            "device": torch.cuda.get_device_name(device)
            if device.type == "cuda"
            else (device.type, torch.backends.cpu.get_cpu_capability()),
        }
        if view is not None:
            facts |= {"view": self.data.view_facts(view), "rows": rows.tolist()}
        return activation_key(**facts)

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
