"""The LightningDataModule: a data set and a preprocessing become the batches of each split."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import lightning as L
import numpy as np
import pandas as pd

from resnet_tl.data.dataset import Dataset, checked, dataset_of, open_pixels, read_dataset, usable
from resnet_tl.data.index import ImageIndex
from resnet_tl.data.loader import ImageLoader, ImageSamples, RowTable
from resnet_tl.data.options import Channels, OnBadImage, OnLeak, PixelCacheMode, SamplerName, check_options
from resnet_tl.data.order import epoch_order, evaluation_batches, training_batches
from resnet_tl.data.pixels.augmentation import Augmentation, Policy
from resnet_tl.data.pixels.pixel_cache import PixelCache
from resnet_tl.data.pixels.preprocessing import Preprocessing, ResizeRule
from resnet_tl.data.pixels.transform import UserTransform
from resnet_tl.data.reading.catalog import fetch
from resnet_tl.data.reading.layouts import unlabelled
from resnet_tl.data.threads import usable_cores
from resnet_tl.errors import UserError


class ImageDataModule(L.LightningDataModule):
    """Labelled images as training, validation and test batches.

    Layouts, found by looking: `ROOT/{train,val[,test]}/<class>/*`; `ROOT/<class>/*` (split here); flat Kaggle names
    (`ROOT/train/cat.0.jpg`); a CSV file with `path,label[,split][,group]`. Every image is decoded once before
    training, so that a broken file is known by then; what is found, and the decoded images, are kept for all later runs
    on files of the same content.

    Args:
        root: folder of images, .zip of one, or CSV file; overrides `source`.
        source: a data set known by name: see `resnet-tl data list`.
        predict_root: files, folders or CSV files of images without labels, for `trainer.predict`.
        batch_size: images per step and process.
        augmentation: of training images: none, light (random resized crop, flip), standard (light, colour, rotation),
            trivial_augment, shift (for digits), or shift_flip (the CIFAR-10 articles).
        transform: your own of a training image, uint8 (C, H, W), in front of `augmentation`; it runs in worker
            processes: module.Name, or {class_path, init_args}; in Python also a transform of torchvision or any callable.
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
        transform: str | dict[str, Any] | Callable | None = None,
        predict_root: str | list[str] | None = None,
    ) -> None:
        super().__init__()
        self.root = root
        self.source = source
        self.frame: pd.DataFrame | None = None
        self.predict_root = predict_root
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.transform = transform
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
        check_options(self)
        self._transform = None if transform is None else UserTransform(transform, seed)
        self._dataset: Dataset | None = None
        self._predict: Dataset | None = None
        self._preprocessing: Preprocessing | None = None
        self._pixels: PixelCache | None = None
        self._source: Callable[[ImageLoader, int], RowTable | None] | None = None
        self._loaders: list[ImageLoader] = []

    @classmethod
    def from_dataframe(
        cls, frame: pd.DataFrame, root: str | os.PathLike[str] | None = None, **options: Any
    ) -> ImageDataModule:
        """A data module over a table with the columns `path`, `label` and, if you like, `split` and `group`.

        Relative paths are looked up below `root`.
        """
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
        named = any(given is not None for given in (self.frame, self.root, self.source))
        only_predicts = not named and self.predict_root is not None and stage in ("predict", None)
        if self._dataset is None and not only_predicts:
            self._dataset = read_dataset(self.root, self.source, self.frame, self.exclude)
        if stage == "predict" and self._predict is None and self.predict_root is not None:
            self._predict = dataset_of(unlabelled(self.predict_root))

    def use(self, preprocessing: Preprocessing) -> None:
        """From now on batches are made by this preprocessing; whoever knows the network calls it.

        The first call decodes what is not in the cache yet, checks every image, and makes the splits; they stay as they
        are when another preprocessing follows.

        Raises:
            UserError: see the class.
        """
        self.setup()
        if preprocessing == self._preprocessing:
            return
        keeps = self.pixel_cache != "off"
        dataset, pixels = self._dataset, None
        if dataset is not None:
            if self._preprocessing is None:
                dataset = checked(
                    dataset,
                    preprocessing,
                    val_fraction=self.val_fraction,
                    test_fraction=self.test_fraction,
                    seed=self.seed if self.split_seed is None else self.split_seed,
                    skips_bad=self.on_bad_image == "skip",
                    allows_leaks=self.on_leak == "warn",
                    keeps_pixels=keeps,
                )
            pixels = open_pixels(dataset, preprocessing, self.pixel_cache == "on") if keeps else None
        self._dataset, self._pixels, self._preprocessing = dataset, pixels, preprocessing

    @property
    def dataset(self) -> Dataset:
        """What is known of the images so far: they are checked and split once a preprocessing is in use."""
        if self._dataset is None:
            raise RuntimeError("Call setup() first, or let a Trainer do so.")
        return self._dataset

    @property
    def preprocessing(self) -> Preprocessing:
        """The one in use."""
        if self._preprocessing is None:
            raise UserError(
                "The data module does not know the network's preprocessing: fit it with an ImageClassifier, or call "
                "data.use(Preprocessing(...)) before the fit, or in your module's setup."
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
        """Whether a training image differs from its centre crop."""
        return self.augmentation != "none" or self.random_erasing > 0 or self._transform is not None

    def contents_digest(self, rows: np.ndarray) -> str:
        """One digest of the contents of some rows' files, in their order: it names what is computed from them."""
        return self.dataset.contents_digest(rows)

    def identity(self) -> str:
        """One digest of what is learned from and judged by: each image's contents, class and split."""
        return self.dataset.identity()

    def view_facts(self, view: int) -> tuple[Any, ...] | None:
        """Plain values that say all that a training image's view depends on besides its file and row.

        None where they cannot: for a transform that no recipe could name, and whose images must not be kept.
        """
        transform = self._transform.facts() if self._transform else ()
        return None if transform is None else (self.augmentation, self.random_erasing, self.seed, view, *transform)

    # From a data set to batches.

    def serve(self, source: Callable[[ImageLoader, int], RowTable | None] | None) -> None:
        """From now on each pass asks `source(loader, view)` for a table to take its batches from.

        Where it gives None, and after `serve(None)`, batches hold images.
        """
        self._source = source

    def loader(self, split: str) -> ImageLoader:
        """Batches of a split for evaluation: in the order of the rows, without augmentation."""
        return self._evaluation_loader(self.dataset, self.index.rows(split), self._pixels)

    def train_dataloader(self) -> ImageLoader:
        preprocessing, index, trainer = self.preprocessing, self.index, self.trainer
        rows = index.rows("train")
        rank, world = self._rank_and_world()
        if len(rows) < 2 * world:
            raise UserError(f"{len(rows)} training images are too few for {world} processes; lower trainer.devices.")
        balanced_by = index.labels[rows] if self.sampler == "balanced" else None
        augmentation = Augmentation(self.augmentation, preprocessing, self.seed, self.random_erasing)
        samples = ImageSamples(index, preprocessing, augmentation, self._pixels, self.dataset.hashes, self._transform)

        def batches(epoch: int) -> list[np.ndarray]:
            return training_batches(epoch_order(rows, self.seed, epoch, balanced_by), self.batch_size, rank, world)

        return self._loader(
            samples,
            batches,
            epoch=lambda: trainer.current_epoch if trainer else 0,
            done=lambda: trainer.fit_loop.epoch_loop.batch_progress.current.ready if trainer else 0,
        )

    def val_dataloader(self) -> ImageLoader:
        return self.loader("val")

    def test_dataloader(self) -> ImageLoader:
        if not len(self.index.rows("test")):
            raise UserError(f"{self.index.root} has no labelled test images; give data.test_fraction to hold some out.")
        return self.loader("test")

    def predict_dataloader(self) -> ImageLoader:
        """Batches of `predict_root`, in the order of the rows of `predict_index`."""
        self.setup("predict")
        if self._predict is None:
            raise UserError("No images to predict were named: give data.predict_root files, folders or a CSV file.")
        keeps = self.pixel_cache != "off"
        self._predict, _ = usable(self._predict, self.preprocessing, self.on_bad_image == "skip", keeps)
        pixels = open_pixels(self._predict, self.preprocessing, self.pixel_cache == "on") if keeps else None
        return self._evaluation_loader(self._predict, np.arange(len(self._predict.index)), pixels)

    @property
    def predict_index(self) -> ImageIndex:
        """The images of `predict_root`; those that cannot be decoded are missing once the loader is made."""
        self.setup("predict")
        if self._predict is None:
            raise RuntimeError("There is no predict_root.")
        return self._predict.index

    def teardown(self, stage: str) -> None:
        for loader in self._loaders:
            loader.close()
        self._loaders.clear()

    def _rank_and_world(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _evaluation_loader(self, dataset: Dataset, rows: np.ndarray, pixels: PixelCache | None) -> ImageLoader:
        batches = evaluation_batches(rows, self.batch_size, *self._rank_and_world())
        samples = ImageSamples(dataset.index, self.preprocessing, None, pixels, dataset.hashes)
        return self._loader(samples, lambda epoch: batches)

    def _loader(self, samples: ImageSamples, batches: Callable, **progress: Callable[[], int]) -> ImageLoader:
        cpus = max(1, usable_cores() // (self.trainer.num_devices if self.trainer else 1))
        workers = self.workers
        if workers is None:
            # Beside a training step on the CPU, decoding threads beat processes (docs/performance.md).
            on_cpu = self.trainer is None or self.trainer.strategy.root_device.type == "cpu"
            workers = 0 if on_cpu else min(8, cpus - 1)
        if samples.transform:
            samples.transform.check_start()
            workers = max(1, workers)
        loader = ImageLoader(
            samples,
            batches,
            workers=workers,
            threads=min(8, cpus),
            views=self.views,
            source=lambda loader, view: self._source(loader, view) if self._source else None,
            **progress,
        )
        self._loaders.append(loader)
        return loader
