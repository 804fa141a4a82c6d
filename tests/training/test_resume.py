"""Randomness is a pure function: of seeds and steps, never of workers, of what ran before, or of an interruption."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint

from resnet_tl.training.classifier import ImageClassifier
from resnet_tl.training.fit import best_checkpoint
from resnet_tl.training.resuming.position import Position
from resnet_tl.training.resuming.resume_points import SAVE, ResumePoints

Fit = Callable[..., ImageClassifier]
# Everything that draws random numbers.
RANDOM: dict[str, Any] = {"mode": "all", "head_dropout": 0.5, "mixup": 0.4, "cutmix": 1.0}


def equal(one: ImageClassifier, other: ImageClassifier) -> bool:
    state = other.state_dict()
    return all(torch.equal(tensor, state[key]) for key, tensor in one.state_dict().items())


def test_two_runs_give_bit_identical_weights(fit: Fit):
    one = fit(2, **RANDOM)
    torch.manual_seed(12345)  # whatever else drew random numbers before
    torch.rand(7)

    assert equal(one, fit(2, **RANDOM))


@pytest.mark.parametrize("part", [{"seed": 1}, {"data": {"seed": 1}}])
def test_another_seed_gives_other_weights(fit: Fit, part: dict[str, Any]):
    assert not equal(fit(**RANDOM), fit(**RANDOM, **part))


def test_the_number_of_workers_changes_nothing(fit: Fit):
    assert equal(fit(2, **RANDOM), fit(2, **RANDOM, data={"workers": 2}))


def test_worker_processes_end_with_the_fit(fit: Fit):
    before = set(multiprocessing.active_children())

    model = fit(1, mode="head", data={"workers": 1})

    assert model.trainer.datamodule is not None  # still there, and with it what it holds
    assert set(multiprocessing.active_children()) <= before


@pytest.mark.parametrize("name", ["head_dropout", "mixup", "cutmix"])
def test_what_is_drawn_in_a_step_depends_on_the_seed(fit: Fit, name: str):
    """The same head and images, so that nothing but this one drawing differs."""

    def weights(seed: int) -> torch.Tensor:
        model = ImageClassifier(network="resnet20", weights="none", **{name: 0.5})
        model.on_train_batch_start = lambda batch, batch_idx: torch.manual_seed(seed + batch_idx)  # type: ignore
        fit(model=model)
        assert model.network is not None
        return model.network.head.state_dict()[next(iter(model.network.head.state_dict()))]

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(100))


class EveryStep(ResumePoints):
    """Saves wherever a fit can be stopped, and keeps each file."""

    def __init__(self, folder: Path) -> None:
        super().__init__(every=0.0, folder=folder)
        self.kept: list[tuple[Position, Path]] = []

    def _agreed(self, is_due: bool = False) -> int:
        return SAVE

    def _save(self, trainer: L.Trainer) -> None:
        file = Path(self.folder or "", f"{len(self.kept)}.ckpt")
        trainer.save_checkpoint(file, weights_only=False)
        self.kept.append((position_in(file), file))


class Everywhere(EveryStep):
    """Saves in whatever hook of its own, as a user's callback may, and keeps no other point."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        for hook in HOOKS:
            setattr(self, hook, lambda trainer, *_, **__: self._save(trainer) if is_fitting(trainer) else None)


HOOKS = ("on_train_epoch_start", "on_train_batch_start", "on_train_batch_end")
HOOKS += ("on_validation_start", "on_validation_batch_end", "on_validation_end", "on_train_epoch_end")


def is_fitting(trainer: L.Trainer) -> bool:
    return trainer.state.fn == "fit" and not trainer.sanity_checking


def position_in(file: Path) -> Position:
    return Position(**torch.load(file, weights_only=True)["resnet_tl"]["position"])


SCHEDULE = [{"mode": "head", "epochs": 1}, {"mode": "last_stages", "epochs": 1}, {"mode": "all"}]
SIZES = [{"epochs": 2, "image_size": 12}, {"norms_only": True}]
KEPT_SIZES = [{"mode": "last_stages", "epochs": 1, "image_size": 12}, {"mode": "last_stages"}]
SGD = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.05, "momentum": 0.9}}


