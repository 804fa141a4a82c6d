from __future__ import annotations

import numpy as np
import pytest

from resnet_tl.evaluation.intervals import (
    bootstrap_interval,
    holm,
    image_resamples,
    images_needed,
    macro_f1,
    mcnemar,
    seed_resamples,
    wilson,
)
from resnet_tl.evaluation.metrics import compute_metrics
from resnet_tl.evaluation.predictions import prediction_table


def table(labels, predicted, classes):
    names = [f"{number}" for number in range(len(labels))]
    return prediction_table(names, names, labels, np.eye(classes)[predicted], [f"c{place}" for place in range(classes)])


def drawn(images, classes, right=0.7, seed=0):
    """Labels and predictions of a classifier; the last class is the rarest."""
    generator = np.random.default_rng(seed)
    shares = 1 / np.arange(1, classes + 1)
    labels = generator.choice(classes, images, p=shares / shares.sum())
    return labels, np.where(generator.random(images) < right, labels, generator.integers(0, classes, images))


@pytest.mark.parametrize(
    ("correct", "images", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_that_of_newcombe(correct, images, low, high):
    """Newcombe 1998, Statistics in Medicine 17:857-872, table I, method 3."""
    assert wilson(correct, images) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("images", [1, 2, 7, 30, 810, 1_000_000])
def test_wilsons_interval_is_scipys(images: int):
    from scipy.stats import binomtest

    for correct in {0, 1, images // 3, images - 1, images}:
        scipys = binomtest(correct, images).proportion_ci(0.95, method="wilson")
        assert wilson(correct, images) == pytest.approx((scipys.low, scipys.high), abs=1e-14)


def test_wilsons_interval_of_a_perfect_score_is_no_point():
    low, high = wilson(250, 250)

    assert low == pytest.approx(0.985, abs=0.001)
    assert high == 1


def test_mcnemars_exact_p_is_that_of_fagerland():
    """Fagerland, Lydersen & Laake 2013, BMC Medical Research Methodology 13:91: b = 1, c = 7."""
    assert mcnemar(1, 7) == mcnemar(7, 1) == pytest.approx(0.0703, abs=5e-5)


def test_mcnemars_p_is_1_where_nobody_wins():
    assert mcnemar(0, 0) == mcnemar(5, 5) == 1


def test_holms_p_values_are_those_of_the_textbook():
    """The procedure of Holm 1979, Scandinavian Journal of Statistics 6:65-70, as R's `p.adjust` computes it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]).tolist() == [1, 1]
    assert holm([0.03]).tolist() == [0.03]


def test_the_number_of_images_is_that_of_the_r_package_mess():
    """`power_mcnemar_test(paid = .125, psi = 2, power = .9)`: 248 pairs (MESS, by Ekstrøm), Connor's formula."""
    assert images_needed(discordant=0.125 + 0.25, difference=0.125, power=0.9) == 248


def test_more_images_are_needed_for_less_difference_and_for_more_tests():
    assert images_needed(0.1, 0.01) > images_needed(0.1, 0.02) > images_needed(0.05, 0.02)
    assert images_needed(0.1, 0.02, alpha=0.05 / 3) > images_needed(0.1, 0.02)
    assert images_needed(0.1, 0) is None


def test_a_resample_draws_as_many_images_as_there_are():
    weights = np.concatenate(list(image_resamples(50, resamples=300)))

    assert weights.shape == (300, 50)
    assert (weights.sum(axis=1) == 50).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(50), abs=0.3)
    assert (weights == np.concatenate(list(image_resamples(50, resamples=300)))).all()


def test_many_images_come_in_parts_that_fit_the_memory():
    parts = list(image_resamples(1_500_000, resamples=3))

    assert [len(part) for part in parts] == [2, 1]


def test_seeds_are_drawn_with_replacement():
    weights = seed_resamples(3, np.random.default_rng(0))

    assert weights.sum(axis=1) == pytest.approx(1)
    assert (weights == 0).any()
    assert (seed_resamples(1, np.random.default_rng(0)) == 1).all()


def test_macro_f1_is_that_of_the_metrics_on_the_images_as_they_are():
    labels, predicted = drawn(400, classes=12)

    fast = macro_f1(np.ones((1, 400)), labels, predicted, 12)

    assert fast[0] == pytest.approx(compute_metrics(table(labels, predicted, 12))["macro_f1"], rel=1e-14)


def test_macro_f1_of_a_resample_is_that_of_the_metrics_on_its_images():
    labels, predicted = drawn(60, classes=12)
    weights = next(image_resamples(60, resamples=5))

    fast = macro_f1(weights, labels, predicted, 12)

    for row, value in zip(weights.astype(int), fast, strict=True):
        images = np.repeat(np.arange(60), row)
        assert value == pytest.approx(compute_metrics(table(labels[images], predicted[images], 12))["macro_f1"])


def test_the_bootstrap_holds_the_true_mean_about_95_times_in_100():
    """Losses of a known distribution, the exponential one of mean 1."""
    losses = np.random.default_rng(1).exponential(size=(200, 600))
    weights = np.concatenate(list(image_resamples(200)))
    means = weights @ losses / 200

    intervals = [bootstrap_interval(losses[:, k].mean(), means[:, k]) for k in range(600)]

    assert np.mean([low <= 1 <= high for low, high in intervals]) == pytest.approx(0.95, abs=0.025)


def test_the_bootstrap_holds_the_true_macro_f1_about_95_times_in_100():
    truth = macro_f1(np.ones((1, 500_000)), *drawn(500_000, 5, seed=99), 5)[0]
    weights = np.concatenate(list(image_resamples(250, resamples=1000)))
    held = 0
    for seed in range(200):
        labels, predicted = drawn(250, 5, seed=seed)
        value = macro_f1(np.ones((1, 250)), labels, predicted, 5)[0]
        low, high = bootstrap_interval(value, macro_f1(weights, labels, predicted, 5))
        held += low <= truth <= high

    assert held / 200 == pytest.approx(0.95, abs=0.035)


def test_a_number_that_no_resample_changes_is_its_own_interval():
    assert bootstrap_interval(1.0, np.ones(100)) == (1, 1)


def test_a_share_may_be_rounded_otherwise_in_its_resamples():
    resampled = np.array([0.1, 0.3, 0.3, 0.3, 0.5])

    assert bootstrap_interval(0.1 + 0.2, resampled) == bootstrap_interval(0.3, resampled)
