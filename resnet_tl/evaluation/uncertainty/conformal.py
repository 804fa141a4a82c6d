"""Conformal prediction: for each image a set of classes that holds its own as often as one has asked for.

Split conformal sets with the score 1 - probability of the true class (Vovk, Gammerman, Shafer 2005, Algorithmic
Learning in a Random World; Sadinle, Lei, Wasserman 2019, Least Ambiguous Set-Valued Classifiers with Bounded Error
Levels). Of n labelled images the ceil((n + 1) coverage)-th smallest score is the threshold, and a set holds the classes
whose score is not above it. Where a new image and those n could change places, the chance that its class is in its set
is at least the coverage. A set that would be empty gets the most probable class: sets only grow by it, and the chance
with them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from resnet_tl.errors import UserError, listed
from resnet_tl.evaluation.intervals import wilson
from resnet_tl.evaluation.predictions import classes_of
from resnet_tl.evaluation.predictions import probabilities as probabilities_of
from resnet_tl.evaluation.uncertainty.judged import Judged
from resnet_tl.evaluation.words import interval, percent

ROUNDING = 1e-9
"""Of (n + 1) coverage, so that 100 times 0.99 is no more than 99."""


def rank(images: int, coverage: float) -> int:
    """Which score is the threshold, from 1 for the smallest; above `images` where they are too few for one."""
    return max(1, math.ceil((images + 1) * coverage - ROUNDING))


def images_for_coverage(coverage: float) -> int:
    """The fewest images that give a threshold: 9 for 0.9, 19 for 0.95, 99 for 0.99."""
    return max(1, math.ceil(coverage / (1 - coverage) - ROUNDING))


def threshold(label_probability: np.ndarray, coverage: float) -> float:
    """That of labelled images, by the probability (n,) of each one's class; 1, which every class is below, of too few.

    0 < coverage < 1.
    """
    place = rank(len(label_probability), coverage)
    return float(np.sort(1 - label_probability)[place - 1]) if place <= len(label_probability) else 1.0


def thresholds(judged: Judged, classes: Sequence[str], coverage: float, per_class: bool = False) -> np.ndarray:
    """The threshold of each class, (C,): the same of all images, or `per_class` that of its own (Mondrian).

    UserError where the images, or those of a class, are too few for the coverage.
    """
    needed, counts = images_for_coverage(coverage), np.bincount(judged.labels, minlength=len(classes))
    few = counts.min() if per_class else len(judged)
    if few < needed:
        most = math.floor(1000 * few / (few + 1)) / 1000
        rare = [f"{name} ({count})" for name, count in zip(classes, counts, strict=True) if count < needed]
        images = "validation images of each class" if per_class else "validation images"
        found = f"these have fewer: {listed(rare, 5)}" if per_class else f"the model has {few}"
        ways = [f"give --coverage {most:g} or less"] if most else []
        ways += ["do without --per_class"] if per_class else []
        raise UserError(
            f"--coverage {coverage:g} takes {needed} {images}, and {found}; "
            f"{', or '.join([*ways, 'validate on more images'])}."
        )
    if not per_class:
        return np.full(len(classes), threshold(judged.label_probability, coverage))
    own = (judged.label_probability[judged.labels == number] for number in range(len(classes)))
    return np.array([threshold(found, coverage) for found in own])


def prediction_sets(probabilities: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Which classes are in the set of each image, (N, C) bool, by the threshold of each class (C,); none is empty."""
    found = 1 - probabilities <= limits
    found[np.arange(len(found)), probabilities.argmax(axis=1)] = True
    return found


def with_sets(table: pd.DataFrame, limits: np.ndarray) -> pd.DataFrame:
    """A prediction table with the columns `set`, a JSON list of class names, the likeliest first, and `set_size`."""
    classes, probabilities = classes_of(table), probabilities_of(table)
    found = prediction_sets(probabilities, limits)
    order = np.argsort(-probabilities, axis=1, kind="stable")
    texts = [
        json.dumps([classes[place] for place in places if is_in[place]], ensure_ascii=False)
        for places, is_in in zip(order, found, strict=True)
    ]
    added = pd.DataFrame({"set": texts, "set_size": found.sum(axis=1)}, index=table.index)
    place = table.columns.get_loc("predicted")
    assert isinstance(place, int)
    return pd.concat([table.iloc[:, : place + 1], added, table.iloc[:, place + 1 :]], axis=1)


def expected_coverage(images: int, coverage: float) -> tuple[float, float]:
    """Between what the coverage by this one choice of images lies, with 95 %.

    Over choices it follows Beta(k, n + 1 - k), k the `rank` (Vovk 2012, Conditional Validity of Inductive Conformal
    Predictors, arXiv 1209.2673).
    """
    from scipy.stats import beta

    place = rank(images, coverage)
    low, high = beta.ppf([0.025, 0.975], place, images + 1 - place)
    return float(low), float(high)


def guarantee(judged: Judged, coverage: float, per_class: bool, repeats: bool = False) -> str:
    """What the sets are worth, in words; `repeats`: the images were judged by the run that the model's one repeats."""
    images = int(np.bincount(judged.labels).min()) if per_class else len(judged)
    low, high = (percent(share) for share in expected_coverage(images, coverage))
    of_what = "each class's new images" if per_class else "new images"
    few = f" (of the class with {images})" if per_class else ""
    caveat = (
        "They were judged by the run that this one repeats, by another network: it is to be expected, not guaranteed."
        if repeats
        else "It is approximate, for these images have also chosen the weights; `resnet-tl test` measures it on others."
    )
    return (
        f"Sets: of {of_what} like the {len(judged):,} of validation at least {percent(coverage)} have their class in "
        f"the set, averaged over such validations; by this one most likely between {low} and {high}{few}. {caveat}"
    )


def coverage_lines(
    labels: np.ndarray, sets: np.ndarray, classes: Sequence[str], coverage: float, is_own: bool
) -> list[str]:
    """How often labelled images (n,) have their class in their set (n, C), how large sets are, and the worst class.

    `is_own`: the thresholds were found on these images, so that their coverage says nothing.
    """
    is_in, sizes = sets[np.arange(len(labels)), labels], sets.sum(axis=1)
    said = f"{sizes.mean():.2f} classes on average, {percent((sizes == 1).mean())} of one, at most {sizes.max()}"
    share = interval(float(is_in.mean()), *wilson(int(is_in.sum()), len(is_in)))
    if is_own:
        end = (
            f"{said}. That {percent(is_in.mean())} of these images have their class in it follows from how the sets "
            "were made; `resnet-tl test` measures it on others."
        )
    else:
        end = f"{share} of {len(labels):,} images have their class in it; {said}."
    lines = [f"Sets at coverage {coverage:g}: {end}"]
    counts = np.bincount(labels, minlength=len(classes))
    covered = np.bincount(labels, weights=is_in, minlength=len(classes)).astype(int)
    worst = int(np.where(counts, covered / np.maximum(counts, 1), 2.0).argmin())
    share = interval(covered[worst] / counts[worst], *wilson(int(covered[worst]), int(counts[worst])))
    lines.append(f"The class covered least: {classes[worst]}, {share} of {counts[worst]:,} images.")
    return lines