def scheduler(name: str, **arguments: Any) -> dict[str, Any]:
    return {"lr_scheduler": {"class_path": f"torch.optim.lr_scheduler.{name}", "init_args": arguments}}


ALWAYS = (
    *("head, cached", "last_stages", "all", "all, workers", "schedule", "schedule, cached"),
    *("sizes", "sizes, cached"),
    *("validated twice an epoch", "accumulated", "plateau", "averaged"),
)
"""Those that are tried at a few places in every test run; the slow tests try all cases everywhere."""

CASES: dict[str, dict[str, Any]] = {
    "head, cached": {
        "mode": "head",
        "head_dropout": 0.5,
        "activation_cache": "on",
        "data": {"augmentation": "light", "views": 2},
    },
    "head, uncached": RANDOM | {"mode": "head", "head_hidden": [8]},
    "last_stages": RANDOM | {"mode": "last_stages"},
    "all": RANDOM,
    "all, workers": RANDOM | {"data": {"workers": 2}},
    "balanced": {"mode": "all", "data": {"sampler": "balanced", "random_erasing": 0.5}},
    "weighted": {"mode": "all", "class_weights": "balanced"},
    "schedule": RANDOM | {"schedule": SCHEDULE},
    "sizes": RANDOM | {"schedule": SIZES, "data": {"workers": 1, "test_size": 20}},
    "sizes, cached": {"schedule": KEPT_SIZES, "activation_cache": "on", "data": {"test_size": 20, "views": 1}},
    "schedule, cached": {"schedule": SCHEDULE, "activation_cache": "on", "data": {"views": 1}},
    "averaged": {"schedule": SCHEDULE, "ema": 0.9},
    "averaged, accumulated": {"mode": "all", "ema": 0.9, "trainer": {"accumulate_grad_batches": 2}},
    "accumulated": {"mode": "all", "trainer": {"accumulate_grad_batches": 2}},
    "validated twice an epoch": {"mode": "all", "data": {"batch_size": 6}, "trainer": {"val_check_interval": 0.5}},
    "validated every other epoch": {"mode": "all", "trainer": {"check_val_every_n_epoch": 2}},
    "limited": {"mode": "all", "trainer": {"limit_train_batches": 2, "limit_val_batches": 1}},
    "clipped": {"mode": "all", "trainer": {"gradient_clip_val": 0.1}},
    "max_steps": {"mode": "all", "trainer": {"max_steps": 7}},
    "plateau": {"mode": "all"}
    | scheduler("ReduceLROnPlateau", patience=0, factor=0.5, threshold=9, threshold_mode="abs"),
    "one cycle": {"mode": "all", "optimizer": SGD} | scheduler("OneCycleLR", max_lr=0.05, total_steps=9),
    "cyclic": {"mode": "all", "optimizer": SGD} | scheduler("CyclicLR", base_lr=0.01, max_lr=0.05, step_size_up=2),
    "steps": {"mode": "all"} | scheduler("StepLR", step_size=1, gamma=0.5),
    "milestones": {"mode": "all"} | scheduler("MultiStepLR", milestones=[1, 2]),
    "cosine": {"mode": "all"} | scheduler("CosineAnnealingLR", T_max=3),
    "exponential": {"mode": "all"} | scheduler("ExponentialLR", gamma=0.7),
    "restarts": {"mode": "all"} | scheduler("CosineAnnealingWarmRestarts", T_0=2),
}
CALLBACKS: dict[str, Callable[[], L.Callback]] = {
    "stopped early": lambda: EarlyStopping("val_loss", patience=0, min_delta=9.0),
    "moving average": lambda: EMAWeightAveraging(decay=0.9),
}


