from __future__ import annotations

import numpy as np
import pytest

from resnet_tl.errors import UserError
from resnet_tl.evaluation.intervals import wilson
from resnet_tl.evaluation.predictions import prediction_table, softmax
from resnet_tl.evaluation.uncertainty.abstention import (
    Answers,
    check_share,
    confidence_reaching,
    reaching_words,
    risk_coverage,
    selective_words,
)
from resnet_tl.evaluation.uncertainty.judged import Judged

CLASSES = ("a", "b", "c")


def judged(*pairs: tuple[float, bool]) -> Judged:
    """Images of which each is so sure, and correct or not."""
    sure, correct = (np.array(values) for values in zip(*pairs, strict=True))
    labels = np.zeros(len(sure), np.int64)
    return Judged(labels, np.where(correct, 0, 1), sure, sure)


def table(images: int = 300):
    generator = np.random.default_rng(0)
    logits = 2 * generator.normal(size=(images, 3))
    labels = (softmax(logits).cumsum(axis=1) > generator.random((images, 1))).argmax(axis=1)
    names = [str(number) for number in range(images)]
    return prediction_table(names, names, labels, logits, CLASSES)


def test_the_curve_counts_what_is_answered_from_each_confidence_on():
    names = [str(number) for number in range(4)]
    shares = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.3, 0.7]])
    curve = risk_coverage(prediction_table(names, names, np.array([0, 1, 0, 0]), np.log(shares), ["a", "b"]))

    assert curve["min_confidence"].tolist() == pytest.approx([0.6, 0.7, 0.9])
    assert curve["answered"].tolist() == [1.0, 0.75, 0.5]
    assert curve["accuracy"].tolist() == pytest.approx([0.5, 1 / 3, 0.5])


def test_the_intervals_of_the_curve_are_wilsons():
    curve = risk_coverage(table())

    for row in curve.iloc[::37].itertuples():
        images = round(row.answered * 300)
        assert (row.low, row.high) == pytest.approx(wilson(round(row.accuracy * images), images), abs=1e-6)
    assert curve["answered"].iloc[0] == 1
    assert (np.diff(curve["min_confidence"]) > 0).all()
    assert (np.diff(curve["answered"]) < 0).all()


def test_the_more_a_network_abstains_the_oftener_it_is_right():
    curve = risk_coverage(table(3000))

    assert curve["accuracy"].iloc[0] < curve["accuracy"].iloc[1500] < curve["accuracy"].iloc[2700]


def test_the_confidence_that_reaches_an_accuracy_is_kept_above_it():
    sure = [*((0.9 + number / 1000, True) for number in range(40)), (0.8, False), *((0.7, True),) * 10, (0.6, False)]
    found = judged(*sure)

    assert confidence_reaching(found, 0.99) == ("0.900", 40 / 52)
    assert confidence_reaching(found, 0.97) == ("0.700", 51 / 52)  # 50 of 51
    assert confidence_reaching(judged(*((0.9, number % 2 == 0) for number in range(60))), 0.9) is None
    assert confidence_reaching(judged((0.9, True)), 0.9) is None  # of so few nothing is said


@pytest.mark.parametrize(
    ("wrong", "least", "written"),
    [(0.8, 0.8764, "0.876"), (0.8762, 0.87634, "0.8763"), (0.99991, 1.0, "0.99999"), (0.5, 0.9, "0.900")],
)
def test_the_confidence_that_is_written_leaves_out_what_must_be_left_out(wrong: float, least: float, written: str):
    found = judged(*((least, True),) * 40, (wrong, False))
    confidence, answered = confidence_reaching(found, 0.99)

    assert wrong < float(confidence) <= least
    assert float(confidence) < 1  # as --min_confidence takes it
    assert (found.probability >= float(confidence)).mean() == answered == 40 / 41
    assert confidence == written


def test_words_say_what_is_answered_and_how_well():
    found = judged(*((0.9, True),) * 30, *((0.5, False),) * 10)

    assert selective_words(found, 0.8).startswith(
        "answers 75.0 % of 40 images, 100.0 % [88.6, 100.0] of them correctly"
    )
    assert selective_words(found, 0.8).endswith("(of all: 75.0 %)")
    assert selective_words(found, 0.95) == "answers none of 40 images"
    assert reaching_words(found) == "Reached on these images: 100.0 % from 0.900 on (75.0 % answered)."
    assert reaching_words(judged(*((0.9, True),) * 40)) == ""


def test_the_accuracy_that_is_said_is_the_one_reached_and_not_the_one_wished_for():
    found = judged(*((0.9, True),) * 30, *((0.8, True),) * 17, *((0.8, False),) * 3, *((0.5, False),) * 10)

    # 47 of 50 from 0.8 on is more than 90 %, and less than 95 %; of all 47 of 60.
    said = "94.0 % from 0.800 on (83.3 % answered), 100.0 % from 0.900 on (50.0 % answered)"
    assert reaching_words(found) == f"Reached on these images: {said}."


def test_answers_leave_out_what_the_network_is_not_sure_of():
    found = table(50)
    answered = Answers(min_confidence=0.8).of(found)
    is_sure = found[["prob_a", "prob_b", "prob_c"]].max(axis=1) >= 0.8

    assert 0 < is_sure.sum() < 50
    assert (answered["predicted"] == found["predicted"].where(is_sure, "")).all()
    assert answered.drop(columns="predicted").equals(found.drop(columns="predicted"))
    assert Answers().of(found) is found


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (95, "--coverage is 95; it must be over 0 and under 1. Did you mean 0.95?"),
        (1, "--coverage is 1; it must be over 0 and under 1."),
        (0, "--coverage is 0; it must be over 0 and under 1."),
        (-1, "--coverage is -1; it must be over 0 and under 1."),
        (float("nan"), "--coverage is nan; it must be over 0 and under 1."),
        ("most", "--coverage is 'most'; it must be a number."),
    ],
)
def test_a_share_is_between_0_and_1(value, sentence):
    with pytest.raises(UserError) as caught:
        check_share("--coverage", value)
    assert str(caught.value) == sentence
    check_share("--coverage", None)
