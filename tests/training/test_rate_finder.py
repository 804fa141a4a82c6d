"""The finder of a learning rate keeps the proportions of the groups and tries the last phase."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch

from resnet_tl import ImageClassifier, ImageDataModule
from resnet_tl.evaluation.rate_test import has_ended
from resnet_tl.training.rate_finder import LARGEST, SMALLEST, STEPS, RateFinder


class Seen(L.Callback):
    """Notes the rates of all groups, and what is frozen, in each step."""

    def __init__(self) -> None:
        self.rates: list[list[float]] = []
        self.frozen: set[frozenset[str]] = set()

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: Any, optimizer: Any) -> None:
        self.rates.append([group["lr"] for group in optimizer.param_groups])
        self.frozen.add(pl_module.network.frozen)


@pytest.fixture
def finder_of(blobs: Path, tmp_path: Path):
    def run(accumulated: int = 1, **settings: Any) -> tuple[RateFinder, Seen]:
        finder, seen = RateFinder({"fast_dev_run": False}), Seen()
        model = ImageClassifier("resnet20", **settings)
        data = ImageDataModule(root=blobs, batch_size=8, image_size=16, augmentation="none")
        quiet = {"accelerator": "cpu", "devices": 1, "enable_model_summary": False, "default_root_dir": tmp_path}
        quiet["accumulate_grad_batches"] = accumulated
        trainer = L.Trainer(callbacks=[finder, seen], **finder.trainer_settings | quiet)
        finder.run(model, data, trainer)
        return finder, seen

    return run


def test_groups_keep_their_proportions(finder_of):
    finder, seen = finder_of(mode="last_stages", backbone_lr_factor=0.1)

    assert len(finder.rates) == len(finder.losses) == len(seen.rates) <= STEPS
    assert finder.rates[0] == SMALLEST
    for rate, groups in zip(finder.rates, seen.rates, strict=True):
        assert max(groups) == pytest.approx(rate)
        assert min(groups) == pytest.approx(rate / 10)


def test_the_last_phase_is_tried(finder_of):
    _, seen = finder_of(schedule=[{"mode": "head", "epochs": 1}, {"mode": "all", "lr": 0.1}])

    assert seen.frozen == {frozenset()}


def test_it_ends_where_rates_are_too_large(finder_of):
    finder, _ = finder_of(mode="all", weights="none", optimizer={"class_path": "torch.optim.SGD"})

    assert finder.rates[-1] < LARGEST
    assert has_ended(finder.losses)


def test_the_loss_is_that_of_a_batch_however_many_make_a_step(finder_of):
    settings = {"mode": "head", "head_solver": "optimizer"}
    alone, accumulated = (finder_of(number, **settings)[0] for number in (1, 2))

    assert accumulated.losses[0] == pytest.approx(alone.losses[0])


def test_all_processes_end_at_the_same_step():
    """Of two of which the other one's loss is no number: their mean says so to both."""
    finder = RateFinder({"fast_dev_run": False})
    strategy = SimpleNamespace(reduce=lambda loss, reduce_op: (loss + float("nan")) / 2)
    trainer = SimpleNamespace(strategy=strategy, accumulate_grad_batches=1, should_stop=False)

    finder.on_train_batch_end(trainer, None, {"loss": torch.tensor(1.0)}, None, 0)

    assert trainer.should_stop


def test_a_schedule_that_waits_for_a_validation_is_left_out(finder_of):
    plateau = {"class_path": "torch.optim.lr_scheduler.ReduceLROnPlateau"}

    _, seen = finder_of(mode="last_stages", backbone_lr_factor=0.1, lr_scheduler=plateau)

    assert all(min(groups) == pytest.approx(max(groups) / 10) for groups in seen.rates)
