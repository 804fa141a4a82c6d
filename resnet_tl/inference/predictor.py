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
from resnet_tl.data.quality.audit import placeholders
from resnet_tl.data.reading.layouts import image_files
from resnet_tl.data.reading.options import Reading
from resnet_tl.data.reading.tables.table_files import is_table
from resnet_tl.errors import UserError, check_number, listed, printable
from resnet_tl.evaluation.predictions import table_of
from resnet_tl.evaluation.uncertainty.abstention import Answers
from resnet_tl.inference.answers import answers_of
from resnet_tl.inference.ensemble import Average, Ensemble
from resnet_tl.inference.given_images import Checked, ImageSource, as_list, checked, names_of
from resnet_tl.inference.preparing import Prepared, batches_of, in_batches, prepare
from resnet_tl.inference.tta import Tta, check_tta
from resnet_tl.terminal import counted

log = logging.getLogger(__name__)


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
        found: list[Checked]
        if all(is_path):
            reading = Reading(path_column=path_column, image_folder=image_folder, on_bad_image=on_bad_image)
            files = image_files(given, reading)
            if files.missing:
                named = f"{len(files.missing)} images that a table names: {NOT_THERE} ({listed(files.missing)})"
                log.warning(printable(f"Left out {named}"))
            ids, found = files.names, [files.root / name for name in files.names]
        else:
            found = [checked(number, image, self._takes_deep_arrays) for number, image in enumerate(given)]
            ids = names_of(found)
        bad, stops = placeholders(ids), on_bad_image == "stop"
        good, judged, unknown = self._judged(found, batch_size, bad, wanted=lambda: not (stops and bad))
        refuse_bad(ids, bad, skips=not stops, called="files" if all(is_path) else "images")
        if unknown:
            log.warning(
                "%d of %d images have more than 8 bits, but the model was trained on images of 8: values of 16 bits "
                "are taken as 0 to 65535; where yours fill less of that, save them as 8 bits first.",
                *(unknown, len(found)),
            )
        paths = [str(image) if isinstance(image, Path) else "" for image in found]
        table = table_of([ids[row] for row in good], [paths[row] for row in good], None, judged.shares, self.classes)
        if self.ensemble.references:
            table.insert(list(table).index("predicted") + 1, "familiarity", judged.familiarity)
        return answers.of(table)

    def prepare(self, image: ImageSource) -> Prepared:
        """One image, decoded, resized and cropped as each group of models sees it; safe to call from many threads.

        With `judge` the way of a server, which prepares images as they come and judges some at a time.

        Raises:
            BadImage: it cannot be decoded.
            UserError: it is no image at all, such as a folder.
        """
        return self._prepared(checked(0, image, self._takes_deep_arrays))

    def judge(self, prepared: Sequence[Prepared]) -> Judgement:
        """Judges some prepared images as one batch; safe to call from many threads, whose images do not mix.

        On a CPU an image gets the same numbers in whatever batch, to the bit.
        """
        if not prepared:
            return Judgement(np.empty((0, len(self.classes))), np.empty(0))
        return Judgement(*self.ensemble.judge(batches_of(prepared, self.tta), self.tta))

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
        paths = [index.path(row) for row in rows]
        shares = self._judged(paths, batch_size)[1].shares
        return table_of(
            [index.id(row) for row in rows], list(map(str, paths)), index.labels[rows], shares, self.classes
        )

    def _judged(
        self,
        images: Sequence[Checked],
        batch_size: int,
        bad: dict[int, str] | None = None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> tuple[list[int], Judgement, int]:
        """Places of the good images, what is said of them, and how many are of an unknown range; `bad` as `in_batches`.

        Once not `wanted` the rest is only decoded, so that all bad images are found.
        """
        places, found, unknown = list[int](), [self.judge([])], 0
        with counted("predicting", len(images)) as advance:
            for good, prepared in in_batches(images, self._prepared, batch_size, bad):
                if wanted():
                    found.append(self.judge(prepared))
                places += good
                unknown += sum(one.has_unknown_range for one in prepared)
                advance(len(good))
        return places, Judgement(*(np.concatenate(parts) for parts in zip(*found, strict=True))), unknown

    def _prepared(self, image: Checked) -> Prepared:
        return prepare(image, self.ensemble.groups, self.tta)


def refuse_bad(ids: Sequence[str], bad: Mapping[int, str], skips: bool, called: str) -> None:
    """Says which images cannot be used, by their places and the reasons; UserError unless it `skips` them."""
    if not bad:
        return
    reasons = "\n".join(f"  {ids[row]}: {reason}" for row, reason in sorted(bad.items()))
    of_all = f"{len(bad)} of {len(ids)} {called}"
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
