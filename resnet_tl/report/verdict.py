"""The verdict on a run in two sentences: how good and how sure, and what to be careful of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from resnet_tl.evaluation.accuracy import Accuracy
from resnet_tl.evaluation.intervals import wilson
from resnet_tl.evaluation.words import SPLITS, interval, percent
from resnet_tl.report.baselines import Judge, beside_the_best
from resnet_tl.report.facts import Found, is_solved, leaks_of
from resnet_tl.report.probabilities import Trust
from resnet_tl.run import Run


@dataclass(frozen=True)
class Verdict:
    """Two sentences, and what else one should know."""

    result: str
    caution: str
    further: tuple[str, ...]


def verdict(
    run: Run,
    judged: Sequence[Judge],
    split: str,
    test: Accuracy | None,
    trusted: Sequence[Trust],
    findings: Sequence[Found],
    counts: np.ndarray,
) -> Verdict:
    """On a run with predictions of a split; `test` is the accuracy on test images where those of val come first."""
    own = judged[0].accuracy
    model = run.recipe.get("model", {})
    is_head = model.get("mode") == "head" and not model.get("schedule")
    beside = beside_the_best(judged, is_head)
    result = f"{own} of the {own.images:,} {SPLITS[split]} images are judged correctly, {beside}."
    if test is not None:
        result = (
            f"{test} of the {test.images:,} test images, which had no part in training, are judged correctly; {result}"
        )
    cautions = _cautions(run, judged, split, own, trusted, findings, counts)
    return Verdict(result, f"Careful: {cautions[0]}.", tuple(f"{text[0].upper()}{text[1:]}." for text in cautions[1:]))


def _cautions(
    run: Run,
    judged: Sequence[Judge],
    split: str,
    own: Accuracy,
    trusted: Sequence[Trust],
    findings: Sequence[Found],
    counts: np.ndarray,
) -> list[str]:
    """The gravest first; there always is one."""
    found = []
    if leaks := leaks_of(findings):
        what = "1 finding says" if leaks == 1 else f"{leaks:,} findings say"
        found.append(f"{what} that images of one split are in another, so that the accuracy may be flattered")
    found += [warning.rstrip(".") for warning in own.warnings()]
    majority = judged[1]
    if majority.lead is not None and majority.lead.low <= 0:
        found.append(f"nothing shows that the model is better than {majority.said}")
    if trusted and (said := trusted[0].caution()):
        found.append(said)
    if weak := _weakest(run.data_facts["classes"], counts, own):
        found.append(weak)
    if split == "val" and (run.folds or run.summary["best_epoch"]):
        chosen = "penalty" if is_solved(run) else "epoch"
        found.append(
            f"the same images chose the {chosen}, which flatters these numbers a little; a test split, looked at once, "
            "would not"
        )
    if not found:
        found.append("the numbers hold for images like these, and for no others")
    return found


def _weakest(classes: Sequence[str], counts: np.ndarray, own: Accuracy) -> str:
    """The class that is surely judged worse than the images as a whole, as a clause."""
    from scipy.stats import binomtest

    images, correct = counts.sum(axis=1), counts.diagonal()
    worst = min(
        (place for place in range(len(counts)) if images[place]),
        key=lambda place: (correct[place] / images[place], place),
    )
    right, of = int(correct[worst]), int(images[worst])
    # Of many classes one is the worst by chance alone, hence Bonferroni's correction.
    chance = binomtest(right, of, own.share, alternative="less").pvalue * np.count_nonzero(images)
    if chance > 0.05 or len(classes) != len(counts):
        return ""
    share, (low, high) = right / of, wilson(right, of)
    return f"{classes[worst]} is judged correctly in {interval(share, low, high)} alone, not in {percent(own.share)}"
