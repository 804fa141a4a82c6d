"""A data set: its images with their classes, splits, contents and sizes, and what was found wrong with them."""

from __future__ import annotations

import hashlib
import logging
import os
import shlex
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from resnet_tl import cache
from resnet_tl.data.content_hashes import digest_in_order, hashes_and_headers
from resnet_tl.data.index import NOT_THERE, ImageIndex
from resnet_tl.data.options import DataOptions, PixelCacheMode
from resnet_tl.data.pixels.deep import ValueRange
from resnet_tl.data.pixels.pixel_cache import PixelCache, keep_pixels, stored_bytes
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.data.quality.audit import Audit, audit_images
from resnet_tl.data.quality.duplicates import find_duplicates
from resnet_tl.data.quality.findings import COLUMNS, find_all, in_one_line, refuse_leaks, refuse_lost_classes
from resnet_tl.data.reading.catalog import fetch
from resnet_tl.data.reading.exclude import without_excluded
from resnet_tl.data.reading.layouts import from_dataframe, read_images
from resnet_tl.data.reading.options import BY_LOOKING, Reading
from resnet_tl.data.reading.relabel import relabelled
from resnet_tl.data.splits import assign_fold, assign_splits, pooled
from resnet_tl.data.value_range import find_value_range, in_words
from resnet_tl.errors import UserError
from resnet_tl.timing import measure

log = logging.getLogger(__name__)

UNKNOWN_SIDE = 224
"""Stands for the short side where no file has a readable header: decoding then says what is wrong with each."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """What is known of a data set; a step that learns more makes a new one.

    `all_hashes` has those of unusable files that were left out since; they name what is kept of the images.
    """

    index: ImageIndex
    hashes: np.ndarray  # of the files' contents, (N, 32) uint8
    sizes: np.ndarray  # widths and heights by the files' headers, (N, 2) int32; zeros where unknown
    short_side: int  # the median by the headers, in pixels
    all_hashes: np.ndarray
    kinds: np.ndarray  # of the files' values, (N,) uint8, as of `pixels.deep`
    findings: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=COLUMNS))
    skipped: dict[str, str] = field(default_factory=dict)  # why an image was left out, by its path
    clusters: np.ndarray | None = None  # (N,) equal where two images show the same picture; None before the check

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names in the order of the network's outputs."""
        return self.index.classes

    @cached_property
    def value_range(self) -> ValueRange | None:
        """The range of the values in images of more than 8 bits; None where there are no such images."""
        with measure("pixels"):
            return find_value_range(self.index, self.hashes, self.kinds)

    def contents_digest(self, rows: np.ndarray) -> str:
        """One digest of the contents of some rows' files, in their order: it names what is computed from them."""
        return digest_in_order(self.hashes[rows])

    def identity(self) -> str:
        """One digest of what is learned from and judged by: each image's contents, class and split."""
        labels = "\0".join(self.classes[label] if label >= 0 else "" for label in self.index.labels)
        splits = "\0".join(self.index.table["split"])
        return hashlib.sha256(f"{digest_in_order(self.hashes)}\n{labels}\n{splits}".encode()).hexdigest()


def read_dataset(
    root: str | os.PathLike[str] | None = None,
    source: str | None = None,
    frame: pd.DataFrame | None = None,
    exclude: str | os.PathLike[str] | None = None,
    reading: Reading = BY_LOOKING,
    relabel: str | os.PathLike[str] | None = None,
) -> Dataset:
    """Reads which images there are; none is decoded, and splits are those that were given.

    Args as of `DataOptions`; `root` overrides `source`, and is what the paths of `frame` are relative to.

    Raises:
        UserError: nothing to read, or what is there cannot be a labelled data set.
    """
    if root is not None and not str(root).strip():
        raise UserError("data.root is empty; name a folder, or . for the current one.")
    if frame is not None:
        index = from_dataframe(frame, Path(root) if root is not None else None, reading)
    elif root is not None:
        index = read_images(Path(root), reading=reading)
    elif source is not None:
        index = read_images(fetch(source), reading=reading)
    else:
        raise UserError(
            "No images were named: give data.root a folder or zip of images, "
            "or data.source a name from `resnet-tl data list`."
        )
    refuse_lost_classes(index)
    index = index if relabel is None else relabelled(index, relabel)
    return dataset_of(index if exclude is None else without_excluded(index, exclude))


def dataset_of(index: ImageIndex) -> Dataset:
    """The data set of an index, nothing of it decoded."""
    log.info(f"reading {len(index):,} images in {index.root}")
    with measure("pixels"):
        hashes, sizes, kinds = hashes_and_headers(index)
    sides = sizes.min(axis=1)
    short_side = int(np.median(sides[sides > 0])) if sides.any() else UNKNOWN_SIDE
    skipped = dict.fromkeys(index.missing, NOT_THERE)
    return Dataset(index, hashes, sizes, short_side, hashes, kinds, skipped=skipped)


