from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from resnet_tl.evaluation.accuracy import Accuracy, number_rows, warning_lines
from resnet_tl.evaluation.intervals import images_for, wilson
from resnet_tl.evaluation.metrics import compute_metrics
from resnet_tl.evaluation.predictions import prediction_table


def table(labels: list[int], predicted: list[int], classes: str = "abc") -> pd.DataFrame:
    ids = [str(number) for number in range(len(labels))]
    return prediction_table(ids, ids, np.array(labels), np.eye(len(classes))[predicted], list(classes))


ENOUGH = table([0] * 40 + [1] * 30 + [2] * 20 + [-1] * 5, [0] * 50 + [1] * 20 + [2] * 20 + [0] * 5)


def test_it_counts_labelled_images_and_what_the_most_common_class_would_reach():
    accuracy = Accuracy.of(ENOUGH)

    assert (accuracy.images, accuracy.correct) == (90, 80)
    assert (accuracy.low, accuracy.high) == wilson(80, 90)
    assert str(accuracy) == "88.9 % [80.7, 93.9]"
    assert accuracy.baseline() == "Always saying a would reach 44.4 %."
    assert accuracy.warnings() == []


def test_a_handful_of_images_and_classes_without_any_are_warned_of():
    accuracy = Accuracy.of(table([0, 0, 2], [0, 2, 2]))

    assert accuracy.warnings() == [
        "3 images alone: one more mistake moves the accuracy by 33.3 points.",
        "1 of the 3 classes has no image, so that nothing is known of b.",
    ]
    assert warning_lines({"val": accuracy})[0].startswith("Careful, validation: 3 images alone")
    assert Accuracy.of(table([0], [0])).warnings()[0].startswith("1 image alone: one more mistake moves")


def test_its_facts_are_plain_and_read_back():
    accuracy = Accuracy.of(table([0, 0, 2], [0, 2, 2]))

    facts = json.loads(json.dumps(accuracy.facts()))

    assert Accuracy.from_facts(facts) == accuracy
    assert facts["warnings"] == accuracy.warnings()


@pytest.mark.parametrize("correct", [45, 81, 90])
def test_so_many_images_would_give_the_interval_that_is_promised(correct):
    accuracy = Accuracy.of(table([0] * 90, [0] * correct + [1] * (90 - correct)))
    words = accuracy.wish().replace(",", "").split()
    half, images = float(words[5].strip("±")) / 100, int(words[8])

    low, high = wilson(round(images * correct / 90), images)

    assert (high - low) / 2 == pytest.approx(half, rel=0.06)  # two digits of the number of images
    assert half < (accuracy.high - accuracy.low) / 2
    assert images > 90 or correct == 90


def test_the_formula_is_wilsons():
    for share, half in ((0.5, 0.1), (0.9, 0.01), (1.0, 0.02), (0.0, 0.05)):
        images = images_for(share, half)
        for count, is_enough in ((images - 20, False), (images + 20, True)):
            low, high = wilson(round(share * count), count)
            assert ((high - low) / 2 <= half) == is_enough


def test_the_table_of_numbers_has_the_interval_and_own_metrics_at_its_end():
    metrics = {"val": compute_metrics(ENOUGH) | {"kappa": 0.83}, "test": compute_metrics(ENOUGH)}

    header, rows = number_rows(metrics, dict.fromkeys(metrics, Accuracy.of(ENOUGH)))

    assert header == ["", "validation", "test"]
    assert rows[:2] == [["images", "90", "90"], ["accuracy [95 % interval]", *["88.9 % [80.7, 93.9]"] * 2]]
    assert rows[-1] == ["kappa", "0.830", ""]
