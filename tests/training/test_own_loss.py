"""A loss of the user's own: overridden, by name, or as an object."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from resnet_tl import ImageClassifier
from resnet_tl.errors import UserError

Fit = Callable[..., ImageClassifier]
MARGIN = "torch.nn.MultiMarginLoss"


class Soft(torch.nn.Module):
    takes_soft_targets = True

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, target)


class Overridden(ImageClassifier):
    def loss(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.multi_margin_loss(logits, target)


def head(model: ImageClassifier) -> torch.Tensor:
    return model.network.head.weight


def test_by_name_as_an_object_and_overridden_it_trains_the_same(fit: Fit):
    settings = {"network": "resnet20", "weights": "none", "mode": "head"}
    by_name = fit(1, **settings, loss=MARGIN)
    as_object = fit(1, **settings, loss=torch.nn.MultiMarginLoss())
    overridden = fit(1, model=Overridden(**settings))

    assert torch.equal(head(by_name), head(as_object))
    assert torch.equal(head(by_name), head(overridden))
    assert not torch.equal(head(by_name), head(fit(1, **settings)))
    assert by_name.hparams["loss"] == MARGIN
    assert as_object.hparams["loss"] == "torch.nn.modules.loss.MultiMarginLoss"


def test_arguments_reach_it(fit: Fit):
    assert fit(1, mode="head", loss={"class_path": MARGIN, "init_args": {"p": 2}}).criterion.p == 2


def test_mixup_gives_probabilities_to_a_loss_that_takes_them(fit: Fit):
    fit(1, mode="head", loss=Soft(), mixup=0.2)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"label_smoothing": 0.1}, "model.label_smoothing shapes our own loss"),
        ({"focal_gamma": 2.0}, "model.focal_gamma shapes our own loss"),
        ({"class_weights": "balanced"}, "model.class_weights shapes our own loss"),
        ({"mixup": 0.2}, "leave out model.mixup, or set takes_soft_targets"),
        ({"loss": "torch.nn.NoLoss"}, "torch.nn has no 'NoLoss'"),
        ({"loss": {"class_path": MARGIN, "init_args": {"q": 1}}}, "MultiMarginLoss cannot be made: .*'q'"),
        ({"loss": "MultiMarginLoss"}, "must be a dotted name"),
        ({"loss": torch.nn.Linear(3, 3)}, "has weights of its own, which nothing would train"),
        ({"mode": "head", "head_solver": "lbfgs"}, "leave out model.loss"),
    ],
)
def test_what_does_not_go_with_it_is_refused(settings: dict[str, Any], sentence: str):
    with pytest.raises(UserError, match=sentence):
        ImageClassifier(**{"loss": MARGIN, **settings})
