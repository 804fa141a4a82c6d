"""The LightningDataModule: a data set and a preprocessing become the batches of each split."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch

from resnet_tl import stopping
from resnet_tl.data.dataset import Dataset, checked, dataset_of, open_pixels, read_dataset, usable
from resnet_tl.data.index import ImageIndex
from resnet_tl.data.loader import ImageLoader, Source
from resnet_tl.data.options import DataOptions
from resnet_tl.data.order import epoch_order, evaluation_batches, training_batches
from resnet_tl.data.pixels.augmentation import Augmentation, Policy, bounds
from resnet_tl.data.pixels.pixel_cache import PixelCache
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.data.pixels.symmetry import Symmetry
from resnet_tl.data.reading.catalog import fetch
from resnet_tl.data.reading.layouts import unlabelled
from resnet_tl.data.samples import ImageSamples
from resnet_tl.data.threads import usable_cores
from resnet_tl.errors import UserError, printable

AUTO = ("augmentation", "symmetry", "views")
"""Options whose `auto` whoever knows the network decides."""
CENTRES_AT_ONCE = 64


class ImageDataModule(DataOptions, L.LightningDataModule):
    """Labelled images as training, validation and test batches.

    Layouts, found by looking: `ROOT/{train,val[,test]}/<class>/*`; `ROOT/<class>/*` (split here); flat Kaggle names
    (`ROOT/train/cat.0.jpg`); a table of images and labels (CSV, TSV, JSON lines), given or among its images. Every
    image is decoded once before training; what is found, and the decoded images, are kept for later runs.
    `DataOptions` describes the arguments.

    Raises:
        UserError: nothing to read, fewer than two classes, images that cannot be decoded, or given splits that share
            images.
    """

    _dataset: Dataset | None = None
    _predict: Dataset | None = None
    _preprocessing: Preprocessing | None = None
    _train_sizes: Mapping[int, int] | None = None
    _pixels: PixelCache | None = None
    _source: Source | None = None
    _loaders: tuple[ImageLoader, ...] = ()

    def begin(self, given: dict[str, Any]) -> None:
        """`hparams` are the options; the model logs what became of them, together with its own."""
        self.save_hyperparameters(given, logger=False)
        # What `auto` became is an option's value; what is set by hand afterwards holds.
        self.auto: dict[str, Any] = {name: "auto" for name in AUTO if given[name] == "auto"}

    def __repr__(self) -> str:
        """What is known without reading anything; Lightning's own asks for loaders that there may not be yet."""
        named = next((str(given) for given in (self.root, self.source) if given is not None), "a table")
        facts = "not read yet" if self._dataset is None else self.index.summary()
        return printable(f"ImageDataModule({named!r}: {facts})")

    __str__ = __repr__

    @classmethod
    def from_dataframe(
        cls, frame: pd.DataFrame, root: str | os.PathLike[str] | None = None, **options: Any
    ) -> ImageDataModule:
        """A data module over a table of images and labels, whose columns are found as a file's; paths below `root`."""
        module = cls(root=root, **options)
        module.frame = frame
        return module

    # From files to a data set.

    def prepare_data(self) -> None:
        """Fetches a named data set; Lightning calls this on one process of each machine."""
        if self.frame is None and self.root is None and self.source is not None:
            fetch(self.source)

    def setup(self, stage: str | None = None) -> None:
        """Reads which images there are, once; none is decoded before the network's preprocessing is known."""
        is_named = any(given is not None for given in (self.frame, self.root, self.source))
        only_predicts = not is_named and self.predict_root is not None and stage in ("predict", None)
        if self._dataset is None and not only_predicts:
            with stopping.before_training():
                self._dataset = read_dataset(
                    self.root, self.source, self.frame, self.exclude, self.reading, self.relabel
                )
        if stage == "predict" and self._predict is None and self.predict_root is not None:
            self._predict = dataset_of(unlabelled(self.predict_root, self.reading))

    def use(
        self,
        preprocessing: Preprocessing,
        augmentation: Policy = "light",
        views: int | None = None,
        symmetry: Symmetry = "mirror",
        train_sizes: Mapping[int, int] | None = None,
    ) -> dict[str, Any]:
        """From now on batches are made by this preprocessing; whoever knows the network calls it.

        The first call decodes what is not in the cache yet, checks every image, and makes the splits for good.
        `train_sizes` gives the side of training images from an epoch on, in pixels; default: the preprocessing's. The
        others are what `auto` becomes, but for a symmetry beside the augmentation none, which is none too, and views of
        what nothing changes; returned are the options that were auto, with their values.

        Raises:
            UserError: a number of views was given, and nothing would tell one from another.
        """
        self.setup()
        self._train_sizes = train_sizes
        for name, given in zip(AUTO, (augmentation, symmetry, views), strict=True):
            chosen = "none" if name == "symmetry" and self.augmentation == "none" else given
            if name == "views" and not self.augments:
                chosen = None
            if name in self.auto and getattr(self, name) in ("auto", self.auto[name]):
                self.auto[name] = chosen
                setattr(self, name, chosen)
            else:  # given, or set by hand meanwhile
                self.auto.pop(name, None)
        if self.views and not self.augments:
            raise UserError(
                f"data.views is {self.views}, but with data.augmentation none every view of an image is the same: "
                "leave out data.views, or give another data.augmentation."
            )
        if preprocessing != self._preprocessing and self._dataset is not None:
            dataset = self._dataset if self._preprocessing else checked(self._dataset, preprocessing, self)
            self._pixels, self._dataset = open_pixels(dataset, preprocessing, self.pixel_cache), dataset
        self._preprocessing = preprocessing
        return dict(self.auto)

    @property
    def dataset(self) -> Dataset:
        """What is known of the images: from `setup` on which there are, from `use` on their splits and findings.

        Raises:
            UserError: nothing yet.
        """
        if self._dataset is None:
            raise UserError(
                "The data module has not read its images yet: give it to a Trainer, or call data.setup(), and "
                "data.use(model.preprocessing) for batches."
            )
        return self._dataset

    @property
    def preprocessing(self) -> Preprocessing:
        """The one in use."""
        if self._preprocessing is None:
            raise UserError(
                "The data module does not know how the network's images are prepared: give it to a Trainer with an "
                "ImageClassifier, or call data.use(model.preprocessing) before; for a network of another kind, "
                "data.use(plan_preprocessing(size, crop_ratio=1.0)) of resnet_tl.data.pixels.preprocessing."
            )
        return self._preprocessing

    @property
    def index(self) -> ImageIndex:
        """The images; a batch's `row` counts in it."""
        return self.dataset.index

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names in the order of the network's outputs."""
        return self.dataset.classes

    @property
    def short_side(self) -> int:
        """The median length of the images' short side, in pixels."""
        return self.dataset.short_side

    @property
    def findings(self) -> pd.DataFrame:
        """What the check of the images has found."""
        return self.dataset.findings

    @property
    def skipped(self) -> dict[str, str]:
        """Why an image was left out, by its path."""
        return self.dataset.skipped

    @property
    def augments(self) -> bool:
        """Whether a training image differs from its centre crop; what `auto` means is known from `use` on."""
        named = {self.augmentation, self.symmetry} - {"none", "auto"}
        return bool(named) or self.random_erasing > 0 or self.transform is not None

    @property
    def asks_for_symmetry(self) -> bool:
        """Whether it is auto, and training images are augmented, so that it must be found out; known from `use` on."""
        return self.auto.get("symmetry") == self.symmetry and self.augmentation != "none"

    def contents_digest(self, rows: np.ndarray) -> str:
        """One digest of the contents of some rows' files, in their order: it names what is computed from them."""
        return self.dataset.contents_digest(rows)

    def identity(self) -> str:
        """One digest of what is learned from and judged by: each image's contents, class and split."""
        return self.dataset.identity()

    def facts(self, index: ImageIndex | None = None) -> dict[str, object]:
        """Where the images came from, how many of each class, a digest of them all, and their symmetry if known.

        `index` has other splits.
        """
        index = self.index if index is None else index
        counts = index.counts()
        return {
            "root": str(index.root),
            "layout": index.layout,
            "classes": list(index.classes),
            "counts": {split: {name: int(counts[split][name]) for name in index.classes} for split in counts.columns},
            "short_side_median": self.short_side,
            "skipped": len(self.skipped),
            "fingerprint": replace(self.dataset, index=index).identity(),
            **({"symmetry": self.symmetry} if self.asks_for_symmetry or "symmetry" not in self.auto else {}),
        }

    def view_facts(self, view: int) -> tuple[Any, ...] | None:
        """Plain values that say all that a training image's view depends on besides its file and row, if they can."""
        transform = self.transform.facts() if self.transform else ()
        drawn = (self.augmentation, self.symmetry, self.random_erasing, self.seed, bounds())
        return None if transform is None else (*drawn, view, *transform)

    # From a data set to batches.

    def train_size(self, epoch: int) -> int:
        """The side in pixels of the training images of an epoch."""
        sizes = self._train_sizes or {0: self.preprocessing.size}
        return sizes[max(start for start in sizes if start <= epoch)]

    def serve(self, source: Source | None) -> None:
        """From now on each pass takes its batches from the table of `source(loader, view)`; images again by None."""
        self._source = source

    def loader(self, split: str) -> ImageLoader:
        """Batches of a split for evaluation: in the order of the rows, without augmentation."""
        return self._evaluation_loader(self.dataset, self.index.rows(split), self._pixels)

    def centres(self, rows: np.ndarray) -> Iterator[torch.Tensor]:
        """The centre crops of any rows, (n, C, size, size) uint8, some at a time, made in this process."""
        samples = ImageSamples(self.index, self.preprocessing, None, self._pixels, self.dataset.hashes)
        loader = ImageLoader(samples, lambda epoch: [], threads=min(8, usable_cores()))
        for batch in loader.over(np.array_split(rows, -(-len(rows) // CENTRES_AT_ONCE)), view=0):
            yield batch["image"]

    def train_dataloader(self) -> ImageLoader:
        preprocessing, index, trainer = self.preprocessing, self.index, self.trainer
        rows = index.rows("train")
        rank, world = self._rank_and_world()
        if len(rows) < 2 * world:
            raise UserError(f"{len(rows)} training images are too few for {world} processes; lower trainer.devices.")
        balanced_by = index.labels[rows] if self.sampler == "balanced" else None
        augmentation = Augmentation(self.augmentation, preprocessing, self.seed, self.random_erasing, self.symmetry)

        def batches(epoch: int) -> list[np.ndarray]:
            if trainer and trainer.overfit_batches:  # type: ignore[attr-defined]
                epoch = 0  # the same images again, as Lightning promises
            return training_batches(epoch_order(rows, self.seed, epoch, balanced_by), self.batch_size, rank, world)

        return self._loader(
            ImageSamples(index, preprocessing, augmentation, self._pixels, self.dataset.hashes, self.transform),
            batches,
            epoch=lambda: trainer.current_epoch if trainer else 0,
            size=self.train_size,
            done=lambda: trainer.fit_loop.epoch_loop.batch_progress.current.ready if trainer else 0,
        )

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """As Lightning's; a batch is made on the CPU, where a step of a small head would wait for that."""
        return batch if device.type == "cpu" else super().transfer_batch_to_device(batch, device, dataloader_idx)

    def val_dataloader(self) -> ImageLoader | list[ImageLoader]:
        return [] if self.final else self.loader("val")

    def test_dataloader(self) -> ImageLoader:
        if not len(self.index.rows("test")):
            raise UserError(f"{self.index.root} has no labelled test images; give data.test_fraction to hold some out.")
        return self.loader("test")

    def predict_dataloader(self) -> ImageLoader:
        """Batches of `predict_root`, in the order of the rows of `predict_index`."""
        dataset = self._to_predict
        is_checked = len(dataset.skipped) > len(dataset.index.missing)
        self._predict = dataset if is_checked else usable(dataset, self.preprocessing, self)[0]
        pixels = open_pixels(self._predict, self.preprocessing, self.pixel_cache)
        return self._evaluation_loader(self._predict, np.arange(len(self._predict.index)), pixels)

    @property
    def predict_index(self) -> ImageIndex:
        """The images of `predict_root`; those that cannot be decoded are missing once the loader is made."""
        return self._to_predict.index

    @property
    def _to_predict(self) -> Dataset:
        self.setup("predict")
        if self._predict is None:
            raise UserError("No images to predict were named: give data.predict_root files, folders or a table.")
        return self._predict

    def on_exception(self, exception: BaseException) -> None:
        """Lightning calls no `teardown` then; a notebook lives on, and its traceback would keep the processes alive."""
        self.teardown("")

    def __getstate__(self) -> dict[str, Any]:
        """Without the Trainer, as Lightning's modules have it."""
        return self.__dict__ | {"trainer": None}

    def teardown(self, stage: str) -> None:
        for loader in self._loaders:
            loader.close()
        self._loaders = ()

    def _rank_and_world(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _evaluation_loader(self, dataset: Dataset, rows: np.ndarray, pixels: PixelCache | None) -> ImageLoader:
        batches = evaluation_batches(rows, self.batch_size, *self._rank_and_world())
        samples = ImageSamples(dataset.index, self.preprocessing, None, pixels, dataset.hashes)
        return self._loader(samples, lambda epoch: batches)

    def _loader(self, samples: ImageSamples, batches: Callable, **progress: Callable[..., int]) -> ImageLoader:
        cpus = max(1, usable_cores() // (self.trainer.num_devices if self.trainer else 1))
        # Beside a training step on the CPU, decoding threads beat processes (docs/performance.md).
        on_cpu = self.trainer is None or self.trainer.strategy.root_device.type == "cpu"
        workers = self.workers if self.workers is not None else 0 if on_cpu else min(8, cpus - 1)
        if samples.transform:
            samples.transform.check_start()
            workers = max(1, workers)
        loader = ImageLoader(
            samples,
            batches,
            **progress,
            workers=workers,
            threads=min(8, cpus),
            views=self.views,
            source=lambda loader, view: self._source(loader, view) if self._source else None,
            data=self,
        )
        self._loaders += (loader,)
        return loader
