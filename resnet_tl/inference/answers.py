"""What a model's validation images say of new ones: the thresholds of prediction sets, and what abstaining is worth."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote

import pandas as pd

from resnet_tl.bundle import Bundle
from resnet_tl.errors import UserError
from resnet_tl.evaluation.abstention import Answers, check_share, reaching_words, selective_words
from resnet_tl.evaluation.calibration import at_temperature, held_out
from resnet_tl.evaluation.conformal import coverage_lines, guarantee, prediction_sets, thresholds
from resnet_tl.evaluation.judged import Judged
from resnet_tl.evaluation.predictions import label_numbers, probabilities
from resnet_tl.inference.tta import Tta


def check_options(coverage: float | None, per_class: bool, min_confidence: float | None) -> None:
    """UserError for a share that is none, and for `per_class` without what it is said of."""
    check_share("--coverage", coverage)
    check_share("--min_confidence", min_confidence)
    if per_class and coverage is None:
        raise UserError("--per_class is for the sets of --coverage, which is not given: give both.")


def why_not_measured(bundles: Sequence[Bundle], tta: Tta | None) -> str:
    """Why the validation images say nothing of what is asked for, as a clause; "" where they do."""
    if len(bundles) > 1:
        fold = bundles[0].path.parent
        way, run = "give one of them", quote(str(fold.parent.parent))
        if fold.parent.name == "folds":
            way += f", such as {fold}, or repeat them as one (resnet-tl fit --final {run})"
        return f"the average of {len(bundles)} models was measured on no image; {way}"
    if tta:
        return "the validation images were judged by a single view each; do without --tta"
    return ""


def check_one_model(bundles: Sequence[Bundle], option: str) -> None:
    """UserError where `option` is asked of an average, whose calibrated probabilities nobody measures."""
    if reason := why_not_measured(bundles, None):
        raise UserError(f"{option} is measured of one model, but {reason}.")


def judged_by(bundles: Sequence[Bundle], tta: Tta | None, option: str) -> Judged:
    """How the validation images were judged that a bundle holds; UserError where `option` cannot be had of them."""
    if reason := why_not_measured(bundles, tta):
        raise UserError(f"{option} needs what is known of validation images, but {reason}.")
    return Judged(**bundles[0].load_validation())


def answers_of(
    bundles: Sequence[Bundle],
    tta: Tta | None = None,
    calibrated: bool = True,
    coverage: float | None = None,
    per_class: bool = False,
    min_confidence: float | None = None,
) -> Answers:
    """Of the model of a bundle, or of several; the rest as in `Predictor` and `Predictor.predict`.

    Raises:
        UserError: a share is not between 0 and 1; or a coverage is asked for that cannot be had, as of an average,
            under test-time augmentation, of a bundle without validation images, or of too few of them.
    """
    check_options(coverage, per_class, min_confidence)
    is_own = calibrated or all(bundle.temperature == 1 for bundle in bundles)
    limits, said = None, list[str]()
    if coverage is not None:
        if not is_own:
            raise UserError("A coverage goes by calibrated probabilities; leave calibrated=False out.")
        judged = judged_by(bundles, tta, f"--coverage {coverage:g}")
        limits = thresholds(judged, bundles[0].classes, coverage, per_class)
        said.append(guarantee(judged, coverage, per_class, bundles[0].validation.get("repeats", False)))
    if min_confidence is not None:
        said.append(_worth_of(bundles, tta, is_own, min_confidence))
    return Answers(limits, min_confidence, tuple(said))


def _worth_of(bundles: Sequence[Bundle], tta: Tta | None, is_own: bool, min_confidence: float) -> str:
    """What the validation images say of answers from a confidence on, in a sentence."""
    if why_not_measured(bundles, tta) or not is_own or not bundles[0].validation:
        return f"How often answers from {min_confidence:g} on are correct was measured on no image."
    judged = judged_by(bundles, tta, "--min_confidence")
    whose = ", by the run that this one repeats," if bundles[0].validation.get("repeats") else ""
    return f"On validation{whose} it {selective_words(judged, min_confidence)}."


def measured_lines(
    table: pd.DataFrame, bundle: Bundle, answers: Answers, coverage: float | None, is_fitted_to_it: bool
) -> list[str]:
    """How the answers of one model do on the labelled images of a table of its own probabilities, in sentences.

    Where its temperature `is_fitted_to_it`, no image has a part in its own one, and thresholds say nothing of it.
    """
    labels, shares = label_numbers(table), probabilities(table)
    labels, shares = labels[labels >= 0], shares[labels >= 0]
    temperature = bundle.temperature
    shares = held_out(labels, shares, temperature) if is_fitted_to_it else at_temperature(shares, temperature)
    lines = []
    if answers.limits is not None and coverage is not None:
        sets = prediction_sets(shares, answers.limits)
        lines += coverage_lines(labels, sets, bundle.classes, coverage, is_fitted_to_it)
    if answers.min_confidence is not None:
        judged = Judged.of(labels, shares)
        lines.append(f"From {answers.min_confidence:g} on it {selective_words(judged, answers.min_confidence)}.")
        lines += [words for words in [reaching_words(judged)] if words]
    return lines
