from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, kstest

from resnet_tl.errors import UserError
from resnet_tl.evaluation.predictions import prediction_table, softmax
from resnet_tl.evaluation.uncertainty.conformal import (
    coverage_lines,
    expected_coverage,
    guarantee,
    images_for_coverage,
    prediction_sets,
    rank,
    threshold,
    thresholds,
    with_sets,
)
from resnet_tl.evaluation.uncertainty.judged import Judged

CLASSES = ("ant", "bee", "cat, wild", "<d>")


def drawn(images: int, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and the probabilities of a network that is too sure, (n, C)."""
    generator = np.random.default_rng(seed)
    logits = 1.5 * generator.normal(size=(images, classes))
    labels = (softmax(logits).cumsum(axis=1) > generator.random((images, 1))).argmax(axis=1)
    return labels, softmax(2 * logits)


def covered(labels: np.ndarray, sets: np.ndarray) -> np.ndarray:
    return sets[np.arange(len(labels)), labels]


def test_the_threshold_is_the_score_of_that_rank():
    label_probability = np.linspace(1, 0, 20)[:19]  # scores 0, 1/19, ..., 18/19

    assert [rank(19, share) for share in (0.9, 0.95, 0.951)] == [18, 19, 20]
    assert threshold(label_probability, 0.9) == pytest.approx(17 / 19)
    assert threshold(label_probability, 0.95) == pytest.approx(18 / 19)
    assert threshold(label_probability, 0.96) == 1.0
    assert threshold(label_probability, 1e-12) == 0
    assert expected_coverage(19, 1e-12) == expected_coverage(19, 0.05)


@pytest.mark.parametrize(("coverage", "images"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99), (0.999, 999)])
def test_the_fewest_images_for_a_coverage_are_those_of_the_formula(coverage, images):
    assert images_for_coverage(coverage) == images
    assert rank(images, coverage) <= images
    assert rank(images - 1, coverage) > images - 1


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_coverage_over_random_divisions_follows_its_beta_law(coverage):
    """Of a network without any ties, on so many test images that their own chance is small."""
    images, found = 99, []
    labels, probabilities = drawn(20_000)
    for seed in range(300):
        order = np.random.default_rng(seed).permutation(len(labels))
        chosen, others = order[:images], order[images:]
        limits = thresholds(Judged.of(labels[chosen], probabilities[chosen]), CLASSES, coverage)
        # Without the class that fills an empty set: the law is of the bare sets.
        found.append((1 - probabilities[others, labels[others]] <= limits[0]).mean())
    place = rank(images, coverage)

    assert np.mean(found) == pytest.approx(place / (images + 1), abs=0.005)
    assert kstest(found, beta(place, images + 1 - place).cdf).pvalue > 0.01
    low, high = expected_coverage(images, coverage)
    assert 0.92 < np.mean([low <= share <= high for share in found]) < 0.98


def test_a_class_that_is_hard_is_covered_per_class_and_not_otherwise():
    """One class is told apart badly; each class follows the Beta law of its own number of images."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 3000)
    logits = generator.normal(size=(len(labels), 4))
    logits[np.arange(len(labels)), labels] += np.where(labels == 3, 0.5, 4.0)
    probabilities = softmax(logits)
    alike, own = [], []
    for seed in range(200):
        order = np.random.default_rng(seed).permutation(len(labels))
        chosen, others = order[:200], order[200:]
        judged = Judged.of(labels[chosen], probabilities[chosen])
        for shares, per_class in ((alike, False), (own, True)):
            sets = prediction_sets(probabilities[others], thresholds(judged, CLASSES, 0.9, per_class))
            is_in = covered(labels[others], sets)
            shares.append([is_in[labels[others] == number].mean() for number in range(4)])

    assert np.mean(alike, axis=0)[3] < 0.75
    assert (np.mean(own, axis=0) > 0.895).all()
    assert np.mean(own, axis=0)[3] == pytest.approx(0.91, abs=0.015)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 1000), st.integers(100, 300), st.lists(st.floats(0.05, 0.98), min_size=2, max_size=5))
def test_sets_grow_with_the_coverage_and_none_is_empty(seed, images, coverages):
    labels, probabilities = drawn(images + 50, seed=seed)
    judged = Judged.of(labels[:images], probabilities[:images])
    before = np.zeros((50, 4), bool)
    for coverage in sorted(coverages):
        sets = prediction_sets(probabilities[images:], thresholds(judged, CLASSES, coverage))
        assert sets.any(axis=1).all()
        assert not (before & ~sets).any()
        # A class in a set brings all likelier ones with it.
        for image, found in zip(probabilities[images:], sets, strict=True):
            assert image[found].min() >= max(image[~found], default=0.0)
        before = sets


def test_an_empty_set_gets_the_most_probable_class_and_loses_no_coverage():
    labels, probabilities = drawn(2000)
    judged = Judged.of(labels[:1000], probabilities[:1000])
    limits = thresholds(judged, CLASSES, 0.4)
    sets, bare = prediction_sets(probabilities[1000:], limits), 1 - probabilities[1000:] <= limits

    assert (~bare.any(axis=1)).sum() > 50
    assert (sets >= bare).all()
    assert (sets.sum(axis=1) == np.maximum(bare.sum(axis=1), 1)).all()
    assert covered(labels[1000:], sets).mean() >= covered(labels[1000:], bare).mean()


