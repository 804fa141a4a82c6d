"""An optimizer or scheduler in every form in which people give one, and its learning rate."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import StepLR

from resnet_tl import ImageClassifier
from resnet_tl.errors import UserError
from resnet_tl.finetuning.defaults import DEFAULTS
from resnet_tl.finetuning.makers import maker_of
from resnet_tl.finetuning.optimization import base_rate, complete, make_optimizer

MODE = DEFAULTS["last_stages"]


def made_from(given: Any, lr: float | None = None) -> tuple[type, list[tuple[float, float]]]:
    """The optimizer's class, and rate and decay of a head and of a backbone at half its rate."""
    maker = maker_of(given, "optimizer")
    rate = base_rate(maker, lr, MODE)
    groups = [{"params": [torch.nn.Parameter(torch.ones(2, 2))], "lr": rate * factor} for factor in (1, 0.5)]
    optimizer = make_optimizer(complete(maker, rate, MODE), groups)
    return type(optimizer), [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]


@pytest.mark.parametrize(
    ("given", "lr", "kind", "rate", "decay"),
    [
        (None, None, AdamW, MODE.lr, MODE.weight_decay),
        (None, 0.02, AdamW, 0.02, MODE.weight_decay),
        (AdamW, None, AdamW, MODE.lr, MODE.weight_decay),
        ("sgd", None, SGD, 0.001, 0),
        ("torch.optim.SGD", 0.02, SGD, 0.02, 0),
        (SGD, 0.02, SGD, 0.02, 0),
        (partial(SGD, lr=0.02, weight_decay=0.3), None, SGD, 0.02, 0.3),
        (partial(AdamW, weight_decay=0.3), None, AdamW, MODE.lr, 0.3),
        (lambda groups: SGD(groups, lr=0.02), None, SGD, 0.02, 0),
        ({"class_path": "torch.optim.SGD", "init_args": {"lr": 0.02}}, None, SGD, 0.02, 0),
        ({"class_path": "SGD"}, 0.02, SGD, 0.02, 0),
    ],
)
def test_each_form_makes_it_over_our_groups(given: Any, lr: float | None, kind: type, rate: float, decay: float):
    assert made_from(given, lr) == (kind, [(rate, decay), (rate / 2, decay)])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"optimizer": "sgdd"}, r"optimizer is 'sgdd', which torch does not have. Did you mean 'SGD'\?"),
        (
            {"optimizer": SGD([torch.nn.Parameter(torch.ones(2))])},
            r"made already, a SGD.*give the class, optimizer=SGD",
        ),
        ({"optimizer": 3}, r"optimizer is of type int; it must be a class such as torch.optim.SGD"),
        ({"optimizer": torch.nn.Linear}, r"optimizer is Linear, which is no Optimizer of torch"),
        ({"optimizer": StepLR}, r"optimizer is StepLR, which is no Optimizer"),
        ({"optimizer": lambda groups: None}, r"cannot be made: .*<lambda> gives a NoneType"),
        ({"lr": 0.1, "optimizer": partial(SGD, lr=0.2)}, r"lr is 0.1, but the optimizer SGD has an lr of its own, 0.2"),
        ({"lr": 0.1, "optimizer": lambda groups: SGD(groups)}, r"lr is 0.1, .* made by the function .*leave lr out"),
        ({"lr": -1.0}, r"lr is -1.0; it must be above 0"),
        ({"lr": 0.1, "mode": "head", "head_solver": "lbfgs"}, r"has no learning rate: leave out lr\."),
        ({"lr_scheduler": StepLR}, r"StepLR cannot be used .*'step_size'"),
        ({"lr_scheduler": "StepL"}, r"lr_scheduler is 'StepL'.*Did you mean 'StepLR'"),
    ],
)
def test_what_makes_none_is_refused_at_once(settings: dict[str, Any], sentence: str, in_python: None):
    with pytest.raises(UserError, match=sentence):
        ImageClassifier(**settings)


def test_hyperparameters_hold_plain_values_from_which_a_class_is_made_again():
    model = ImageClassifier(optimizer=partial(SGD, lr=0.02), lr_scheduler=partial(StepLR, step_size=2))

    again = ImageClassifier(**{name: model.hparams[name] for name in ("optimizer", "lr_scheduler")})

    assert again.given_optimizer == model.given_optimizer
    assert again.given_scheduler == model.given_scheduler


def test_a_function_is_not_in_a_checkpoint_which_says_so_when_it_is_to_train(fit: Any, tmp_path: Path):
    model = fit(mode="head", optimizer=lambda groups: SGD(groups, lr=0.02))
    model.trainer.save_checkpoint(tmp_path / "model.ckpt")

    loaded = ImageClassifier.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)

    with pytest.raises(UserError, match=r"no checkpoint can hold it: give it again"):
        fit(model=loaded)
    given = ImageClassifier.load_from_checkpoint(
        tmp_path / "model.ckpt", weights_only=True, optimizer=partial(SGD, lr=0.2)
    )
    assert given.lr == 0.2
