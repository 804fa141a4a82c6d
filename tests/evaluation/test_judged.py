from __future__ import annotations

import numpy as np
import pytest

from resnet_tl.evaluation.calibration import LEAST, at_temperature, cross_fitted, fit_temperature
from resnet_tl.evaluation.judged import Judged
from resnet_tl.evaluation.predictions import label_numbers, prediction_table, softmax
from resnet_tl.evaluation.predictions import probabilities as probabilities_of


def table(images: int, seed: int = 0):
    generator = np.random.default_rng(seed)
    logits = 3 * generator.normal(size=(images, 3))
    labels = (softmax(logits / 2).cumsum(axis=1) > generator.random((images, 1))).argmax(axis=1)
    names = [str(number) for number in range(images)]
    return prediction_table(names, names, labels, logits, ["a", "b", "c"])


def test_an_image_is_judged_by_the_probability_of_its_class_and_the_largest_one():
    judged = Judged.of(np.array([2, -1, 0]), np.array([[0.1, 0.6, 0.3], [0.2, 0.2, 0.6], [0.5, 0.5, 0.0]]))

    assert len(judged) == 2
    assert judged.predicted.tolist() == [1, 0]
    assert judged.probability.tolist() == [0.6, 0.5]
    assert judged.label_probability.tolist() == [0.3, 0.5]
    assert judged.is_correct.tolist() == [False, True]


def test_an_image_whose_probabilities_are_no_numbers_is_left_out():
    judged = Judged.of(np.array([0, 1]), np.array([[np.nan, 0.5], [0.2, 0.8]]))

    assert judged.labels.tolist() == [1]


def test_no_validation_image_has_a_part_in_its_own_temperature():
    found = table(60)
    labels, probabilities = label_numbers(found), probabilities_of(found)
    temperature = fit_temperature(labels, probabilities)
    own = Judged.of(labels, at_temperature(probabilities, temperature))
    judged = Judged.of_validation(found, temperature)

    # Where one image is judged as badly as can be, its own probability does not know it.
    odd = found.copy()
    odd.loc[0, "label"] = odd.iloc[0][["prob_a", "prob_b", "prob_c"]].astype(float).idxmin().removeprefix("prob_")
    again = Judged.of_validation(odd, temperature)
    assert again.probability[0] == judged.probability[0]
    assert np.abs(judged.probability - own.probability).max() > 1e-4
    assert judged.probability == pytest.approx(own.probability, abs=0.1)


def test_where_no_temperature_was_fitted_the_probabilities_are_the_networks_own():
    found = table(LEAST - 1)

    assert (Judged.of_validation(found).probability == probabilities_of(found).max(axis=1)).all()


def test_images_beyond_those_that_a_temperature_was_fitted_to_have_the_temperature_itself(monkeypatch):
    monkeypatch.setattr("resnet_tl.evaluation.calibration.MOST", 3 * 50)
    found = table(200)
    labels, probabilities = label_numbers(found), probabilities_of(found)
    judged = Judged.of_validation(found, 2.0)
    is_plain = judged.probability == at_temperature(probabilities, 2.0).max(axis=1)

    assert is_plain.sum() == 150
    fitted = np.random.default_rng(0).permutation(200)[:50]
    assert set(np.flatnonzero(~is_plain)) == set(fitted)
    assert judged.probability[fitted] == pytest.approx(cross_fitted(labels[fitted], probabilities[fitted]).max(axis=1))
