"""The training loss against torch's own cross-entropy and the paper's formula."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from resnet_tl.finetuning.loss import classification_loss

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(8, 3, generator=GENERATOR)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 0])
MIXED = torch.rand(8, 3, generator=GENERATOR).softmax(dim=1)
WEIGHT = torch.tensor([0.5, 1.0, 2.0])


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["equal", "weighted"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("target", [LABELS, MIXED], ids=["labels", "mixed"])
def test_it_tends_to_cross_entropy_as_gamma_tends_to_zero(
    target: torch.Tensor, smoothing: float, weight: torch.Tensor | None
):
    plain = classification_loss(LOGITS, target, weight, smoothing)
    nearly = classification_loss(LOGITS, target, weight, smoothing, focal_gamma=1e-6)

    assert torch.equal(plain, F.cross_entropy(LOGITS, target, weight=weight, label_smoothing=smoothing))
    assert nearly.item() == pytest.approx(plain.item(), rel=1e-5)


def test_it_is_the_formula_of_the_paper():
    p = LOGITS.softmax(dim=1)[torch.arange(8), LABELS]

    loss = classification_loss(LOGITS, LABELS, focal_gamma=2.0)

    assert loss.item() == pytest.approx((-((1 - p) ** 2) * p.log()).mean().item(), rel=1e-5)


def test_an_easy_image_counts_less_beside_a_hard_one():
    logits = torch.tensor([[4.0, 0.0], [0.0, 0.5]], requires_grad=True)
    ratios = []
    for gamma in (0.0, 2.0):
        (gradient,) = torch.autograd.grad(classification_loss(logits, torch.tensor([0, 0]), focal_gamma=gamma), logits)
        ratios.append((gradient[0].norm() / gradient[1].norm()).item())

    assert ratios[1] < ratios[0] / 50


def test_a_certain_prediction_has_a_finite_gradient():
    logits = torch.tensor([[500.0, -500.0]], requires_grad=True)
    classification_loss(logits, torch.tensor([0]), focal_gamma=0.5).backward()

    assert torch.isfinite(logits.grad).all()
