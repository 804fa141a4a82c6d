"""What a classifier cannot be told, or not together with its images, is refused by name before a step is taken."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resnet_tl import ImageClassifier
from resnet_tl.errors import UserError
from resnet_tl.training.settings import WARMUP

Fit = Callable[..., ImageClassifier]
STEP = {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 1}}
ONE_CYCLE = {"class_path": "torch.optim.lr_scheduler.OneCycleLR", "init_args": {"max_lr": 0.1}}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"head_dropout": 1.0}, r"model.head_dropout is 1.0; it must be at least 0 and below 1"),
        ({"warmup": -0.1}, r"model.warmup is -0.1; it must be at least 0"),
        ({"label_smoothing": float("nan")}, r"model.label_smoothing is nan"),
        ({"focal_gamma": float("inf")}, r"model.focal_gamma is inf"),
        ({"backbone_lr_factor": -1.0}, r"model.backbone_lr_factor is -1.0; it must be above 0"),
        ({"layer_decay": 0.0}, r"model.layer_decay is 0.0; it must be above 0"),
        ({"ema": 1.0}, r"model.ema is 1.0; it must be auto, null for no average, or above 0 and below 1"),
        ({"ema": "on"}, r"model.ema is 'on'; it must be a number"),
        ({"mode": "head", "head_solver": "lbfgs", "ema": 0.9}, r"takes no steps to average: leave out model.ema"),
        ({"head_hidden": [16, 0]}, r"model.head_hidden is \[16, 0\]; it must be a list of whole numbers of 1 or more"),
        ({"seed": 2**63}, r"model.seed is \d+; it must be at least 0 and below 2\*\*63"),
        ({"monitor": "val_los"}, r"Did you mean 'val_loss'\?"),
        ({"mode": "head", "trainable_stages": 2}, r"trainable_stages is 2, but the mode is head"),
        ({"schedule": [{"mode": "all", "trainable_stages": 3}]}, r"trainable_stages is 3, but the mode is all"),
        ({"schedule": [{"lr": -0.1}]}, r"lr of a phase in model.schedule is -0.1; it must be above 0"),
        ({"schedule": [{"lr": 0.1}], "lr_scheduler": STEP}, r"leave out lr_scheduler"),
        ({"schedule": [{"mode": "head", "epochs": 1}, {}], "lr_scheduler": ONE_CYCLE}, "has one cycle .* has 2 phases"),
        ({"warmup": 0.2, "lr_scheduler": STEP}, r"model.warmup is 0.2, .* and StepLR takes its place"),
        ({"optimizer": {"class_path": "torch.optim.SparseAdam"}}, r"optimizer SparseAdam cannot train"),
        (
            {"optimizer": {"class_path": "torch.optim.Adam", "init_args": {"betas": [0.9, 2.0]}}},
            r"optimizer Adam cannot train a network with these arguments: Invalid beta parameter",
        ),
        ({"mode": "head", "head_solver": "lbfgs", "head_hidden": [8]}, r"leave out model.head_hidden"),
    ],
    ids=str,
)
def test_it_is_refused_when_the_classifier_is_made(settings: dict[str, Any], sentence: str):
    with pytest.raises(UserError, match=sentence):
        ImageClassifier(**settings)


@pytest.mark.parametrize(
    ("settings", "data", "trainer", "sentence"),
    [
        ({"class_weights": "balanced"}, {"sampler": "balanced"}, {}, r"twice: leave one of them out"),
        ({"mode": "last_stages", "trainable_stages": 4}, {}, {}, r"model.trainable_stages is 4; .* must be 1 to 3"),
        ({}, {}, {"limit_val_batches": 0.1}, r"limit_val_batches is 0.1, but of 2 batches .* share of 0.5 or more"),
        ({}, {}, {"val_check_interval": 4}, r"val_check_interval is 4, but an epoch has 3 batches"),
        (
            {},
            {},
            {"val_check_interval": 7, "check_val_every_n_epoch": None},
            r"is 7, but the fit has 6 batches, so that no weights would ever be validated: give 6 or less",
        ),
        ({"schedule": [{"epochs": 1}, {}]}, {}, {"max_steps": 3}, r"trainer.max_steps is 3, .* begins after 3 steps"),
    ],
)
def test_it_is_refused_when_the_data_are_known(fit: Fit, settings: dict, data: dict, trainer: dict, sentence: str):
    with pytest.raises(UserError, match=sentence):
        fit(2, data=data, trainer=trainer, **settings)


def test_auroc_needs_a_second_class_in_the_validation_images(fit: Fit, blobs: Path, tmp_path: Path):
    for split, labels in (("train", ("blue", "red")), ("val", ("blue",))):
        for label in labels:
            (tmp_path / "one" / split).mkdir(parents=True, exist_ok=True)
            (tmp_path / "one" / split / label).symlink_to(blobs / split / label, target_is_directory=True)

    with pytest.raises(UserError, match="val_auroc, which is not defined with the images of one class"):
        fit(data={"root": tmp_path / "one"}, monitor="val_auroc")


def test_phases_may_have_a_scheduler_that_goes_on_through_them(fit: Fit):
    model = fit(2, schedule=[{"mode": "head", "epochs": 1}, {"mode": "all"}], lr_scheduler=STEP)

    assert model.trainer.lr_scheduler_configs[0].interval == "epoch"


def test_the_default_of_warmup_is_that_of_the_classifier():
    assert inspect.signature(ImageClassifier).parameters["warmup"].default == WARMUP
