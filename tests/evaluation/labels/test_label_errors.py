from __future__ import annotations

import numpy as np
import pytest

from resnet_tl.evaluation.labels.label_errors import (
    confident_joint,
    prune_by_both,
    prune_by_noise_rate,
    self_confidence,
)


def noisy(seed: int, classes: int, images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of which a fifth was drawn anew, probabilities that favour the truth, and which labels are wrong."""
    generator = np.random.default_rng(seed)
    truth = np.arange(images) % classes
    logits = generator.normal(size=(images, classes)) * 1.5
    logits[np.arange(images), truth] += 5
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.where(generator.random(images) < 0.2, generator.integers(0, classes, images), truth)
    return labels, probabilities, labels != truth


def test_the_joint_counts_each_image_for_the_class_of_which_it_is_sure() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.1, 0.9], [0.3, 0.7], [0.45, 0.55]])
    # The thresholds are 0.63 and 0.72: of label 0 two images stay and one goes; of label 1 one is sure, two of nothing.
    assert confident_joint(labels, probabilities).tolist() == [[2, 1], [0, 3]]
    assert prune_by_noise_rate(labels, probabilities).tolist() == [False, False, True, False, False, False]


def test_each_row_of_the_joint_has_the_images_of_its_label() -> None:
    labels, probabilities, _ = noisy(0, classes=12, images=400)
    assert confident_joint(labels, probabilities).sum(axis=1).tolist() == np.bincount(labels).tolist()


def test_most_of_what_is_found_is_wrong() -> None:
    labels, probabilities, is_wrong = noisy(0, classes=5, images=1000)
    found = prune_by_noise_rate(labels, probabilities)
    assert is_wrong[found].mean() > 0.75
    assert found[is_wrong].mean() > 0.75
    stricter = prune_by_both(labels, probabilities)
    assert (stricter <= found).all()
    assert is_wrong[stricter].mean() >= is_wrong[found].mean()


def test_the_ranking_orders_images_by_their_label() -> None:
    labels, probabilities, is_wrong = noisy(0, classes=2, images=200)
    confidence = self_confidence(labels, probabilities)
    assert confidence[is_wrong].mean() < 0.3 < 0.7 < confidence[~is_wrong].mean()


def test_it_is_what_cleanlab_finds() -> None:
    """Where two counts of a row have equal remainders, it is left to rounding errors which of them is rounded up."""
    count = pytest.importorskip("cleanlab.count")
    filter_by = pytest.importorskip("cleanlab.filter").find_label_issues
    scores = pytest.importorskip("cleanlab.rank").get_label_quality_scores
    equal = 0
    cases = [(seed, classes, images) for seed in range(10) for classes, images in ((2, 60), (3, 300), (12, 600))]
    for case in cases:
        labels, probabilities, _ = noisy(*case)
        ours, theirs = confident_joint(labels, probabilities), count.compute_confident_joint(labels, probabilities)
        assert (ours.sum(axis=1) == theirs.sum(axis=1)).all()
        assert abs(ours - theirs).max() <= 1
        assert np.array_equal(self_confidence(labels, probabilities), scores(labels, probabilities))
        if (ours == theirs).all():
            equal += 1
            for name, prune in (("prune_by_noise_rate", prune_by_noise_rate), ("both", prune_by_both)):
                found = filter_by(labels, probabilities, filter_by=name, n_jobs=1)
                assert np.array_equal(prune(labels, probabilities), found)
    assert equal > 0.8 * len(cases)
