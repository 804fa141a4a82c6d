"""The numbers of a run or bundle on labelled images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from shlex import quote

import numpy as np
import pandas as pd

from resnet_tl.bundle_zip import is_bundle_zip
from resnet_tl.data.index import UNLABELLED, ImageIndex
from resnet_tl.data.reading.layouts import read_images
from resnet_tl.data.reading.options import BY_LOOKING, Reading
from resnet_tl.errors import UserError, listed, nearest
from resnet_tl.evaluation.comparing.comparison import check_same_images
from resnet_tl.evaluation.folds import out_of_fold
from resnet_tl.evaluation.metrics import compute_metrics
from resnet_tl.evaluation.words import SPLITS
from resnet_tl.files import from_cell
from resnet_tl.inference.ensemble import Average
from resnet_tl.inference.predictor import Predictor
from resnet_tl.inference.tta import Tta
from resnet_tl.run import Run, bundles_of

log = logging.getLogger(__name__)


def score(
    path: str | Path | Sequence[str | Path],
    split: str,
    root: str | Path | None = None,
    reading: Reading = BY_LOOKING,
    tta: Tta | None = None,
    average: Average | None = None,
) -> tuple[pd.DataFrame, dict[str, float]]:
    """The prediction table and metrics of a run on its split `val` or `test`, or of a run or bundle on other images.

    These are labelled images at `root`, of which `reading` says how they are read: their split of that name, or all of
    them when they have no splits. Of several runs it is their average that is judged, on the split that they share;
    `tta` and `average` as in `Predictor`. The probabilities are the networks' own, as a fit measures them, before they
    are calibrated.

    Raises:
        UserError: the run has no such split, its images are gone, the classes are not those of the network, or one of
            several runs may have been trained on images that another is judged on.
    """
    paths = [Path(path)] if isinstance(path, str | Path) else [Path(one) for one in path]
    if root is None and reading != BY_LOOKING:
        raise UserError("How images are read is said of other images than the run's own: name them with --root.")
    if root is None and split == "val" and len(paths) == 1 and (folds := _open(paths[0]).folds):
        if average:
            raise UserError("--average has no meaning for images that one fold each has not seen; leave it out.")
        bundles_of(paths[0])  # UserError unless all of them are trained
        table = out_of_fold([score(fold.path, split, tta=tta)[0] for fold in folds])
        return table, compute_metrics(table)
    for one in paths:
        _refuse_trained_on(one, split, root)
    index = _shared_images(paths, split) if root is None else read_images(Path(root), learns=False, reading=reading)
    if any(kind == "unread" for kind, _ in index.doubts):
        log.warning(f"{index.root}: {index.layout}")
    predictor = Predictor(paths, tta=tta, average=average, calibrated=False)
    index = _in_order_of(predictor.classes, index)
    rows = index.rows(split)
    if root is not None and not len(rows):
        rows = index.rows("")  # the images of a folder without splits
    if not len(rows):
        raise UserError(f"{root or paths[0]} has no {split} images; name labelled images with --root.")
    if root is not None:
        for run in map(Run, paths):
            with suppress(UserError):  # a bundle alone, or a run whose images are gone
                if seen := _trained_on(run, index, rows):
                    trained_on = f"{seen} of these {len(rows)} images"
                    log.warning(f"{run.path} was trained on {trained_on}: the numbers say little of new ones.")
    table = predictor.predict_rows(index, rows)
    return table, compute_metrics(table)


def _open(path: Path) -> Run:
    """An existing run; UserError, for a bundle alone with the way out."""
    try:
        return Run.open(path)
    except UserError as error:
        if (path / "model.json").is_file() or is_bundle_zip(path):
            raise UserError(f"{error} Name labelled images with --root.") from None
        raise


def _shared_images(paths: Sequence[Path], split: str) -> ImageIndex:
    """The images of the first run; UserError unless all were judged on the same ones of the split."""
    first, *others = runs = [_open(path) for path in paths]
    for run in runs:
        if run.folds and split == "val":
            raise UserError(
                f"{run.path} is a run of folds: most of its models were trained on each of its images, so that with "
                "another run they can only be judged on other labelled images; name them with --root."
            )
    index = own_images(first)
    for other in others:
        if seen := _trained_on(other, index, index.rows(split)):
            raise UserError(
                f"{other.path} was trained on {seen} of the {SPLITS[split]} images of {first.path}, so that their "
                "average has no honest number on them: name labelled images that none was trained on with --root, or "
                "train all with the same --data.split_seed."
            )
        check_same_images(first, other, split)
    return index


def _trained_on(run: Run, index: ImageIndex, rows: np.ndarray) -> int:
    """How many images a run was trained on, as far as they lie where they lay then."""
    own = own_images(run)
    learnt = np.concatenate([own.rows("train"), own.rows("val")]) if run.folds else own.rows("train")
    return len({index.path(row) for row in rows} & {own.path(row) for row in learnt})


def _refuse_trained_on(path: Path, split: str, root: str | Path | None) -> None:
    """Raises UserError where a run that was trained on its validation images too would be judged by them."""
    parent = Run(path).final_of if split == "val" else {}
    if not parent:
        return
    if root is None or Path(root).resolve() == Path(Run(path).data_facts["root"]):
        raise UserError(
            f"{path} was trained on its validation images too, so that they say nothing of it: validate the run that "
            f"it repeats (resnet-tl validate {quote(parent['run'])}), or name other images with --root."
        )


def own_images(run: Run) -> ImageIndex:
    """The index as the run wrote it: nothing is guessed again."""
    file = run.path / "data" / "index.csv"
    try:
        facts = run.data_facts
        root, classes = Path(facts["root"]), tuple(facts["classes"])
        table = pd.read_csv(file, dtype=str, keep_default_na=False).drop(columns="row").map(from_cell)
        numbers = {name: number for number, name in enumerate(classes)} | {"": UNLABELLED}
        table = table.assign(label=[numbers[label] for label in table["label"]])
        index = ImageIndex(root, table, classes, facts["layout"])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(
            f"{file} or the facts.json beside it is damaged ({error}); name the images with --root."
        ) from error
    if not root.exists():
        raise UserError(f"{root} does not exist, where the images of {run.path} were; name them with --root.")
    return index


def _in_order_of(classes: tuple[str, ...], index: ImageIndex) -> ImageIndex:
    """The same images with labels counted in the order of the network's outputs."""
    for name in index.classes:
        if name not in classes:
            raise UserError(
                f"{index.root} has the class '{name}', which the network does not know; it knows "
                f"{listed(classes)}.{nearest(name, classes)}"
            )
    positions = np.array([*(classes.index(name) for name in index.classes), UNLABELLED])  # -1 finds the last one
    return replace(index, table=index.table.assign(label=positions[index.labels]), classes=classes)
