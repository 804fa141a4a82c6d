"""The errors that a learning curve is fitted to: of nested subsets, which hold the classes in proportion."""

import numpy as np
import pytest
import torch

from resnet_tl.errors import UserError
from resnet_tl.evaluation.learning_curve import fit_curve
from resnet_tl.finetuning.probes import choose_penalty, linear_logits
from resnet_tl.training.learning_curve import REPEATS, learning_curve, measure_errors, nested_order


def clouds(count: int, seed: int) -> tuple[torch.Tensor, np.ndarray]:
    """Points in two classes that overlap, with features that tell nothing beside one that does."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    features = torch.randn(count, 24, generator=generator)
    features[:, 0] += 3.0 * labels
    return features, labels.numpy()


def test_the_beginning_of_an_order_holds_the_classes_in_proportion():
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    order = nested_order(labels, seed=0)

    assert sorted(order) == list(range(1000))
    for size in (20, 100, 500):
        counts = np.bincount(labels[order[:size]], minlength=3)
        assert np.abs(counts - size * np.array([0.6, 0.3, 0.1])).max() <= 1
    assert not np.array_equal(order, nested_order(labels, seed=1))


def test_the_error_falls_and_the_gain_is_that_of_more_points():
    features, labels = clouds(160, 0)
    judged, truth = clouds(3000, 1)
    sizes, wrong = measure_errors(features, labels, judged, truth, 2, np.arange(160))
    curve = fit_curve(sizes, wrong)

    assert sizes[-1] == 160
    assert [len(one) for one in wrong] == [REPEATS] * (len(sizes) - 1) + [1]
    assert wrong[0].mean() > 1.2 * wrong[-1].mean()
    more, more_labels = clouds(320, 2)
    targets = torch.from_numpy(more_labels)
    logits = linear_logits(more, targets, choose_penalty(more, targets, 2, np.arange(320)), 2, judged)
    actual = wrong[-1].mean() - float((logits.argmax(dim=1).numpy() != truth).mean())
    assert curve.gain().low <= actual <= curve.gain().high


def test_too_few_images_are_told_how_many_it_takes():
    features, labels = clouds(20, 0)
    with pytest.raises(UserError, match=r"20 training images of 2 classes are too few.*it takes 30 at least"):
        learning_curve(features, labels, features, labels, 2, np.arange(20))
