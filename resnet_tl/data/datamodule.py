"""From a folder of images to the batches of each split: the LightningDataModule."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import lightning as L
import numpy as np
import pandas as pd
import torch

from resnet_tl import cache
from resnet_tl.data.content_hashes import content_digests, digest_in_order
from resnet_tl.data.index import ImageIndex
from resnet_tl.data.loader import (
    Batch,
    ImageLoader,
    ImageSamples,
    RowTable,
    epoch_order,
    evaluation_batches,
    training_batches,
)
from resnet_tl.data.pixels.augmentation import Augmentation, Policy
from resnet_tl.data.pixels.decode import header_size
from resnet_tl.data.pixels.pixel_cache import PixelCache, keep_pixels, stored_bytes
from resnet_tl.data.pixels.preprocessing import Preprocessing, ResizeRule
from resnet_tl.data.quality.audit import Audit, audit_images, find_audit
from resnet_tl.data.quality.duplicates import Duplicates, find_duplicates
from resnet_tl.data.quality.findings import COLUMNS, find_all, in_one_line
from resnet_tl.data.quality.leakage import refuse_leaks
from resnet_tl.data.reading.catalog import fetch
from resnet_tl.data.reading.exclude import without_excluded
from resnet_tl.data.reading.layouts import from_dataframe, read_images
from resnet_tl.data.splits import assign_splits
from resnet_tl.data.threads import for_each, usable_cores
from resnet_tl.errors import UserError, nearest
from resnet_tl.timing import measure

log = logging.getLogger(__name__)

Channels = Literal[1, 3, 4]
OnBadImage = Literal["stop", "skip"]
OnLeak = Literal["stop", "warn"]
PixelCacheMode = Literal["auto", "on", "off"]
SamplerName = Literal["shuffled", "balanced"]


class ImageDataModule(L.LightningDataModule):
    """Labelled images as training, validation and test batches.

    Layouts, found by looking: `ROOT/{train,val[,test]}/<class>/*`; `ROOT/<class>/*` (split here); flat Kaggle names
    (`ROOT/train/cat.0.jpg`); a CSV file with `path,label[,split][,group]`. Every image is decoded once before
    training, so that a broken file is known by then; what is found, and the decoded images, are kept for all later runs
    on files of the same content.

    Args:
        root: folder of images, .zip of one, or CSV file; overrides `source`.
        source: a data set known by name: see `resnet-tl data list`.
        batch_size: images per step and process.
        augmentation: of training images: none, light (random resized crop, flip), standard (light, colour, rotation),
            trivial_augment, shift (for digits), or shift_flip (the CIFAR-10 articles).
        views: how many augmented versions of each image there are: epoch e shows version e mod `views`, so that what
            frozen stages make of them can be kept; default: a new one in each epoch.
        random_erasing: the chance, 0 to 1, that a rectangle of a training image is painted over.
        image_size: side of the network's input in pixels; default: what the network's weights were trained at, or
            the images' own size where they are small.
        storage_size: length of the short side, in pixels, to which every image is resized before it is cropped;
            default: 8/7 of `image_size`.
        resize_rule: short_side keeps an image's shape and crops it, squash stretches it to a square.
        channels: 3 for RGB, 1 for grey, 4 for RGBA.
        val_fraction: share of the training images held out for validation, per class, where there is no val split.
        test_fraction: share of the training images held out for a test, where there is no labelled test split.
        on_bad_image: stop, or skip files that cannot be decoded (they are listed in the run).
        on_leak: stop, or warn when an image of one split, or a group, is in another one as well; our own split never
            leaks.
        exclude: CSV file with the column path: images to leave out; of `resnet-tl data check` those with the
            suggestion exclude.
        sampler: shuffled, or balanced: every class equally likely, drawn with replacement.
        pixel_cache: keep the decoded images on disk: auto where there is room, on (an error where there is none), off.
            The results are the same.
        workers: worker processes for loading; 0 uses threads of this process; default: 0 on a CPU, up to 8 on a GPU.
        seed: of the split, the order of the images and their augmentation.
        split_seed: of the split alone, so that runs with other seeds are judged on the same images; default: `seed`.

    Raises:
        UserError: nothing to read, fewer than two classes, images that cannot be decoded, or given splits that share
            images.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        source: str | None = None,
        batch_size: int = 32,
        augmentation: Policy = "light",
        views: int | None = None,
        random_erasing: float = 0.0,
        image_size: int | None = None,
        storage_size: int | None = None,
        resize_rule: ResizeRule = "short_side",
        channels: Channels = 3,
        val_fraction: float = 0.2,
        test_fraction: float = 0.0,
        on_bad_image: OnBadImage = "stop",
        on_leak: OnLeak = "stop",
        exclude: str | os.PathLike[str] | None = None,
        sampler: SamplerName = "shuffled",
        pixel_cache: PixelCacheMode | bool = "auto",
        workers: int | None = None,
        seed: int = 0,
        split_seed: int | None = None,
    ) -> None:
        super().__init__()
        self.root = root
        self.source = source
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.views = views
        self.random_erasing = random_erasing
        self.image_size = image_size
        self.storage_size = storage_size
        self.resize_rule = resize_rule
        self.channels = channels
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.on_bad_image = on_bad_image
        self.on_leak = on_leak
        self.exclude = exclude
        self.sampler = sampler
        # YAML reads a bare on or off as a boolean.
        self.pixel_cache = ("off", "on")[pixel_cache] if isinstance(pixel_cache, bool) else pixel_cache
        self.workers = workers
        self.seed = seed
        self.split_seed = split_seed
        self.frame: pd.DataFrame | None = None
        self.index: ImageIndex | None = None
        self.audit: Audit | None = None
        self.skipped: dict[str, str] = {}
        self.findings = pd.DataFrame(columns=COLUMNS)  # what the check of the images has found
        self.preprocessing: Preprocessing | None = None
        self.activations: Callable[[ImageLoader, int], RowTable | None] | None = None  # set by the classifier
        self.whole_batches = False  # set by the classifier: all training images in one batch
        self._contents = np.empty((0, 32), np.uint8)  # of the rows of the index
        self._all_contents = self._contents  # with the bad files'
        self._loaders: list[ImageLoader] = []
        self._caches: dict[Preprocessing, PixelCache | None] = {}
        self._check_words()
        self._check_numbers()

    @classmethod
    def from_dataframe(
        cls, frame: pd.DataFrame, root: str | os.PathLike[str] | None = None, **options
    ) -> ImageDataModule:
        """A data module over a table with the columns `path`, `label` and, if you like, `split` and `group`.

        Relative paths are looked up below `root`.
        """
        module = cls(root=root, **options)
        module.frame = frame
        return module

    def _check_words(self) -> None:
        """What the command line's parser would have refused; a plain caller has no parser."""
        for name, words in (
            ("augmentation", Policy),
            ("resize_rule", ResizeRule),
            ("channels", Channels),
            ("on_bad_image", OnBadImage),
            ("on_leak", OnLeak),
            ("sampler", SamplerName),
            ("pixel_cache", PixelCacheMode),
        ):
            value, choices = getattr(self, name), get_args(words)
            if value not in choices:
                raise UserError(
                    f"data.{name} is '{value}'; it must be one of {', '.join(map(str, choices))}."
                    f"{nearest(value, choices)}"
                )

    def _check_numbers(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"data.batch_size is {self.batch_size}; it must be 1 or more.")
        if not 0 <= self.random_erasing <= 1:
            raise UserError(f"data.random_erasing is {self.random_erasing}; it must be from 0 to 1.")
        for name in ("val_fraction", "test_fraction"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise UserError(f"data.{name} is {value}; it must be at least 0 and below 1.")
        if self.val_fraction + self.test_fraction >= 1:
            raise UserError(
                "data.val_fraction and data.test_fraction add up to 1 or more: nothing is left to train on."
            )
        for name in ("image_size", "storage_size"):
            value = getattr(self, name)
            if value is not None and value < 8:
                raise UserError(f"data.{name} is {value}; it must be 8 pixels or more.")
        if self.views is not None and self.views < 1:
            raise UserError(f"data.views is {self.views}; it must be 1 or more.")
        if self.workers is not None and self.workers < 0:
            raise UserError(f"data.workers is {self.workers}; it must be 0 or more.")
        for name in ("seed", "split_seed"):
            if (getattr(self, name) or 0) < 0:
                raise UserError(f"data.{name} is {getattr(self, name)}; it must be 0 or more.")

    # From files to an index.

    def prepare_data(self) -> None:
        """Fetches a named data set; Lightning calls this on one process of each machine."""
        if self.frame is None and self.root is None and self.source is not None:
            fetch(self.source)

    def setup(self, stage: str | None = None) -> None:
        """Reads, checks and splits the images, once; the same on every process."""
        if self.index is not None:
            return
        index = self._read()
        if self.exclude is not None:
            index = without_excluded(index, self.exclude)
        with measure("pixels"):
            self._contents = self._all_contents = content_digests(index)
            audit = self._audited(index)
            if audit.bad:
                index, audit = self._without_bad_images(index, audit)
            duplicates = find_duplicates(index, self._contents, audit)
        self.audit = audit
        self.index = self._split(index, duplicates)
        self.findings = find_all(self.index, audit, self._contents, duplicates)
        counts = ", ".join(f"{len(self.index.rows(split))} {split}" for split in self.index.counts().columns)
        log.info(f"{self.index.root}: {self.index.layout}; {len(self.index.classes)} classes; {counts} images")
        self._tell_findings(self.index)

    def _split(self, index: ImageIndex, duplicates: Duplicates) -> ImageIndex:
        for name, split, default in (("val_fraction", "val", 0.2), ("test_fraction", "test", 0.0)):
            if getattr(self, name) != default and split in set(index.table["split"]):
                log.info(f"{index.root} has a {split} split of its own: data.{name} is not used")
        seed = self.seed if self.split_seed is None else self.split_seed
        may_span = self.on_leak == "warn"
        return assign_splits(
            index, self.val_fraction, self.test_fraction, seed, duplicates.clusters(len(index)), may_span
        )

    def _tell_findings(self, index: ImageIndex) -> None:
        if self.on_leak == "stop":
            refuse_leaks(index, self.findings)
        if len(self.findings):
            log.info(f"found by the way (`resnet-tl data check` shows them): {in_one_line(self.findings)}")

    def _read(self) -> ImageIndex:
        if self.frame is not None:
            return from_dataframe(self.frame, Path(self.root) if self.root is not None else None)
        if self.root is not None:
            if not str(self.root).strip():
                raise UserError("data.root is empty; name a folder, or . for the current one.")
            return read_images(Path(self.root))
        if self.source is not None:
            return read_images(fetch(self.source))
        raise UserError(
            "No images were named: give data.root a folder or zip of images, "
            "or data.source a name from `resnet-tl data list`."
        )

    def _audited(self, index: ImageIndex) -> Audit:
        """The audit that is kept, or a new one; where that decodes the images, their pixels are kept on the way."""
        audit = find_audit(index, self._contents, self.channels)
        if audit is None and self.pixel_cache != "off":
            sizes = np.zeros((len(index), 2), np.int32)

            def read_header(row: int) -> None:
                sizes[row] = header_size(index.path(row))

            for_each(np.arange(len(index)), read_header)
            if planned := self._planned(index, sizes):
                keep_pixels(index, self._contents, planned, sizes, self._all_contents)
        return audit or audit_images(index, self._contents, self.channels)

    def _planned(self, index: ImageIndex, sizes: np.ndarray) -> Preprocessing | None:
        """The network's preprocessing, if it can tell by the classes and the sizes in the files' headers."""
        plan = getattr(self.trainer.lightning_module if self.trainer else None, "plan_preprocessing", None)
        if self.preprocessing or plan is None or not sizes.any():
            return self._known_preprocessing
        self.index, self.audit = index, replace(Audit.empty(len(index)), sizes=sizes)
        try:
            with measure("start-up"):  # of the network
                return plan(self)
        finally:
            self.index = self.audit = None

    def _without_bad_images(self, index: ImageIndex, audit: Audit) -> tuple[ImageIndex, Audit]:
        bad = {index.id(row): reason for row, reason in audit.bad.items()}
        listed = "\n".join(f"  {path}: {reason}" for path, reason in list(bad.items())[:20])
        if len(bad) > 20:
            listed += f"\n  and {len(bad) - 20} more"
        found = f"{len(bad)} of {len(index)} files in {index.root} cannot be used as images"
        if self.on_bad_image == "stop":
            raise UserError(f"{found}; remove them, or leave them out with --data.on_bad_image skip:\n{listed}")
        log.info(f"{found} and are left out:\n{listed}")
        self.skipped = bad
        rows = list(audit.bad)
        self._contents = np.delete(self._contents, rows, axis=0)
        return index.without(rows), audit.without_bad()

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names in the order of the network's outputs."""
        return self._index.classes

    @property
    def short_side(self) -> int:
        """The median length of the images' short side, in pixels."""
        assert self.audit is not None
        shorter = self.audit.sizes.min(axis=1)
        return int(np.median(shorter[shorter > 0]))

    @property
    def augments(self) -> bool:
        """Whether a training image differs from its centre crop."""
        return self.augmentation != "none" or self.random_erasing > 0

    def contents_digest(self, rows: np.ndarray) -> str:
        """One digest of the contents of some rows' files, in their order: it names what is computed from them."""
        return digest_in_order(self._contents[rows])

    def identity(self) -> str:
        """One digest of what is learned from and judged by: each image's contents, class and split."""
        index = self._index
        labels = "\0".join(index.classes[label] if label >= 0 else "" for label in index.labels)
        splits = "\0".join(index.table["split"])
        return hashlib.sha256(f"{digest_in_order(self._contents)}\n{labels}\n{splits}".encode()).hexdigest()

    @property
    def _index(self) -> ImageIndex:
        if self.index is None:
            raise RuntimeError("Call setup() first, or let a Trainer do so.")
        return self.index

    def teardown(self, stage: str) -> None:
        for loader in self._loaders:
            loader.close()
        self._loaders.clear()
        self._caches.clear()

    # From an index to batches.

    def loader(self, split: str) -> ImageLoader:
        """Batches of a split for evaluation: in the order of the rows, without augmentation."""
        rows = self._index.rows(split)
        rank, world = self._rank_and_world()
        batches = evaluation_batches(rows, self.batch_size, rank, world)
        return self._loader(None, lambda epoch: batches)

    def train_dataloader(self) -> ImageLoader:
        rows = self._index.rows("train")
        rank, world = self._rank_and_world()
        if len(rows) < 2 * world:
            raise UserError(f"{len(rows)} training images are too few for {world} processes; lower trainer.devices.")
        balanced_by = self._index.labels[rows] if self.sampler == "balanced" else None

        def batches(epoch: int) -> list[np.ndarray]:
            order = epoch_order(rows, self.seed, epoch, balanced_by)
            return training_batches(order, len(rows) if self.whole_batches else self.batch_size, rank, world)

        augmentation = Augmentation(self.augmentation, self.network_preprocessing, self.seed, self.random_erasing)
        trainer = self.trainer
        return self._loader(
            augmentation,
            batches,
            epoch=lambda: trainer.current_epoch if trainer else 0,
            done=lambda: trainer.fit_loop.epoch_loop.batch_progress.current.ready if trainer else 0,
        )

    def val_dataloader(self) -> ImageLoader:
        return self.loader("val")

    def test_dataloader(self) -> ImageLoader:
        if not len(self._index.rows("test")):
            raise UserError(
                f"{self._index.root} has no labelled test images; give data.test_fraction to hold some out."
            )
        return self.loader("test")

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        # Rows and labels of a batch stay small; only pinned memory can be copied without waiting.
        def moved(value: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor | tuple[torch.Tensor, ...]:
            return tuple(map(moved, value)) if isinstance(value, tuple) else value.to(device, non_blocking=True)  # type: ignore[arg-type]

        return {key: moved(value) for key, value in batch.items()}  # type: ignore[return-value, arg-type]

    @property
    def network_preprocessing(self) -> Preprocessing:
        """The preprocessing of the trainer's network, or the one that was set."""
        if (preprocessing := self._known_preprocessing) is None:
            raise UserError(
                "The data module does not know the network's preprocessing: use it with an ImageClassifier, "
                "or set its `preprocessing`."
            )
        return preprocessing

    @property
    def _known_preprocessing(self) -> Preprocessing | None:
        model = self.trainer.lightning_module if self.trainer else None
        return self.preprocessing or getattr(model, "preprocessing", None)

    def _rank_and_world(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loader(self, augmentation: Augmentation | None, batches, epoch=lambda: 0, done=lambda: 0) -> ImageLoader:
        cpus = max(1, usable_cores() // (self.trainer.num_devices if self.trainer else 1))
        workers = self.workers
        if workers is None:
            # Beside a training step on the CPU, decoding threads beat processes (docs/performance.md).
            on_cpu = self.trainer is None or self.trainer.strategy.root_device.type == "cpu"
            workers = 0 if on_cpu else min(8, cpus - 1)
        loader = ImageLoader(
            ImageSamples(self._index, self.network_preprocessing, augmentation, self._pixels(), self._contents),
            batches,
            epoch,
            done,
            workers=workers,
            threads=min(8, cpus),
            views=self.views,
            activations=lambda loader, view: self.activations(loader, view) if self.activations else None,
        )
        self._loaders.append(loader)
        return loader

    def _pixels(self) -> PixelCache | None:
        """The decoded images on disk, for all loaders, processes and later runs; None where they are not kept."""
        planned = self.network_preprocessing
        if self.pixel_cache != "off" and planned not in self._caches:
            assert self.audit is not None
            with measure("pixels"):
                sizes = self.audit.sizes
                folder = keep_pixels(self._index, self._contents, planned, sizes, self._all_contents)
                try:
                    self._caches[planned] = PixelCache(folder, self._contents, planned.channels) if folder else None
                except (OSError, ValueError):  # just removed by another run, or damaged: the images are decoded
                    self._caches[planned] = None
            if folder is None:
                self._tell_that_there_is_no_room(stored_bytes(sizes, planned) / 2**30)
        return self._caches.get(planned)

    def _tell_that_there_is_no_room(self, gibibytes: float) -> None:
        found = f"{gibibytes:.1f} GiB of decoded images cannot be kept in {cache.cache_root()}"
        if self.pixel_cache == "on":
            raise UserError(
                f"data.pixel_cache is on, but {found}; make room there, raise RESNET_TL_CACHE_LIMIT (in GiB), or leave "
                "it at auto."
            )
        log.info(f"{found}: every epoch decodes them anew (data.pixel_cache)")