def test_sets_are_those_of_mapie():
    from sklearn.base import BaseEstimator, ClassifierMixin

    mapie = pytest.importorskip("mapie.classification", reason="mapie is not installed")

    class Given(ClassifierMixin, BaseEstimator):
        """A classifier whose input is its output."""

        def fit(self, X, y):
            self.classes_ = np.arange(4)
            return self

        def predict_proba(self, X):
            return X

        def predict(self, X):
            return X.argmax(axis=1)

    labels, probabilities = drawn(700)
    for coverage in (0.8, 0.9, 0.95, 0.99):
        oracle = mapie.SplitConformalClassifier(
            Given().fit(None, None), confidence_level=coverage, conformity_score="lac", prefit=True
        )
        _, theirs = oracle.conformalize(probabilities[:300], labels[:300]).predict_set(probabilities[300:])
        limits = thresholds(Judged.of(labels[:300], probabilities[:300]), CLASSES, coverage)
        theirs = theirs[:, :, 0].copy()
        theirs[np.arange(400), probabilities[300:].argmax(axis=1)] = True
        assert (prediction_sets(probabilities[300:], limits) == theirs).all(), coverage


@pytest.mark.parametrize(
    ("images", "coverage", "per_class", "sentence"),
    [
        (
            18,
            0.95,
            False,
            "--coverage 0.95 takes 19 validation images, and the model has 18; give --coverage 0.947 or ",
        ),
        (
            98,
            0.99,
            False,
            "--coverage 0.99 takes 99 validation images, and the model has 98; give --coverage 0.989 or ",
        ),
        (1, 0.9, False, "the model has 1; give --coverage 0.5 or less, or validate on more images."),
        (
            72,
            0.95,
            True,
            "takes 19 validation images of each class, and these have fewer: ant (18), bee (18), cat, wild",
        ),
        (72, 0.95, True, "give --coverage 0.947 or less, or do without --per_class, or validate on more images."),
        (3, 0.9, True, "<d> (0); do without --per_class, or validate on more images."),
    ],
)
def test_too_few_images_are_said_to_be_and_how_many_it_takes(images, coverage, per_class, sentence):
    judged = Judged.of(np.arange(images) % 4, np.full((images, 4), 0.25))
    with pytest.raises(UserError) as caught:
        thresholds(judged, CLASSES, coverage, per_class)

    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_coverage_that_is_offered_works():
    for images in range(1, 120):
        judged = Judged.of(np.arange(images) % 4, np.full((images, 4), 0.25))
        try:
            thresholds(judged, CLASSES, 0.995)
        except UserError as error:
            offered = float(str(error).partition("give --coverage ")[2].split()[0])
            thresholds(judged, CLASSES, offered)


def test_a_table_gets_the_names_of_a_set_the_likeliest_first():
    logits = np.log([[0.1, 0.2, 0.4, 0.3], [0.01, 0.97, 0.01, 0.01]])
    table = prediction_table(["x", "y"], ["x", "y"], None, logits, CLASSES)
    found = with_sets(table, np.array([0.95, 0.75, 0.75, 0.75]))

    assert [json.loads(text) for text in found["set"]] == [["cat, wild", "<d>", "ant"], ["bee"]]
    assert found["set_size"].tolist() == [3, 1]
    assert list(found)[:6] == ["id", "path", "label", "predicted", "set", "set_size"]
    assert found.drop(columns=["set", "set_size"]).equals(table)


def test_the_guarantee_says_what_it_rests_on():
    labels, probabilities = drawn(400)
    judged = Judged.of(labels, probabilities)
    smallest = np.bincount(labels).min()

    said = guarantee(judged, 0.9, per_class=False)
    assert "of new images like the 400 of validation at least 90.0 % have their class in the set" in said
    assert "between 86.9 % and 92.8 %." in said
    assert "have also chosen the weights" in said
    assert f"(of the class with {smallest})" in guarantee(judged, 0.9, per_class=True)
    assert "not guaranteed" in guarantee(judged, 0.9, per_class=False, repeats=True)


def test_the_measured_coverage_has_its_interval_and_the_worst_class():
    labels = np.repeat([0, 1], [40, 10])
    sets = np.zeros((50, 4), bool)
    sets[:, 0], sets[40:45, 1], sets[0, 3] = True, True, True
    lines = coverage_lines(labels, sets, CLASSES, 0.9, is_own=False)

    assert lines == [
        "Sets at coverage 0.9: 90.0 % [78.6, 95.7] of 50 images have their class in it; 1.12 classes on average, "
        "88.0 % of one, at most 2.",
        "The class covered least: bee, 50.0 % [23.7, 76.3] of 10 images.",
    ]
    assert "follows from how the sets were made" in coverage_lines(labels, sets, CLASSES, 0.9, is_own=True)[0]
