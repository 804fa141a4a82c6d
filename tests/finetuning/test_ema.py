"""Averages of the weights: ours and those of Lightning's own callbacks, beside frozen stages and after the fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint, WeightAveraging

from resnet_tl import ImageClassifier, Predictor
from resnet_tl.errors import UserError

Fit = Callable[..., ImageClassifier]
MODES = ("all", "head", pytest.param("last_stages", marks=pytest.mark.slow))


class HeadWeights(L.Callback):
    """Those of the head at the start and after each step."""

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.start = head_of(pl_module.state_dict())

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *step: Any) -> None:
        self.seen.append(head_of(pl_module.state_dict()))


def every_epoch(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(dirpath=folder, filename="{epoch}", monitor="val_loss", save_top_k=-1)


@pytest.mark.parametrize("ema", [0.7, pytest.param(None, marks=pytest.mark.slow)])
@pytest.mark.parametrize("mode", MODES)
def test_what_is_validated_is_what_is_saved_loaded_tested_and_shipped(fit: Fit, blobs: Path, tmp_path: Path, mode, ema):
    """A decay that is far from 1, so that the averages differ from the newest weights."""
    kept = every_epoch(tmp_path)
    callbacks = [kept] if ema else [EMAWeightAveraging(decay=0.7), kept]

    trainer = {"callbacks": callbacks, "enable_checkpointing": True}
    model = fit(3, mode=mode, weights="default", ema=ema, trainer=trainer)

    assert [proof.mode for proof in model.freezing.proofs] == [str(model.schedule.phases[0])]
    trainer, best_loss = model.trainer, float(kept.best_model_score)  # as it stands before states are loaded
    given = {"datamodule": trainer.datamodule, "ckpt_path": kept.best_model_path, "weights_only": True}
    trainer.validate(model, verbose=False, **given)
    assert model.numbers["val"]["loss"] == pytest.approx(best_loss, abs=1e-6)
    trainer.test(model, verbose=False, **given)
    bundle = model.save(tmp_path / "bundle").path
    for split in ("val", "test"):
        table, shipped = model.prediction_table(split), Predictor(bundle, device="cpu").predict(blobs / split)
        columns = [column for column in table if column.startswith("prob_")]
        np.testing.assert_allclose(shipped[columns], table[columns], rtol=0, atol=1e-5)


PHASES = [{"mode": "head", "epochs": 2}, {"mode": "last_stages"}]


def moving_average(start: torch.Tensor, steps: list[torch.Tensor], decay: float) -> torch.Tensor:
    for number, newest in enumerate(steps):
        start = start.lerp(newest, 1 - min(decay, (1 + number) / (10 + number)))
    return start


def head_of(state: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.flatten() for key, tensor in state.items() if ".fc." in key])


def test_each_phase_begins_an_average_that_soon_forgets_its_beginning(fit: Fit, tmp_path: Path):
    """Three steps an epoch; a decay that is reached within them."""
    seen = HeadWeights()

    trainer = {"callbacks": [seen, every_epoch(tmp_path)], "enable_checkpointing": True}
    model = fit(3, schedule=PHASES, ema=0.25, trainer=trainer)

    first = torch.load(tmp_path / "epoch=1.ckpt", weights_only=True)
    torch.testing.assert_close(head_of(first["state_dict"]), moving_average(seen.start, seen.seen[:6], 0.25))
    assert torch.equal(head_of(first["current_model_state"]), seen.seen[5])
    torch.testing.assert_close(head_of(model.state_dict()), moving_average(seen.seen[5], seen.seen[6:], 0.25))


def test_another_fit_of_the_same_model_begins_another_average(fit: Fit):
    model, seen = fit(2, mode="head", ema=0.9), HeadWeights()

    fit(1, model=model, trainer={"callbacks": seen})

    assert len(seen.seen) == 3
    torch.testing.assert_close(head_of(model.state_dict()), moving_average(seen.start, seen.seen, 0.9))


def test_what_is_frozen_and_counters_are_as_they_are_and_statistics_are_averaged(fit: Fit, tmp_path: Path):
    trainer = {"callbacks": every_epoch(tmp_path), "enable_checkpointing": True}

    model = fit(3, schedule=PHASES, ema=0.99, trainer=trainer)

    assert len(model.freezing.proofs) == 2
    for epoch, trained in ((1, "body.fc."), (2, ("body.fc.", "body.layer3."))):
        saved = torch.load(tmp_path / f"epoch={epoch}.ckpt", weights_only=True)
        newest, averaged = saved["current_model_state"], saved["state_dict"]
        assert newest.keys() == averaged.keys()
        for key in newest:
            is_averaged = key.removeprefix("network.").startswith(trained) and newest[key].is_floating_point()
            assert torch.equal(newest[key], averaged[key]) != is_averaged, key


@pytest.mark.parametrize("own", [{"ema": 0.9}, {"callbacks": EMAWeightAveraging(decay=0.9)}], ids=["ours", "theirs"])
def test_a_checkpoint_of_weights_alone_holds_what_was_validated(fit: Fit, tmp_path: Path, own: dict[str, Any]):
    kept = ModelCheckpoint(tmp_path, monitor="val_loss", save_weights_only=True)
    callbacks = [kept, *([own["callbacks"]] if "callbacks" in own else [])]

    model = fit(1, mode="all", ema=own.get("ema"), trainer={"callbacks": callbacks, "enable_checkpointing": True})

    trainer = model.trainer
    trainer.validate(model, trainer.datamodule, kept.best_model_path, verbose=False, weights_only=True)
    assert model.numbers["val"]["loss"] == pytest.approx(float(kept.best_model_score), abs=1e-6)


def test_one_average_is_enough(fit: Fit):
    with pytest.raises(UserError, match=r"ema is 0\.9, but EMAWeightAveraging averages the weights too: leave one of"):
        fit(1, mode="head", ema=0.9, trainer={"callbacks": EMAWeightAveraging()})

    model = fit(1, mode="head", trainer={"callbacks": EMAWeightAveraging()})
    assert model.resolved["model.ema"] == (None, "EMAWeightAveraging averages the weights")


def test_the_average_is_that_of_all_steps(fit: Fit):
    seen = HeadWeights()

    model = fit(2, mode="last_stages", trainer={"callbacks": [seen, WeightAveraging()]})

    held = torch.cat([weight.detach().flatten() for weight in model.network.head.parameters()])
    torch.testing.assert_close(held, torch.stack(seen.seen).mean(dim=0))
    assert not torch.allclose(held, seen.seen[-1])


def test_a_stage_that_is_frozen_later_is_saved_as_it_was_frozen(fit: Fit, tmp_path: Path):
    """Its average goes on falling behind; the stage itself is what the frozen copy computes and the proof is of."""
    kept = every_epoch(tmp_path)
    phases = [{"mode": "all", "epochs": 1}, {"mode": "head"}]

    model = fit(
        2, schedule=phases, trainer={"callbacks": [EMAWeightAveraging(decay=0.9), kept], "enable_checkpointing": True}
    )

    assert len(model.freezing.proofs) == 2
    saved = torch.load(tmp_path / "epoch=1.ckpt", weights_only=True)
    newest, averaged = saved["current_model_state"], saved["state_dict"]
    assert all(torch.equal(newest[key], averaged[key]) for key in averaged if ".fc." not in key)
    assert any(not torch.equal(newest[key], averaged[key]) for key in averaged if ".fc." in key)


@pytest.mark.parametrize("mode", ["head", pytest.param("all", marks=pytest.mark.slow)])
def test_a_resumed_fit_ends_with_the_same_averages(fit: Fit, tmp_path: Path, mode):
    every = every_epoch(tmp_path)
    whole = fit(
        3, mode=mode, trainer={"callbacks": [EMAWeightAveraging(decay=0.9), every], "enable_checkpointing": True}
    )

    again = {"callbacks": [EMAWeightAveraging(decay=0.9)]}
    resumed = fit(3, mode=mode, trainer=again, ckpt_path=tmp_path / "epoch=1.ckpt")

    for key, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], tensor), key
