"""Classifying images with a model bundle alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn

from resnet_tl.data.index import NOT_THERE, ImageIndex
from resnet_tl.data.loader import ImageLoader
from resnet_tl.data.order import evaluation_batches
from resnet_tl.data.quality.audit import placeholders
from resnet_tl.data.reading.indexing import without_labels
from resnet_tl.data.reading.layouts import unlabelled
from resnet_tl.data.reading.options import Reading
from resnet_tl.data.reading.tables.named_images import relative
from resnet_tl.data.reading.tables.table_files import is_table
from resnet_tl.data.samples import ImageSamples
from resnet_tl.data.threads import usable_cores
from resnet_tl.errors import UserError, check_number, listed, printable
from resnet_tl.evaluation.predictions import table_of
from resnet_tl.evaluation.uncertainty.abstention import Answers
from resnet_tl.inference.answers import answers_of
from resnet_tl.inference.ensemble import Average, Ensemble
from resnet_tl.inference.given_images import GivenImages, ImageSource, as_list, checked, stored_image
from resnet_tl.inference.tta import CropSamples, Tta, check_tta, crops
from resnet_tl.terminal import counted

log = logging.getLogger(__name__)


class Prepared(NamedTuple):
    """One image as `Predictor.judge` takes it."""

    seen: tuple[torch.Tensor, ...]  # by each group of models: (1, C, size, size) uint8, or its crops instead of the 1
    has_unknown_range: bool  # more than 8 bits, but the model was trained on images of 8


class Judgement(NamedTuple):
    """What is said of n images."""

    shares: np.ndarray  # probabilities (n, classes) float64, calibrated where the predictor is
    familiarity: np.ndarray  # (n,) from 0 to 1, nan where the model cannot tell


class Predictor:
    """One or several trained networks, each with its own preprocessing, and their class names.

    Args:
        path: a run, a model bundle, or a checkpoint of a fit; or several, whose probabilities are averaged.
        device: such as cpu, cuda or mps; default: the fastest at hand.
        network: the user's own network, for a bundle of one; it is given the bundle's weights.
        tta: test-time augmentation, the mean of the logits over several views of each image: `mirror`, it and its
            mirror image; `dihedral`, its eight flips and quarter turns; `crops`, its centre and corners. Default: none.
        average: of several models `arithmetic`, the mean of their probabilities (default), or `geometric`.
        calibrated: whether probabilities are made as often right as they say, by the temperature that a fit has found
            on its validation images; else they are the network's own. The classes predicted are the same.

    Raises:
        UserError: there is no such thing, it is damaged, or several do not know the same classes.
    """

    def __init__(
        self,
        path: str | Path | Iterable[str | Path],
        device: str | None = None,
        network: nn.Module | None = None,
        tta: Tta | None = None,
        average: Average | None = None,
        calibrated: bool = True,
    ) -> None:
        paths = [path] if isinstance(path, str | Path) else path
        self.ensemble = Ensemble([Path(one) for one in paths], usable_device(device), network, average, calibrated)
        check_tta(tta, self.ensemble.groups)
        self.tta = tta
        self.calibrated = calibrated

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names in the order of the network's outputs; of several models the first one's order."""
        return self.ensemble.classes

    def predict(
        self,
        images: ImageSource | Iterable[ImageSource],
        batch_size: int = 32,
        on_bad_image: Literal["stop", "skip"] = "stop",
        path_column: str | None = None,
        image_folder: str | None = None,
        coverage: float | None = None,
        per_class: bool = False,
        min_confidence: float | None = None,
    ) -> pd.DataFrame:
        """The prediction table of images on disk or in memory; each is decoded once for all models that see it alike.

        On disk: files, folders, patterns such as `photos/*.jpg`, or a table that names images; one or several.
        `path_column` is the column that names them and `image_folder` where they are, if looking does not tell.
        The rows are in the natural order of their paths.

        Of a model of a fit with validation images the table says in `familiarity`, from 0 to 1, how familiar an image
        looks: which share of them is at least as far from the training images (`evaluation.uncertainty.familiarity`).

        In memory: PIL images, the bytes of image files or what they can be read from, and arrays (H, W) or (H, W, C) of
        uint8 with 1, 3 or 4 channels; where the model was trained on more than 8 bits, arrays of such values too. One
        or several, also among files; an array (N, H, W, C) is N of them. The rows are in the order given, the id of
        what has no path is its place ("0", "1", ...), and its path is "". The numbers are those of the file; but a
        large JPEG file is decoded at a fraction of its size, so that the last digits may differ for what was decoded
        before.

        With a `coverage`, such as 0.95, the table has prediction sets: `set`, a JSON list of class names that holds the
        image's own that often, and `set_size`; `per_class`, so often in each class. With a `min_confidence`, such as
        0.8, `predicted` is "" where the largest probability is below it. `answers` says what they are worth.

        Raises:
            UserError: a coverage cannot be had of the model; there are no images, or, unless `on_bad_image` is skip,
                some cannot be decoded; all are listed.
        """
        check_number("batch_size", batch_size, is_whole=True)
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}; it must be 1 or more.")
        if on_bad_image not in ("stop", "skip"):
            raise UserError(f"on_bad_image is '{on_bad_image}'; it must be stop or skip.")
        answers = self.answers(coverage, per_class, min_confidence)
        given = as_list(images)
        is_path = [isinstance(image, str | Path) for image in given]
        are_tables = all(is_path) and any(is_table(Path(path)) for path in given)
        if (path_column or image_folder) and not are_tables:
            option = "path_column" if path_column else "image_folder"
            raise UserError(f"--data.{option} is for tables that name images, and none is given; leave it out.")
        if all(is_path):
            reading = Reading(path_column=path_column, image_folder=image_folder, on_bad_image=on_bad_image)
            in_memory, index = None, unlabelled(given, reading)
            if index.missing:
                named = f"{len(index.missing)} images that a table names: {NOT_THERE} ({listed(index.missing)})"
                log.warning(printable(f"Left out {named}"))
        else:
            is_deep = self._takes_deep_arrays
            in_memory = [checked(number, image, is_deep) for number, image in enumerate(given)]
            names = [
                relative(str(image), Path.cwd()) if isinstance(image, Path) else str(number)
                for number, image in enumerate(in_memory)
            ]
            index = without_labels(Path.cwd(), names, "images in memory")
        bad, stops = placeholders(index), on_bad_image == "stop"
        samples = [GivenImages(index, in_memory, seen, bad) for seen in self.ensemble.groups]
        rows = np.arange(len(index))
        shares, familiar = self._judged(samples, rows, batch_size, wanted=lambda: not (stops and bad))
        refuse_bad(index, bad, skips=not stops, called="files" if in_memory is None else "images")
        if unknown_range := max(len(seen.unknown_range) for seen in samples):
            log.warning(
                "%d of %d images have more than 8 bits, but the model was trained on images of 8: values of 16 bits "
                "are taken as 0 to 65535; where yours fill less of that, save them as 8 bits first.",
                *(unknown_range, len(index)),
            )
        rows = np.array([row for row in range(len(index)) if row not in bad], np.int64)
        table = self._table(index, rows, shares[rows])
        if self.ensemble.references:
            table.insert(list(table).index("predicted") + 1, "familiarity", familiar[rows])
        if in_memory is not None:
            table.loc[[not isinstance(in_memory[row], Path) for row in rows], "path"] = ""
        return answers.of(table)

    def prepare(self, image: ImageSource) -> Prepared:
        """One image, decoded, resized and cropped as each group of models sees it; safe to call from many threads.

        With `judge` the way of a server, which prepares images as they come and judges some at a time.

        Raises:
            BadImage: it cannot be decoded.
            UserError: it is no image at all, such as a folder.
        """
        given, seen, is_unknown = checked(0, image, self._takes_deep_arrays), [], False
        for planned in self.ensemble.groups:
            stored, is_unknown = stored_image(given, planned)
            parts = crops(planned, stored) if self.tta == "crops" else [planned.centre(stored)]
            seen.append(_stacked(parts))  # a copy: what waits in a queue keeps no more of a long image than is seen
        return Prepared(tuple(seen), is_unknown)

    def judge(self, prepared: Sequence[Prepared]) -> Judgement:
        """Judges some prepared images as one batch; safe to call from many threads, whose images do not mix.

        On a CPU an image gets the same numbers in whatever batch, to the bit.
        """
        if not prepared:
            return Judgement(np.empty((0, len(self.classes))), np.empty(0))
        batches = [_stacked(images) for images in zip(*(one.seen for one in prepared), strict=True)]
        if self.tta != "crops":
            batches = [batch[:, 0] for batch in batches]
        return Judgement(*self.ensemble.judge(batches, self.tta))

    @property
    def _takes_deep_arrays(self) -> bool:
        return all(seen.value_range is not None for seen in self.ensemble.groups)

    def answers(
        self, coverage: float | None = None, per_class: bool = False, min_confidence: float | None = None
    ) -> Answers:
        """What `predict` does by a coverage and a confidence; `.said` is what they are worth, by the validation images.

        UserError where a coverage cannot be had of the model.
        """
        bundles = [member.bundle for member in self.ensemble.members]
        return answers_of(bundles, self.tta, self.calibrated, coverage, per_class, min_confidence)

    def predict_rows(self, index: ImageIndex, rows: np.ndarray, batch_size: int = 32) -> pd.DataFrame:
        """The prediction table of some rows of an index, labelled where that is; BadImage for a file that is bad."""
        samples = [ImageSamples(index, seen) for seen in self.ensemble.groups]
        return self._table(index, rows, self._judged(samples, rows, batch_size)[0])

    @torch.inference_mode()
    def _judged(
        self,
        samples: Sequence[ImageSamples],
        rows: np.ndarray,
        batch_size: int,
        wanted: Callable[[], bool] = lambda: True,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of some rows the probabilities (n, classes) and familiarity (n,); once not `wanted` the rest is only decoded.

        `samples` are the images as each group of the ensemble sees them; the groups go through them side by side.
        """
        seen = [CropSamples(one) for one in samples] if self.tta == "crops" else samples
        batches, threads = evaluation_batches(rows, batch_size), min(8, usable_cores())
        loaders = [ImageLoader(one, lambda epoch: batches, threads=threads) for one in seen]
        found = [(np.empty((0, len(self.classes))), np.empty(0))]
        with counted("predicting", len(rows)) as advance:
            for parts in zip(*loaders, strict=True):
                if wanted():
                    found.append(self.ensemble.judge([part["image"] for part in parts], self.tta))
                advance(len(parts[0]["row"]))
        shares, familiar = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return shares, familiar

    def _table(self, index: ImageIndex, rows: np.ndarray, shares: np.ndarray) -> pd.DataFrame:
        return table_of(
            ids=[index.id(row) for row in rows],
            paths=[str(index.path(row)) for row in rows],
            labels=index.labels[rows],
            shares=shares,
            classes=self.classes,
        )


def _stacked(images: Sequence[torch.Tensor]) -> torch.Tensor:
    """Images (..., C, H, W) as one tensor, in memory with the channels last, as the loaders' batches are."""
    return torch.stack([image.movedim(-3, -1) for image in images]).movedim(-1, -3)


def refuse_bad(index: ImageIndex, bad: Mapping[int, str], skips: bool, called: str) -> None:
    """Says which images of an index cannot be used, by the reasons of their rows; UserError unless it `skips` them."""
    if not bad:
        return
    reasons = "\n".join(f"  {index.id(row)}: {reason}" for row, reason in sorted(bad.items()))
    of_all = f"{len(bad)} of {len(index)} {called}"
    if not skips:
        raise UserError(
            f"{of_all} cannot be used as images; remove them, or leave them out with --on_bad_image skip:\n{reasons}"
        )
    log.warning("Left out %s, which cannot be used as images:\n%s", of_all, reasons)


def usable_device(name: str | None) -> torch.device:
    """The device of that name, or the fastest at hand; UserError for one that is not here."""
    here = [device for device, module in (("cuda", torch.cuda), ("mps", torch.backends.mps)) if module.is_available()]
    here.append("cpu")
    if name is not None and name.partition(":")[0] not in here:
        raise UserError(f"The device is '{name}'; on this machine it must be {' or '.join(here)}.")
    return torch.device(name or here[0])
