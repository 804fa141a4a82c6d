"""The images on which an exported file is compared with the model it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resnet_tl.bundle_zip import is_bundle_zip
from resnet_tl.data.index import ImageIndex
from resnet_tl.data.reading.options import Reading
from resnet_tl.errors import UserError
from resnet_tl.evaluation.words import SPLITS
from resnet_tl.inference.embedding import images_and_labels
from resnet_tl.inference.scoring import own_images
from resnet_tl.run import Run

MOST = 2000
"""Images that are compared; of more, so many are drawn evenly: enough for a change of one point to be seen."""


@dataclass(frozen=True, eq=False)
class VerificationImages:
    """Rows of an index; `source` says what they are, such as "validation images"."""

    index: ImageIndex
    rows: np.ndarray  # (n,) int64
    labels: np.ndarray  # (n,) int64, numbers of the model's classes, -1 where there is none
    source: str

    def drawn(self, most: int = MOST) -> tuple[np.ndarray, np.ndarray]:
        """Rows and labels of at most so many images, evenly over all of them."""
        places = np.linspace(0, len(self.rows) - 1, min(most, len(self.rows))).round().astype(np.int64)
        return self.rows[places], self.labels[places]


def images_for(model: Path, given: Sequence[str], classes: Sequence[str]) -> VerificationImages:
    """Those that are given, files, folders or tables, labelled or not; else the validation images of the model's run.

    Of a run without validation images its test or training images: whether two programs agree, any image shows.

    Raises:
        UserError: none are given for a bundle alone, there are none, or the run's lie no more where they lay.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    if given:
        index, names = images_and_labels(given, Reading(on_bad_image="skip"))
        labels = np.array([numbers.get(name, -1) for name in names], np.int64)
        return VerificationImages(index, np.arange(len(index)), labels, "images given")
    run = run_of(model)
    if run is None:
        raise UserError(
            f"{model} has no images of its own, on which the exported file could be verified: name some with --images, "
            "such as a folder of photos."
        )
    index = _own_images(run)
    for split in ("val", "test", "train"):
        if len(rows := index.rows(split)):
            of_index = np.array([*(numbers.get(name, -1) for name in index.classes), -1])
            seen = ", which it was trained on too" if split == "val" and run.final_of else ""
            return VerificationImages(index, rows, of_index[index.labels[rows]], f"{SPLITS[split]} images{seen}")
    raise UserError(f"{run.path} has no images; name some to verify the exported file with --images.")


def scaling_images(model: Path, found: VerificationImages, most: int) -> tuple[VerificationImages, VerificationImages]:
    """The images that choose the scales of 8-bit integers, at most `most`, and those of `found` that verify them.

    Training images of the run of a model. Of a bundle alone every second image that is given: those that verify must
    be others. UserError where there are too few, or the run's lie no more where they lay.
    """
    run = run_of(model)
    if run is not None:
        index, source = _own_images(run), "training images"
        rows = index.rows("train")
        chosen = VerificationImages(index, rows, index.labels[rows], source)
    else:
        source = f"{found.source}, every second one"
        chosen, found = (
            VerificationImages(found.index, found.rows[start::2], found.labels[start::2], source) for start in (1, 0)
        )
    if not len(chosen.rows):
        lacks = "is a bundle alone, and one image is given" if run is None else f"has no {source}"
        raise UserError(f"{model} {lacks} for --int8; give a run, or several --images of the training's kind.")
    return VerificationImages(chosen.index, *chosen.drawn(most), chosen.source), found


def run_of(model: Path) -> Run | None:
    """The run that a path lies in: itself, or that of a bundle or a checkpoint inside it; None for a bundle alone."""
    model = model.absolute()
    is_checkpoint = model.is_file() and not is_bundle_zip(model)
    outside = model.parent.parent if is_checkpoint else model.parent if model.name == "model" else model
    return next((Run(path) for path in (model, outside) if (path / "recipe.yaml").is_file()), None)


def _own_images(run: Run) -> ImageIndex:
    try:
        return own_images(run)
    except UserError as error:
        raise UserError(str(error).replace("--root", "--images")) from error
