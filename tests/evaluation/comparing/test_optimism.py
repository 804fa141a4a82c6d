"""The best of several trials looks better than it is; what is expected of it does not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtri

from resnet_tl.evaluation.comparing.optimism import KNOWN, worth_of_best
from resnet_tl.evaluation.metrics import compute_metrics
from resnet_tl.evaluation.predictions import prediction_table, read_predictions, write_predictions


def trials_of(skills, images: int, generator: np.random.Generator, classes: int = 2):
    """Prediction tables of trials whose true accuracies are `skills`; half of what makes an image hard is its own."""
    labels = generator.integers(0, classes, images)
    hard = generator.normal(size=(images, 1)) + generator.normal(size=(images, len(skills)))
    margins = ndtri(np.asarray(skills)) + hard / np.sqrt(2)
    ids = [str(number) for number in range(images)]
    tables = []
    for margin in margins.T:
        logits = np.zeros((images, classes))
        logits[np.arange(images), labels] = 2 * margin
        tables.append(prediction_table(ids, ids, labels, logits, [f"class{k}" for k in range(classes)]))
    return tables


def best_of(tables, metric: str) -> int:
    values = [compute_metrics(table)[metric] for table in tables]
    return int(np.argmin(values) if metric == "loss" else np.argmax(values))


def errors(skills, sets: int, images: int = 150) -> tuple[float, float, float]:
    """By how much the best's measured and expected accuracy are too high, in the mean; how often the interval holds."""
    generator = np.random.default_rng(1)
    measured, expected, holds = [], [], 0
    for _ in range(sets):
        tables = trials_of(skills, images, generator)
        best = best_of(tables, "accuracy")
        worth = worth_of_best(tables, best, "accuracy", resamples=200)["accuracy"]
        measured.append(worth.measured - skills[best])
        expected.append(worth.expected.value - skills[best])
        holds += worth.expected.low <= skills[best] <= worth.expected.high
    return float(np.mean(measured)), float(np.mean(expected)), holds / sets


@pytest.mark.slow
def test_of_trials_of_equal_skill_the_best_is_too_high_and_what_is_expected_is_not():
    measured, expected, holds = errors([0.9] * 12, sets=60)

    assert measured > 0.02
    assert abs(expected) < 0.008  # 2 standard errors of the mean over the sets are 0.006
    assert holds >= 0.9


def test_where_one_trial_is_far_better_nothing_is_taken_from_it():
    measured, expected, _ = errors([0.6] * 5 + [0.95], sets=20)

    assert abs(measured - expected) < 0.003


@pytest.mark.parametrize("metric", KNOWN)
def test_what_is_measured_is_the_metric_of_the_table(metric: str):
    tables = trials_of([0.7, 0.75, 0.8], 60, np.random.default_rng(0), classes=4)
    best = best_of(tables, metric)
    worth = worth_of_best(tables, best, metric, resamples=100)

    assert set(worth) == {metric, "accuracy"}
    for name, found in worth.items():
        assert found.measured == pytest.approx(compute_metrics(tables[best])[name])
        assert found.expected.low < found.expected.value < found.expected.high
    value = worth[metric].expected.value
    assert value >= worth[metric].measured if metric == "loss" else value <= worth[metric].measured


def test_the_order_of_the_images_and_of_the_classes_changes_nothing(tmp_path):
    tables = trials_of([0.7, 0.8], 40, np.random.default_rng(0), classes=3)
    other = tables[1].sample(frac=1, random_state=0)
    other = other[["id", "path", "label", "predicted", "prob_class2", "prob_class0", "prob_class1"]]
    write_predictions(other, tmp_path / "val.csv")

    assert worth_of_best([tables[0], read_predictions(tmp_path / "val.csv")], 1, "loss") == worth_of_best(
        tables, 1, "loss"
    )


def test_a_single_trial_is_expected_to_be_what_it_is():
    (table,) = trials_of([0.8], 50, np.random.default_rng(0))
    worth = worth_of_best([table], 0, "loss")

    assert all(found.expected.value == found.measured for found in worth.values())


@pytest.mark.parametrize("images", [1, 2, 5])
def test_a_handful_of_images_gives_finite_numbers(images: int):
    worth = worth_of_best(trials_of([0.5, 0.6, 0.7], images, np.random.default_rng(2)), 0, "accuracy")["accuracy"]

    assert 0 <= worth.expected.low <= worth.expected.value <= worth.expected.high <= 1


def test_of_a_metric_that_is_not_known_nothing_is_said():
    assert worth_of_best(trials_of([0.5, 0.6], 20, np.random.default_rng(0)), 0, "auroc") == {}
