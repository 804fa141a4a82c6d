"""Habits beside the tables of `docs/lightning_habits.md`: subclasses, copies, loops of one's own, fits that go on."""

from __future__ import annotations

import io
import pickle
import signal
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

from resnet_tl import ImageClassifier, ImageDataModule
from resnet_tl.errors import UserError

NAMES = ["blue", "green", "red"]


class Stops(L.Callback):
    """By Ctrl-C in the fourth epoch; from the third one on the weights are bad, so that the second one is the best."""

    def __init__(self, stops: bool = False) -> None:
        self.stops = stops

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self.stops and trainer.current_epoch == 3:
            self.stops = False
            signal.raise_signal(signal.SIGINT)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.current_epoch >= 2:
            with torch.no_grad():
                for parameter in pl_module.network.head.parameters():
                    parameter.zero_()


def a_trainer(tmp_path: Path, *callbacks: L.Callback, **settings: Any) -> L.Trainer:
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    return L.Trainer(**{"max_epochs": 1, "default_root_dir": tmp_path, "callbacks": [*callbacks], **quiet, **settings})


def fitted(trainer: L.Trainer, blobs: Path, model: ImageClassifier | None = None, **where: Any) -> ImageClassifier:
    model = ImageClassifier(mode="last_stages") if model is None else model
    trainer.fit(model, datamodule=ImageDataModule(blobs, batch_size=8), **where)
    return model


@pytest.mark.parametrize("point", ["last.ckpt", "best"])
def test_a_fit_that_goes_on_ends_with_the_best_epoch_before_the_stop(blobs, tmp_path, point):
    """Weights, predictions and numbers; and `best` is still the best after it was evaluated, under the same Trainer."""
    whole = fitted(a_trainer(tmp_path / "whole", Stops(), max_epochs=4), blobs)
    trainer = a_trainer(tmp_path / "stopped", Stops(stops=True), max_epochs=4)
    model = ImageClassifier(mode="last_stages")
    with pytest.raises(BaseException, match="Ctrl-C"):
        fitted(trainer, blobs, model)
    data = ImageDataModule(blobs, batch_size=8)
    for _ in range(2):
        trainer.validate(model, datamodule=data, ckpt_path="best", verbose=False)
    if point == "best":
        fitted(trainer, blobs, model, ckpt_path="best")
    else:
        file = next((tmp_path / "stopped").rglob(point))
        model = fitted(a_trainer(tmp_path / "stopped", Stops(), max_epochs=4), blobs, ckpt_path=str(file))

    assert model.numbers == whole.numbers
    assert np.array_equal(model.predictions["val"].logits, whole.predictions["val"].logits)
    assert all(torch.equal(one, model.state_dict()[name]) for name, one in whole.state_dict().items())


def test_a_fit_does_not_go_on_otherwise_than_it_began(blobs, tmp_path):
    trainer = a_trainer(tmp_path)
    fitted(trainer, blobs)
    file = trainer.checkpoint_callback.best_model_path
    trainer.save_checkpoint(tmp_path / "weights.ckpt", weights_only=True)

    for settings, place, said in (
        ({"mode": "all"}, file, "has model.mode 'last_stages', not 'all'"),
        ({"mode": "last_stages", "optimizer": "SGD"}, file, "has model.optimizer None"),
        ({"mode": "last_stages"}, tmp_path / "weights.ckpt", "holds weights alone"),
    ):
        with pytest.raises(UserError, match=said):
            fitted(a_trainer(tmp_path), blobs, ImageClassifier(**settings), ckpt_path=place)
    for given, said in (({"network": "resnet18"}, "holds a resnet20"), ({"classes": ["a", "b"]}, "those of the model")):
        with pytest.raises(UserError, match=said):
            ImageClassifier.load_from_checkpoint(file, **given)


def _forgets(name: str) -> type[ImageClassifier]:
    return type("Forgets", (ImageClassifier,), {name: lambda self, *given: None})


@pytest.mark.parametrize("hook", ["on_train_epoch_start", "on_save_checkpoint", "validation_step", "forward"])
def test_a_subclass_that_takes_the_place_of_ours_is_refused(blobs, tmp_path, hook):
    with pytest.raises(UserError, match=f"Forgets.{hook}"):
        fitted(a_trainer(tmp_path), blobs, _forgets(hook)())


class OwnStep(ImageClassifier):
    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(self(batch["image"]), batch["label"])

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()


def test_a_training_step_of_ones_own_logs_what_it_likes(blobs, tmp_path):
    model = fitted(a_trainer(tmp_path), blobs, OwnStep(mode="last_stages", activation_cache="off"))

    assert "accuracy" in model.numbers["val"]
    assert "train_loss" not in model.trainer.callback_metrics


def test_a_fitted_model_and_its_images_can_be_pickled(blobs, tmp_path):
    model, file = fitted(a_trainer(tmp_path), blobs), io.BytesIO()
    data = pickle.loads(pickle.dumps(model.trainer.datamodule))
    torch.save(model, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    x = torch.rand(2, 3, 32, 32)

    assert torch.equal(again.eval()(x), model.eval()(x))
    assert data.classes == tuple(NAMES)


def test_a_model_can_be_exported():
    model = ImageClassifier(network="resnet20", classes=NAMES).eval()
    x = torch.rand(2, 3, 32, 32)

    assert torch.allclose(torch.export.export(model, (x,)).module()(x), model(x), atol=1e-5)


def test_what_cannot_be_trained_is_refused(blobs, tmp_path):
    for model, said in (
        (ImageClassifier(network="resnet20", classes=NAMES).double(), "no longer float32"),
        (torch.compile(ImageClassifier()), "torch.compile"),
    ):
        with pytest.raises(UserError, match=said):
            fitted(a_trainer(tmp_path), blobs, model)
    for step in ("training_step", "validation_step"):
        model, data = ImageClassifier(network="resnet20", classes=NAMES), ImageDataModule(blobs, batch_size=8)
        data.setup("fit")
        data.use(model.preprocessing)
        with pytest.raises(UserError, match="loop of your own"):
            getattr(model, step)(next(iter(data.train_dataloader())), 0)
    for kind, given in ((ImageClassifier, "lr"), (ImageDataModule, "batch_size"), (ImageDataModule, "val_fraction")):
        with pytest.raises(UserError, match=f"{given} is '1e-3'"):
            kind(**{given: "1e-3"})
