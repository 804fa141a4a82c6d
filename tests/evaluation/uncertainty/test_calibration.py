from __future__ import annotations

import numpy as np
import pytest

from resnet_tl.evaluation.metrics import image_losses
from resnet_tl.evaluation.predictions import prediction_table, softmax
from resnet_tl.evaluation.uncertainty.calibration import (
    at_temperature,
    brier,
    calibrate,
    calibration_error,
    calibration_line,
    calibration_words,
    cross_fitted_losses,
    fit_temperature,
    held_out,
    reliability,
)


def judged(images: int, classes: int = 4, sharpness: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from the true probabilities of logits, and what a network says whose logits are so much sharper."""
    generator = np.random.default_rng(seed)
    logits = 1.5 * generator.normal(size=(images, classes))
    labels = (softmax(logits).cumsum(axis=1) > generator.random((images, 1))).argmax(axis=1)
    return labels, softmax(sharpness * logits)


def table(labels: np.ndarray, probabilities: np.ndarray):
    names = [f"{number}" for number in range(len(labels))]
    classes = [f"c{place}" for place in range(probabilities.shape[1])]
    return prediction_table(names, names, labels, np.log(np.maximum(probabilities, 1e-300)), classes)


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_how_much_too_sure_a_network_is(sharpness):
    labels, probabilities = judged(4000, sharpness=sharpness)

    assert fit_temperature(labels, probabilities) == pytest.approx(sharpness, rel=0.08)


def test_the_temperature_has_the_smallest_loss_of_targets_with_one_more_image_judged_wrongly():
    labels, probabilities = judged(80, classes=3, sharpness=2.0)
    targets = np.eye(3)[labels] * 81 / 82 + 1 / 82 / 3
    found = fit_temperature(labels, probabilities)
    losses = [
        -(targets * np.log(at_temperature(probabilities, found * by))).sum(axis=1).mean() for by in (0.99, 1, 1.01)
    ]

    assert losses[1] < min(losses[0], losses[2])


def test_a_temperature_changes_how_sure_a_network_is_and_not_what_it_says():
    _, probabilities = judged(200)
    hot = at_temperature(probabilities, 3.0)

    assert (hot.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    assert (hot.max(axis=1) < probabilities.max(axis=1)).all()
    assert at_temperature(hot, 1 / 3) == pytest.approx(probabilities)


def test_images_that_are_all_judged_correctly_make_a_network_no_surer_than_their_number_allows():
    labels = np.arange(80) % 2
    probabilities = np.where(np.eye(2)[labels] == 1, 0.9, 0.1)
    sure = at_temperature(probabilities, fit_temperature(labels, probabilities)).max(axis=1)

    assert 0.98 < sure.max() < 0.995  # 1 - 1/82 of them may be expected to be correct


def test_the_loss_that_is_told_is_of_images_without_a_part_in_the_temperature():
    labels, probabilities = judged(300, sharpness=3.0)
    inside = image_losses(labels, at_temperature(probabilities, fit_temperature(labels, probabilities))).mean()
    found = calibrate(table(labels, probabilities))

    assert inside < cross_fitted_losses(labels, probabilities).mean() < image_losses(labels, probabilities).mean()
    assert found["loss"] == pytest.approx(cross_fitted_losses(labels, probabilities).mean(), abs=0.01)
    assert found["loss_before"] == pytest.approx(image_losses(labels, probabilities).mean())
    assert found["low"] < found["loss"] - found["loss_before"] < found["high"] < 0
    assert f"divide the logits by {found['temperature']:.2f}" in calibration_line(found)


def test_a_temperature_that_does_not_help_is_not_applied():
    found = [calibrate(table(*judged(60, seed=seed))) for seed in range(10)]
    useless = [one for one in found if one["temperature"] == 1]

    assert useless
    assert all(one["loss"] == one["loss_before"] for one in useless)
    assert all(one["loss"] < one["loss_before"] for one in found if one["temperature"] != 1)


def test_few_images_and_those_without_label_or_number_tell_nothing():
    labels, probabilities = judged(40, sharpness=3.0)
    assert calibrate(table(labels[:29], probabilities[:29])) == {}

    labels[:5], probabilities[5:7] = -1, np.nan
    found = table(labels, probabilities)
    found.loc[5:6, [name for name in found if name.startswith("prob_")]] = np.nan
    assert calibrate(found)["images"] == 33


def test_many_images_are_represented_by_some(monkeypatch):
    monkeypatch.setattr("resnet_tl.evaluation.uncertainty.calibration.MOST", 4 * 500)
    labels, probabilities = judged(3000, sharpness=2.0)
    found = calibrate(table(labels, probabilities))

    assert found["images"] == 500
    assert found["temperature"] == pytest.approx(2.0, rel=0.2)


def test_the_brier_score_is_that_of_the_definition():
    labels, probabilities = np.array([0, 1]), np.array([[1.0, 0.0, 0.0], [0.5, 0.2, 0.3]])

    assert brier(labels, probabilities) == pytest.approx((0 + 0.25 + 0.64 + 0.09) / 2)


def test_bins_hold_equally_many_images_from_the_least_sure_to_the_surest():
    labels, probabilities = judged(1000)
    bins = reliability(labels, probabilities)

    assert len(bins) == 15
    assert bins[:, 0].sum() == 1000
    assert np.ptp(bins[:, 0]) <= 1
    assert (np.diff(bins[:, 1]) >= 0).all()
    assert bins[:, 0] @ bins[:, 2] == pytest.approx((probabilities.argmax(axis=1) == labels).sum())
    assert len(reliability(labels[:25], probabilities[:25])) == 2


def test_the_calibration_error_is_the_distance_of_what_is_said_from_what_is_so():
    labels, sure = np.repeat([0, 1], [600, 400]), np.tile([0.9, 0.1], (1000, 1))
    error = calibration_error(np.random.default_rng(0).permutation(labels), sure)

    assert error.value == pytest.approx(0.3, abs=0.01)
    assert error.low < 0.3 < error.high
    assert error.high - error.low == pytest.approx(2 * 1.96 * np.sqrt(0.6 * 0.4 / 1000), rel=0.15)


def test_the_calibration_error_of_true_probabilities_is_mostly_within_its_interval_of_0():
    errors = [calibration_error(*judged(400, seed=seed)) for seed in range(40)]

    assert np.mean([error.value**2 for error in errors]) < 0.002  # with the part of chance 0.007
    assert sum(error.low == 0 for error in errors) >= 36


def test_the_interval_of_a_calibration_error_holds_the_true_one():
    labels, probabilities = judged(20_000, sharpness=2.0)
    true = calibration_error(labels, probabilities).value
    errors = [calibration_error(*judged(400, sharpness=2.0, seed=seed)) for seed in range(1, 61)]

    assert sum(error.low <= true <= error.high for error in errors) >= 52


def test_the_words_are_of_the_labelled_images_at_a_temperature():
    labels, probabilities = judged(500, sharpness=3.0)
    labels[:50] = -1
    plain, calibrated = (calibration_words(table(labels, probabilities), temperature) for temperature in (1.0, 3.0))

    loss = image_losses(labels[50:], at_temperature(probabilities[50:], 3.0)).mean()
    assert f"loss {loss:.3f}, Brier score" in calibrated
    assert plain != calibrated


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_of_some_images_lowers_the_loss_of_others_or_costs_them_next_to_nothing(sharpness):
    labels, probabilities = judged(5000, sharpness=sharpness, seed=99)
    before, changes = image_losses(labels, probabilities).mean(), []
    for seed in range(20):
        temperature = calibrate(table(*judged(150, sharpness=sharpness, seed=seed)))["temperature"]
        changes.append(image_losses(labels, at_temperature(probabilities, temperature)).mean() - before)

    if sharpness == 1:  # of a network that is calibrated there is nothing to gain
        assert np.mean(changes) < 0.004
        assert np.median(changes) == 0
    else:
        assert max(changes) < 0


def test_calibrated_probabilities_are_those_by_the_temperature_of_the_other_parts():
    labels, probabilities = judged(200, sharpness=3.0)
    found = held_out(labels, probabilities, fit_temperature(labels, probabilities))
    order = np.random.default_rng(0).permutation(200)

    assert image_losses(labels, found) == pytest.approx(
        cross_fitted_losses(labels[order], probabilities[order])[np.argsort(order)]
    )
    assert held_out(labels, probabilities, 1.0) is probabilities
