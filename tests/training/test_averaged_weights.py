"""Averages of the weights: Lightning's own callbacks, beside frozen stages and after the fit."""

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

Fit = Callable[..., ImageClassifier]
MODES = ("all", "head", pytest.param("last_stages", marks=pytest.mark.slow))


class HeadWeights(L.Callback):
    """Those of the head after each step."""

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *step: Any) -> None:
        self.seen.append(torch.cat([weight.detach().flatten() for weight in pl_module.network.head.parameters()]))


def every_epoch(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(dirpath=folder, filename="{epoch}", monitor="val_loss", save_top_k=-1)


@pytest.mark.parametrize("mode", MODES)
def test_what_is_validated_is_what_is_saved_loaded_tested_and_shipped(fit: Fit, blobs: Path, tmp_path: Path, mode):
    """A decay that is far from 1, so that the averages differ from the newest weights."""
    kept = every_epoch(tmp_path)
    callbacks = [EMAWeightAveraging(decay=0.7), kept]

    model = fit(3, mode=mode, weights="default", trainer={"callbacks": callbacks, "enable_checkpointing": True})

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