def checked(dataset: Dataset, preprocessing: Preprocessing, options: DataOptions) -> Dataset:
    """Decodes what no earlier run has, and gives the data set of the usable images, with splits and findings.

    Raises:
        UserError: images that cannot be decoded, splits that cannot be made or that share images.
    """
    dataset, audit = usable(dataset, preprocessing, options)
    index, may_leak = dataset.index, options.on_leak == "warn"
    for name, split, default in (("val_fraction", "val", 0.2), ("test_fraction", "test", 0.0)):
        if getattr(options, name) != default and split in set(index.table["split"]):
            log.info(f"{index.root} has a {split} split of its own: data.{name} is not used")
    if options.folds is not None:
        index = pooled(index)  # a val split takes part: every image but those of the test is judged once
    with measure("pixels"):
        duplicates = find_duplicates(index, dataset.hashes, audit)
    clusters = duplicates.clusters(len(index))
    findings = find_all(index, audit, dataset.hashes, duplicates)  # before our own split, as `data check` does
    index = _split(index, options, clusters)
    if said := in_words(dataset.kinds, preprocessing.value_range):
        log.info(said if options.value_range is None else f"{said}, as set")
    elif options.value_range is not None:
        log.info(f"{index.root} has no images of more than 8 bits: data.value_range is not used in training")
    log.info(f"{index.root}: {index.layout}; {index.summary()}")
    for kind, detail in index.doubts:
        if kind == "structure":
            log.warning(f"{index.root}: {detail}")
    if not may_leak:
        refuse_leaks(index, findings)
    if len(findings):
        log.info(f"found in the images: {in_one_line(findings)}{_shown_by(options, index)}")
    return replace(dataset, index=index, findings=findings, clusters=clusters)


def _split(index: ImageIndex, options: DataOptions, clusters: np.ndarray) -> ImageIndex:
    """The index with its splits: those given, ours, or those of a fold; without val where all of it trains."""
    seed = options.seed if options.split_seed is None else options.split_seed
    is_plain = options.folds is None and not options.final
    # Also where no val is asked for, so that a test that is split off here is the same for all.
    fractions = options.val_fraction, options.test_fraction
    made = assign_splits(index, *fractions, seed, clusters, options.on_leak == "warn", validates=is_plain)
    if is_plain:
        return made
    has_new_test = {"test"} <= set(made.table["split"]) - set(index.table["split"])
    if options.val_fraction != 0.2 and not has_new_test and "val" not in set(index.table["split"]):
        log.info("data.val_fraction is not used: " + ("the folds say" if options.fold else "nothing is held out"))
    held = f"; split off here: test {options.test_fraction:.0%}, seed {seed}" if has_new_test else ""
    made = replace(pooled(made), layout=f"{index.layout}{held}")
    if options.fold is not None and options.folds is not None:
        return assign_fold(made, options.fold, options.folds, seed, clusters)
    return replace(made, layout=f"{made.layout}; train and validation together")


def _shown_by(options: DataOptions, index: ImageIndex) -> str:
    """The command that shows each finding, as a clause; none where the images are those of a table in memory."""
    if options.frame is not None:
        return ""
    root = index.root if options.root is None else options.root
    lists = {"--relabel": options.relabel, "--exclude": options.exclude}
    given = [word for name, file in lists.items() if file is not None for word in (name, str(file))]
    return f"; to see them: {shlex.join(['resnet-tl', 'data', 'check', str(root), *given])}"


def usable(dataset: Dataset, preprocessing: Preprocessing, options: DataOptions) -> tuple[Dataset, Audit]:
    """The data set without the files that cannot be decoded, and the audit of those that can.

    Raises:
        UserError: there are such files, and they are not to be skipped.
    """
    index, hashes, channels = dataset.index, dataset.hashes, preprocessing.channels
    with measure("pixels"):
        if options.pixel_cache != "off":  # which makes the audit on the way
            keep_pixels(index, hashes, preprocessing, dataset.sizes, dataset.all_hashes)
        audit = audit_images(index, hashes, channels, preprocessing.value_range)
    if not audit.bad:
        return dataset, audit
    bad = {index.id(row): reason for row, reason in audit.bad.items()}
    lines = [f"  {path}: {reason}" for path, reason in bad.items()]
    listed = "\n".join(lines if len(bad) <= 20 else [*lines[:20], f"  and {len(bad) - 20} more"])
    found = f"{len(bad)} of {len(index)} files in {index.root} cannot be used as images"
    if options.on_bad_image == "stop":
        raise UserError(f"{found}; remove them, or leave them out with --data.on_bad_image skip:\n{listed}")
    log.warning(f"{found} and are left out:\n{listed}")
    rows = list(audit.bad)
    names = ("hashes", "sizes", "kinds")
    good = {name: np.delete(getattr(dataset, name), rows, axis=0) for name in names}
    skipped = {**dataset.skipped, **bad}
    return replace(dataset, index=index.without(rows), skipped=skipped, **good), audit.without_bad()


def open_pixels(dataset: Dataset, preprocessing: Preprocessing, mode: PixelCacheMode) -> PixelCache | None:
    """The stored images on disk, for all processes and later runs; None where they are not kept.

    Raises:
        UserError: there is no room, and the mode is on.
    """
    if mode == "off":
        return None
    with measure("pixels"):
        folder = keep_pixels(dataset.index, dataset.hashes, preprocessing, dataset.sizes, dataset.all_hashes)
        if folder:
            with suppress(OSError, ValueError, EOFError):  # just removed by another run, or damaged
                return PixelCache(folder, dataset.hashes, preprocessing.channels)
            return None
    gibibytes = stored_bytes(dataset.sizes, preprocessing) / 2**30
    found = f"{gibibytes:.1f} GiB of decoded images cannot be kept in {cache.cache_root()}"
    if mode == "on":
        raise UserError(
            f"data.pixel_cache is on, but {found}; make room there, raise RESNET_TL_CACHE_LIMIT (in GiB), or leave it "
            "at auto."
        )
    log.info(f"{found}: every epoch decodes them again (data.pixel_cache)")
    return None
