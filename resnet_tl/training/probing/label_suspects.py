"""What there is to say of the labels of a data set, or of a run of folds: every image judged by others than itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from resnet_tl.data.content_hashes import hashes_and_headers
from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.data.index import ImageIndex
from resnet_tl.data.pixels.deep import ValueRange
from resnet_tl.data.quality.audit import audit_images
from resnet_tl.data.quality.duplicates import find_duplicates
from resnet_tl.data.splits import deal
from resnet_tl.data.value_range import find_value_range
from resnet_tl.errors import UserError, listed
from resnet_tl.evaluation.labels.label_noise import LabelNoise, fit_label_noise
from resnet_tl.evaluation.predictions import classes_of, label_numbers, probabilities
from resnet_tl.run import Run
from resnet_tl.training.classifier import ImageClassifier
from resnet_tl.training.probing.features import frozen_features
from resnet_tl.training.probing.out_of_fold import out_of_fold


@dataclass(frozen=True, eq=False)
class JudgedLabels:
    """The labels of some images, and what was found of them."""

    index: ImageIndex
    rows: np.ndarray  # of the index, (n,)
    labels: np.ndarray  # positions in `classes`, (n,)
    classes: tuple[str, ...]
    noise: LabelNoise
    clusters: np.ndarray  # equal for copies of one picture, (n,)
    judged_by: str  # in words
    not_judged: tuple[str, ...] = ()  # classes with too few images
    value_range: ValueRange | None = None


def judge_images(data: ImageDataModule, model: ImageClassifier, folds: int) -> JudgedLabels:
    """Judges the labels of all labelled images by heads on the features of a pretrained network, of mode `head`.

    Groups and copies of one picture are in one fold. UserError as of a fit that begins, for weights that are none, and
    where no two classes can be judged.
    """
    features = frozen_features(data, model, "cuda" if torch.cuda.is_available() else "cpu")
    index, clusters, origin = data.index, data.dataset.clusters, features.model.origin
    assert clusters is not None
    assert origin is not None
    rows = np.sort(np.concatenate([index.rows(split) for split in ("train", "val", "test")]))
    parts, labels = deal(index, rows, folds, data.seed, clusters), index.labels[rows]
    in_parts = [len(np.unique(parts[labels == label])) for label in range(len(index.classes))]
    judged = np.array(in_parts)[labels] > 1
    numbers, labels = np.unique(labels[judged], return_inverse=True)
    alone = tuple(name for name, count in zip(index.classes, in_parts, strict=True) if count < 2)
    if len(numbers) < 2:
        raise UserError(
            f"{index.root}: labels are judged by other images of their class, and these classes have none, copies and "
            f"groups aside: {listed(alone)}; add images."
        )
    rows = rows[judged]
    noise = out_of_fold(features.of(rows), labels, parts[judged])
    judged_by = f"{folds} heads on what {model.network.name} sees (weights: {origin.source})"
    classes = tuple(index.classes[number] for number in numbers)
    value_range = data.preprocessing.value_range
    return JudgedLabels(index, rows, labels, classes, noise, clusters[rows], judged_by, alone, value_range)


def judge_folds(run: Run, index: ImageIndex) -> JudgedLabels:
    """Judges the labels of a run of folds, whose images `index` has, by the networks that were not trained on them.

    UserError where these gave no numbers.
    """
    table = run.predictions("val")
    shares = probabilities(table)
    if not np.isfinite(shares).all():
        raise UserError(
            f"{run.predictions_file('val')} holds probabilities that are no numbers, by which no label can be judged; "
            "let heads judge them: --folds 5."
        )
    row_of = {name: row for row, name in enumerate(index.ids())}
    rows = np.array([row_of[name] for name in table["id"]])
    labels = label_numbers(table)
    contents, _, kinds = hashes_and_headers(index)
    audit = audit_images(index, contents, value_range=find_value_range(index, contents, kinds))
    clusters = find_duplicates(index, contents, audit).clusters(len(index))[rows]
    noise = fit_label_noise(labels, shares)
    judged_by = f"the {len(run.folds)} networks of {run.path}, each for the fold that it had not seen"
    return JudgedLabels(
        index, rows, labels, classes_of(table), noise, clusters, judged_by, value_range=audit.value_range
    )
