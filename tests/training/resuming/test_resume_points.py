"""When the points are kept from which a fit goes on; that they are exact is in test_resume.py."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from resnet_tl import stopping
from resnet_tl.training.classifier import ImageClassifier
from resnet_tl.training.resuming.position import Position
from resnet_tl.training.resuming.resume_points import ResumePoints

Fit = Callable[..., ImageClassifier]


class Noted(ResumePoints):
    """Tells which points it kept."""

    def __init__(self, folder: Path, every: float) -> None:
        super().__init__(every, folder)
        self.positions: list[Position] = []

    def _save(self, trainer: L.Trainer) -> None:
        super()._save(trainer)
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            saved = torch.load(Path(self.folder or "", "last.ckpt"), weights_only=True)
            self.positions.append(Position(**saved["resnet_tl"]["position"]))


def kept(fit: Fit, folder: Path, every: float, **trainer: Any) -> list[Position]:
    points = Noted(folder, every)
    fit(2, mode="head", trainer={"callbacks": [points], "enable_checkpointing": True, **trainer})
    return points.positions


def test_before_each_validation_and_at_the_end(fit: Fit, tmp_path: Path):
    assert kept(fit, tmp_path, every=600) == [
        Position(0, 3, validates=True),
        Position(1, 3, validates=True),
        Position(2, ends=True),
    ]


def test_at_the_start_of_an_epoch_where_the_one_before_was_not_validated(fit: Fit, tmp_path: Path):
    assert kept(fit, tmp_path, every=600, check_val_every_n_epoch=2) == [
        Position(1),
        Position(1, 3, validates=True),
        Position(2, ends=True),
    ]


def test_within_an_epoch_when_the_time_has_come(fit: Fit, tmp_path: Path):
    assert kept(fit, tmp_path, every=0)[:3] == [Position(0, 1), Position(0, 2), Position(0, 3, validates=True)]


def test_never_while_gradients_are_held(fit: Fit, tmp_path: Path):
    assert kept(fit, tmp_path, every=0, accumulate_grad_batches=2)[:2] == [
        Position(0, 2),
        Position(0, 3, validates=True),
    ]


def test_a_run_of_a_few_steps_keeps_nothing(fit: Fit, tmp_path: Path):
    kept(fit, tmp_path, every=0, fast_dev_run=True)

    assert not (tmp_path / "last.ckpt").exists()


def test_a_checkpoint_holds_nothing_but_tensors_and_plain_values(fit: Fit, tmp_path: Path):
    kept(fit, tmp_path, every=0)

    torch.load(tmp_path / "last.ckpt", weights_only=True)


class Signalled(L.Callback):
    """Gets a real signal in a step of the first epoch."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_before_optimizer_step(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == self.batch:
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize(
    ("batch", "position"), [(0, Position(0, 1)), (1, Position(0, 2)), (2, Position(0, 3, validates=True))]
)
def test_a_signal_is_answered_at_the_next_step(fit: Fit, tmp_path: Path, batch: int, position: Position):
    points = Noted(tmp_path, every=600)

    with stopping.handled(), pytest.raises(stopping.Stopped, match="SIGTERM"):
        fit(2, mode="head", trainer={"callbacks": [points, Signalled(batch)], "enable_checkpointing": True})

    assert points.positions == [position]


def test_the_first_signal_is_forgotten_with_its_fit(fit: Fit, tmp_path: Path):
    test_a_signal_is_answered_at_the_next_step(fit, tmp_path, 0, Position(0, 1))

    with stopping.handled():
        assert kept(fit, tmp_path, every=600)[-1].ends


class Interrupts(L.Callback):
    """Someone types Ctrl-C, or stops the cell of a notebook, after some steps."""

    def __init__(self, step: int = 1) -> None:
        self.step = step

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        if trainer.global_step == self.step:
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_stops_a_plain_trainer_where_it_goes_on_as_if_nothing_had_been(fit: Fit, tmp_path: Path):
    keeps = {"enable_checkpointing": True, "default_root_dir": tmp_path / "stopped"}
    whole = fit(2, mode="last_stages")
    before = signal.getsignal(signal.SIGINT)

    with pytest.raises(stopping.Stopped, match=r"stopped by Ctrl-C; go on with: trainer.fit\(") as stopped:
        fit(2, mode="last_stages", trainer={"callbacks": [Interrupts()], **keeps})

    assert signal.getsignal(signal.SIGINT) is before
    last = str(stopped.value).split("ckpt_path='")[1].removesuffix("')")
    assert torch.load(last, weights_only=True)["global_step"] == 2
    resumed = fit(2, mode="last_stages", trainer=keeps, ckpt_path=last)
    for name, weights in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], weights), name


def test_the_best_of_before_stays_the_best_where_a_later_trainer_begins_another_folder(fit: Fit, tmp_path: Path):
    def keeps(folder: str, *others: L.Callback) -> dict[str, Any]:
        first = ModelCheckpoint(monitor="epoch", mode="min")  # the first epoch is the best one
        return {"enable_checkpointing": True, "default_root_dir": tmp_path / folder, "callbacks": [first, *others]}

    with pytest.raises(stopping.Stopped) as stopped:
        fit(3, mode="head", trainer=keeps("stopped", Interrupts(step=4)))
    last = str(stopped.value).split("ckpt_path='")[1].removesuffix("')")
    going_on = keeps("going on")
    fit(3, mode="head", trainer=going_on, ckpt_path=last)

    best = Path(going_on["callbacks"][0].best_model_path)
    assert best.name.startswith("epoch=0-")
    assert best.parent == tmp_path / "stopped" / "checkpoints"
    assert best.is_file()


def test_ctrl_c_before_the_training_leaves_python_as_it_was(fit: Fit, monkeypatch: pytest.MonkeyPatch):
    def interrupted(self: ImageClassifier, data: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(ImageClassifier, "build", interrupted)
    before = signal.getsignal(signal.SIGINT)

    with pytest.raises(stopping.Stopped, match="stopped by Ctrl-C before the training began"):
        fit(trainer={"enable_checkpointing": True})

    assert signal.getsignal(signal.SIGINT) is before


def test_a_fit_that_keeps_no_checkpoints_keeps_none_of_these(fit: Fit, tmp_path: Path):
    fit(mode="head")

    assert not list(tmp_path.rglob("last.ckpt"))
