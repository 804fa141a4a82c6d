"""Whether a model gives on this machine the predictions that it was made with."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from resnet_tl.bundle import Bundle
from resnet_tl.data.content_hashes import digest_of
from resnet_tl.data.pixels.decode import DECODER, read_file
from resnet_tl.data.threads import for_each
from resnet_tl.evaluation.repeated import KEPT_BYTES, ROUGH_TOLERANCE, TOLERANCE, Answer, Repeated, answers, repeated
from resnet_tl.inference.predictor import usable_device
from resnet_tl.run import Run, bundles_of


class Verification(NamedTuple):
    """Of one model on this machine."""

    found: Repeated | None  # None where nothing could be compared
    by_content: bool  # else by the names of images, whose files may have changed
    decoders: tuple[str, str]  # when it was made, and here
    why_not: str = ""  # compared, as a clause

    def lines(self) -> list[str]:
        """What is to be said, in sentences."""
        if self.found is None:
            return [f"Not compared with what it gave when it was made: {self.why_not}."]
        lines, (then, here) = [self.found.words()], self.decoders
        if then != here:
            lines.append(f"Its images were decoded by {then or 'an unknown version'}; here it is {here}.")
        if self.found.differing and not self.by_content:
            lines.append("Images were compared by their names; their files may have changed since.")
        return lines


def verified(path: Path, table: pd.DataFrame, is_own: bool) -> Verification:
    """Compares a prediction table of validation images with what the model at `path` gave when it was made.

    Images are known by their content, if the bundle keeps that, wherever they lie; else
    images that are the run's own (`is_own`) are known by their names. Where neither will do, or the run is one of
    folds, it says why.
    """
    if len(bundles := bundles_of(path)) > 1:
        return Verification(None, False, ("", DECODER), "a run of folds is several models")
    bundle = Bundle.open(bundles[0])
    is_rough = bundle.precision != "32-true" or {bundle.validation.get("device"), usable_device(None).type} != {"cpu"}
    tolerance, decoders = ROUGH_TOLERANCE if is_rough else TOLERANCE, (bundle.preprocessing.decoder, DECODER)
    keys: Sequence[Hashable]
    if kept := bundle.load_own():
        predicted = [bundle.classes[number] for number in bundle.load_validation()["predicted"]]
        keys, known = _contents(table), [row.tobytes() for row in kept["content"]]
        made = [*map(Answer, predicted, kept["own_probability"].tolist())]
    elif is_own and (run := Run(path)).predictions_file("val").is_file():
        then = run.predictions("val")
        keys, known, made = table["id"].tolist(), then["id"].tolist(), answers(then)
    else:
        why_not = "the model keeps nothing by which its validation images could be known again"
        if bundle.validation.get("repeats"):
            why_not = "its validation images were judged by the run that it repeats"
        elif bundle.validation:
            why_not += ", as one of an earlier version; its run, without --root, is compared with its own table"
        return Verification(None, False, decoders, why_not)
    found = repeated(table, keys, known, made, tolerance)
    why_not = f"none of these is one of the {len(known):,} images that it was validated on"
    return Verification(found, bool(kept), decoders, why_not)


def _contents(table: pd.DataFrame) -> list[bytes]:
    """The beginning of the hash of each image's file."""
    paths, found = table["path"].tolist(), [b""] * len(table)

    def work(row: int) -> None:
        found[row] = digest_of(read_file(paths[row]))[:KEPT_BYTES]

    for_each(np.arange(len(table)), work, "comparing")
    return found