def resumed_everywhere(
    fit: Fit, folder: Path, settings: dict[str, Any], callback=None, points: slice = slice(None), saves=EveryStep
) -> list[Position]:
    """Fits once, then goes on from every kept point of that fit, and compares all that remains of both."""

    def run(keeper: ResumePoints, resume: Path | None = None) -> tuple[Any, ...]:
        best = best_checkpoint("val_loss", "min")
        best.dirpath = str(folder)
        trainer = {"callbacks": [keeper, best, *([callback()] if callback else [])], "enable_checkpointing": True}
        trainer |= settings.get("trainer", {})
        own = {key: value for key, value in settings.items() if key != "trainer"}
        model = fit(3, trainer=trainer, ckpt_path=resume, **own)
        optimizer = model.trainer.optimizers[0]
        means = [float(model.trainer.callback_metrics[key]) for key in ("train_loss", "train_accuracy")]
        table = model.prediction_table("val").to_csv() if model.numbers.get("val") else None
        rates = [group["lr"] for group in optimizer.param_groups]
        progress = model.trainer.global_step, model.trainer.current_epoch, best.best_model_score.item()
        weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        proofs = model.freezing.proofs
        return model.numbers.get("val"), means, table, rates, progress, proofs, weights

    everywhere = saves(folder)
    *whole, weights = run(everywhere)
    kept = [(position, file) for position, file in everywhere.kept if not position.ends]
    assert len(kept) >= 6 or "limit_train_batches" in settings.get("trainer", {})
    for position, file in kept[points]:
        *resumed, resumed_weights = run(ResumePoints(folder=folder / "resumed"), file)
        assert resumed == whole, position
        assert all(torch.equal(weights[key], resumed_weights[key]) for key in weights), position
    return [position for position, _ in kept]


def every(number: int) -> Any:
    """All points at which a fit can go on, or, in the fast tests, some of them: others in each case."""
    return [pytest.param(case, 0, 1, marks=pytest.mark.slow, id=f"{case}, everywhere") for case in CASES] + [
        pytest.param(case, place % number, number, id=case) for place, case in enumerate(CASES) if case in ALWAYS
    ]


@pytest.mark.parametrize(("case", "first", "step"), every(7))
def test_a_resume_equals_the_uninterrupted_run(fit: Fit, tmp_path: Path, case: str, first: int, step: int):
    resumed_everywhere(fit, tmp_path, CASES[case], points=slice(first, None, step))


OTHERS = ("all", "validated twice an epoch", "plateau", "stopped early", "averaged")


@pytest.mark.parametrize("case", ["head, cached", *(pytest.param(case, marks=pytest.mark.slow) for case in OTHERS)])
def test_a_checkpoint_of_the_users_own_resumes_as_well(fit: Fit, tmp_path: Path, case: str):
    """Whoever saves it, in whatever hook: the position is in every checkpoint."""
    settings = CASES.get(case, {"mode": "all"})

    resumed_everywhere(fit, tmp_path, settings, CALLBACKS.get(case), slice(None, None, 4), Everywhere)


@pytest.mark.parametrize("mode", ["all", "head"])
def test_a_plain_model_checkpoint_in_the_middle_of_an_epoch_resumes(fit: Fit, tmp_path: Path, mode: str):
    """As Lightning's documentation shows it: every_n_train_steps, then ckpt_path."""

    def weights(epochs: int, resume: Path | None = None) -> dict[str, torch.Tensor]:
        keeper = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=4, save_top_k=-1)
        trainer = {"callbacks": [keeper], "enable_checkpointing": True}
        model = fit(epochs, trainer=trainer, ckpt_path=resume, mode=mode, head_dropout=0.5)
        return {key: tensor.clone() for key, tensor in model.state_dict().items()}

    whole = weights(3)
    resumed = weights(3, tmp_path / "step=4.ckpt")

    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


@pytest.mark.parametrize("name", ["stopped early", pytest.param("moving average", marks=pytest.mark.slow)])
def test_what_callbacks_remember_is_resumed(fit: Fit, tmp_path: Path, name: str):
    resumed_everywhere(fit, tmp_path, {"mode": "all"}, CALLBACKS[name])
