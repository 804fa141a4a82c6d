"""The probability from which a model's answers count as sure: what its validation images say of it."""

from __future__ import annotations

from dataclasses import dataclass

from resnet_tl.evaluation.uncertainty.abstention import TARGETS, confidence_reaching
from resnet_tl.evaluation.uncertainty.judged import Judged
from resnet_tl.evaluation.words import percent


@dataclass(frozen=True)
class Sureness:
    """The probability from which answers are sure, and of the validation images the share that is, and its accuracy.

    Raises:
        ValueError: one of them is no number over 0 and up to 1.
    """

    sure_from: float
    answered: float
    accuracy: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, float) or not 0 < value <= 1:
                raise ValueError(f"its {name} is {value!r}; it must be over 0 and up to 1")

    @classmethod
    def of(cls, judged: Judged) -> Sureness | None:
        """The least from which answers reach the first of `TARGETS` above the accuracy of all; None for none."""
        overall = judged.is_correct.mean() if len(judged) else 1.0
        for target in TARGETS:
            if target > overall and (found := confidence_reaching(judged, target)):
                sure_from = float(found[0])
                is_sure = judged.probability >= sure_from
                return cls(sure_from, float(is_sure.mean()), float(judged.is_correct[is_sure].mean()))
        return None

    def __str__(self) -> str:
        return (
            f"Answers with a probability below {self.sure_from} are marked as not sure; {percent(self.answered)} of "
            f"those on the validation images are surer, and of these {percent(self.accuracy)} are correct."
        )
