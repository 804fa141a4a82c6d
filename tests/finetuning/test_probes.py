"""Probes: the penalty follows from the training images, and copies stay together."""

import numpy as np
import pytest
import torch

from resnet_tl.finetuning.probes import UNCHOSEN, choose_penalty, deal, linear_logits


@pytest.fixture(scope="module")
def clouds() -> tuple[torch.Tensor, torch.Tensor]:
    """240 points in three classes, which three of 40 features tell apart."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(240) % 3
    features = torch.randn(240, 40, generator=generator)
    features[torch.arange(240), labels] += 3.0
    return features, labels


def test_noise_asks_for_a_stronger_penalty_than_what_can_be_told_apart(clouds):
    features, labels = clouds
    groups, noise = np.arange(240), torch.randn(240, 40, generator=torch.Generator().manual_seed(1))

    assert choose_penalty(noise, labels, 3, groups) > 10 * choose_penalty(features, labels, 3, groups)


def test_copies_of_an_image_do_not_make_the_penalty_weak():
    """Each point of the noise is there four times: apart, its copies would be known by heart."""
    generator = torch.Generator().manual_seed(0)
    noise, labels = torch.randn(60, 30, generator=generator).repeat(4, 1), (torch.arange(60) % 3).repeat(4)
    apart, together = (choose_penalty(noise, labels, 3, groups) for groups in (np.arange(240), np.arange(240) % 60))

    assert together > 10 * apart


@pytest.mark.parametrize("count", [2, 7])
def test_a_handful_of_images_chooses_no_penalty(clouds, count: int):
    features, labels = clouds
    assert choose_penalty(features[:count], labels[:count], 3, np.arange(count)) == UNCHOSEN


def test_a_class_with_one_image_is_no_obstacle(clouds):
    features, labels = clouds[0][:30], torch.tensor([0] * 15 + [1] * 14 + [2])
    penalty = choose_penalty(features, labels, 3, np.arange(30))
    assert linear_logits(features, labels, penalty, 3, features).isfinite().all()


def test_parts_are_even_and_keep_groups_whole():
    labels, groups = np.repeat([0, 1], [80, 20]), np.arange(100) // 2
    parts = deal(labels, groups, 4)

    for group in range(50):
        assert len(set(parts[groups == group])) == 1
    assert np.bincount(parts[labels == 0], minlength=4).tolist() == [20] * 4
    assert set(np.bincount(parts[labels == 1], minlength=4)) <= {4, 6}
