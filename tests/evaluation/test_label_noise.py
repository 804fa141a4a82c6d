from __future__ import annotations

import numpy as np
import pytest

from resnet_tl.evaluation.label_noise import fit_label_noise, rate_interval


def drawn(seed: int, rate: float, sharpened: float = 1.0, images: int = 1500, classes: int = 4):
    """Labels drawn from known probabilities, a share of them swapped; the probabilities are said too sharply."""
    generator = np.random.default_rng(seed)
    logits = 2.5 * generator.normal(size=(images, classes))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = np.array([generator.choice(classes, p=row) for row in true])
    is_wrong = generator.random(images) < rate
    labels = np.where(is_wrong, (truth + generator.integers(1, classes, images)) % classes, truth)
    said = true**sharpened
    return labels, said / said.sum(axis=1, keepdims=True), is_wrong, true


@pytest.mark.parametrize("rate", [0.02, 0.08, 0.2])
def test_the_share_of_wrong_labels_and_the_temperature_are_found(rate: float) -> None:
    labels, said, is_wrong, true = drawn(0, rate, sharpened=2.0, images=3000)
    noise = fit_label_noise(labels, said)
    assert noise.rate == pytest.approx(is_wrong.mean(), abs=0.025)
    assert noise.temperature == pytest.approx(2, rel=0.15)
    assert abs(noise.probabilities - true).max() < 0.06


def test_where_nothing_is_wrong_nothing_is_suspect() -> None:
    labels, said, _, _ = drawn(1, 0.0)
    noise = fit_label_noise(labels, said)
    assert noise.rate < 0.02
    assert (noise.wrong > 0.5).sum() < 0.005 * len(labels)


def test_the_chances_of_being_wrong_are_what_they_say() -> None:
    labels, said, is_wrong, _ = drawn(2, 0.15, images=6000)
    wrong = fit_label_noise(labels, said).wrong
    for low, high in ((0.0, 0.1), (0.1, 0.4), (0.4, 0.7), (0.7, 1.0)):
        some = (wrong >= low) & (wrong < high)
        assert some.sum() > 50
        assert is_wrong[some].mean() == pytest.approx(wrong[some].mean(), abs=0.09)


def test_the_interval_holds_the_share_as_often_as_it_says() -> None:
    held = 0
    for seed in range(20):
        labels, said, _, _ = drawn(seed, 0.05, images=400, classes=3)
        low, high = rate_interval(labels, said)
        assert low <= fit_label_noise(labels, said).rate <= high
        held += low <= 0.05 <= high
    assert held >= 17  # of 20 at 95 %: fewer once in 60 times


def test_labels_that_say_nothing_are_no_reason_to_fail() -> None:
    generator = np.random.default_rng(0)
    labels, said = generator.integers(0, 2, 50), np.full((50, 2), 0.5)
    noise = fit_label_noise(labels, said)
    assert np.isfinite(noise.wrong).all()
    low, high = rate_interval(labels, said)
    assert 0 <= low <= high <= 0.5


def test_probabilities_of_zero_and_one_are_no_reason_to_fail() -> None:
    labels = np.array([0, 1] * 30)
    said = np.eye(2)[labels]
    said[:2] = said[:2, ::-1]
    noise = fit_label_noise(labels, said)
    assert np.isfinite(noise.wrong).all()
    assert (noise.wrong > 0.5).nonzero()[0].tolist() == [0, 1]
