"""From where on answers are sure: the figures are those that were reached, not those that were wished for."""

from __future__ import annotations

import numpy as np
import pytest

from resnet_tl.evaluation.uncertainty.judged import Judged
from resnet_tl.evaluation.uncertainty.sureness import Sureness


def judged(wrong: int, sure_and_wrong: int = 0) -> Judged:
    """A thousand images of ever larger probability; the least probable ones are wrong, and some of the surest."""
    probability, labels = np.linspace(0.5, 0.9, 1000), np.zeros(1000, np.int64)
    labels[:wrong] = 1
    labels[500 : 500 + sure_and_wrong] = 1
    return Judged(labels, np.zeros(1000, np.int64), probability, np.where(labels == 0, probability, 0.1))


def test_the_accuracy_is_the_one_that_is_reached():
    images = judged(200, sure_and_wrong=36)
    known = Sureness.of(images)

    assert known is not None
    is_sure = images.probability >= known.sure_from
    assert known.accuracy == images.is_correct[is_sure].mean() >= 0.9
    assert known.answered == is_sure.mean()
    assert f"{100 * known.accuracy:.1f} % are correct" in str(known)


def test_where_every_answer_is_correct_none_is_marked():
    assert Sureness.of(judged(0)) is None


@pytest.mark.parametrize("wrong", [0.0, 1.5, float("nan"), "0.9", None, True])
def test_what_is_no_share_is_refused(wrong: object):
    with pytest.raises(ValueError, match="sure_from"):
        Sureness(wrong, 0.9, 0.9)  # type: ignore[arg-type]
