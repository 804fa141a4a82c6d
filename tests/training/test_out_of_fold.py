from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from resnet_tl.training.out_of_fold import loss_of_noisy_labels, out_of_fold


def test_without_noise_the_loss_is_cross_entropy() -> None:
    logits, labels = torch.randn(20, 4, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 4
    assert loss_of_noisy_labels(0.0, 4)(logits, labels) == pytest.approx(float(F.cross_entropy(logits, labels)))


def test_with_noise_a_label_that_cannot_be_right_costs_a_bounded_loss() -> None:
    logits, labels = torch.tensor([[100.0, 0.0, 0.0]]), torch.tensor([1])
    assert loss_of_noisy_labels(0.2, 3)(logits, labels) == pytest.approx(-np.log(0.1), abs=1e-4)


def test_flipped_labels_are_found_by_the_heads_that_did_not_learn_them() -> None:
    generator = np.random.default_rng(0)
    truth = np.arange(300) % 3
    features = generator.normal(size=(300, 40)).astype(np.float32)
    features[np.arange(300), truth] += 4
    is_wrong = generator.random(300) < 0.1
    labels = np.where(is_wrong, (truth + generator.integers(1, 3, 300)) % 3, truth)
    noise = out_of_fold(torch.from_numpy(features), labels, np.arange(300) // 3 % 5)
    suspect = noise.wrong > 0.5
    assert noise.rate == pytest.approx(is_wrong.mean(), abs=0.03)
    assert is_wrong[suspect].mean() > 0.9
    assert suspect[is_wrong].mean() > 0.9


def test_an_image_does_not_judge_itself() -> None:
    """Features that are no more than each image's own number: whoever learnt it knows the label, others cannot."""
    labels = np.arange(40) % 2
    noise = out_of_fold(torch.eye(40), labels, np.arange(40) // 2 % 4)
    assert noise.loss == pytest.approx(np.log(2), abs=0.05)
