"""`model.head_init: solved`: a fit begins with a head that knows the pretrained features, and stays exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from resnet_tl.errors import UserError

SOLVED: dict[str, Any] = {"weights": "default", "mode": "last_stages", "head_init": "solved"}
KEEPS = {"enable_checkpointing": True}


def same(one: Any, other: Any) -> bool:
    state = other.state_dict()
    return all(torch.equal(tensor, state[key]) for key, tensor in one.state_dict().items())


def test_it_begins_better_and_is_the_same_twice(fit, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", "resnet_tl")
    drawn = fit(1, **SOLVED | {"head_init": "random"})
    one = fit(1, **SOLVED)

    assert "The head begins solved, penalty " in caplog.text
    assert one.numbers["val"]["loss"] < drawn.numbers["val"]["loss"]
    assert same(one, fit(1, **SOLVED, data={"workers": 2}))


def test_without_validation_images_some_that_train_choose(fit, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", "resnet_tl")
    model = fit(1, **SOLVED, data={"final": True})

    assert "The head begins solved, penalty " in caplog.text
    assert model.trainer.callback_metrics["train_loss"] < 1


def test_a_resumed_fit_does_not_solve_it_again(fit, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    keep = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1, monitor="val_loss")
    whole = fit(2, trainer=KEEPS | {"callbacks": [keep]}, **SOLVED)
    caplog.clear()
    caplog.set_level("INFO", "resnet_tl")
    resumed = fit(2, ckpt_path=tmp_path / "epoch=0.ckpt", **SOLVED)

    assert "begins solved" not in caplog.text
    assert same(whole, resumed)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"mode": "head"}, "in mode head, --model.head_solver solves it"),
        ({"weights": "none"}, "needs pretrained features: leave it out"),
        ({"head_hidden": [8]}, "leave out model.head_hidden"),
        ({"head_init": "zeros"}, "must be one of random, solved"),
    ],
)
def test_what_does_not_go_with_it_is_refused(fit, settings: dict[str, Any], sentence: str):
    with pytest.raises(UserError, match=sentence):
        fit(1, **SOLVED | settings)
