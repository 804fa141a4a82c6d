"""Settings that cannot be, or not together, end with one sentence and no run; whatever works is not refused."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml

PLATEAU = "--lr_scheduler ReduceLROnPlateau --lr_scheduler.monitor val_loss"
ONE_CYCLE = "--lr_scheduler OneCycleLR --lr_scheduler.max_lr 0.1"
TWO_PHASES = '--model.schedule "[{mode: head, epochs: 1}, {mode: all, epochs: 1}]" --trainer.max_epochs 2'
SOLVED = "--model.head_solver lbfgs --model.mode head"

REFUSED = {
    # How long, and when it is validated.
    "--trainer.max_epochs 0": "trainer.max_epochs is 0; it must be above 0",
    "--trainer.max_epochs null": "trainer.max_epochs is null; give a number, or leave it out",
    "--trainer.max_epochs -1": "trainer.max_epochs must be given",
    "--trainer.max_time soon": "Timer(duration='soon') is not a valid duration. Expected a string in the format DD:HH",
    "--trainer.check_val_every_n_epoch 3": "is 3, but the fit has 1 epochs, so that no weights would ever be validated",
    "--trainer.val_check_interval 1.5": "You have passed invalid value 1.5 for val_check_interval, it has to be in",
    "--trainer.val_check_interval 9": "trainer.val_check_interval is 9, but an epoch has 1 batches: give as many",
    "--trainer.val_check_interval 9 --trainer.check_val_every_n_epoch null": "no weights would ever be validated",
    f"{TWO_PHASES} --trainer.max_steps 1": "the last phase of model.schedule begins after 1 steps: give more steps",
    # How many batches.
    "--trainer.limit_train_batches 0": "trainer.limit_train_batches is 0; it must be above 0",
    "--trainer.limit_train_batches 0.01": "0.01 of the train_dataloader",
    "--trainer.limit_val_batches 0": "trainer.limit_val_batches is 0; it must be above 0",
    "--trainer.limit_val_batches 0.01": "trainer.limit_val_batches is 0.01, but of 1 batches that is none: give 1",
    "--trainer.limit_test_batches 0.01": "trainer.limit_test_batches is 0.01, but of 1 batches that is none: give 1",
    "--trainer.accumulate_grad_batches -1": "trainer.accumulate_grad_batches is -1; it must be above 0",
    # Gradients, types and devices.
    "--trainer.gradient_clip_val -1": "trainer.gradient_clip_val is -1; it must be 0 or more",
    "--trainer.gradient_clip_algorithm value": "but nothing is clipped: give trainer.gradient_clip_val too",
    "--trainer.accelerator cpu --trainer.devices two": "trainer.devices is two; on this CPU it must be auto, or 1 to",
    "--trainer.strategy fsdp": "trainer.strategy is 'fsdp'; it must be one of auto, ddp",
    "--trainer.strategy ddp_spawn": "trainer.strategy is 'ddp_spawn'; it must be one of auto, ddp",
    "--trainer.use_distributed_sampler true": "each process has its own share of the images already",
    "--trainer.enable_checkpointing false": "a fit must keep its best weights",
    # Callbacks and loggers.
    "--trainer.callbacks LearningRateMonitor": "writes to a logger, and there is none: add --trainer.logger CSVLogger",
    "--trainer.callbacks BatchSizeFinder": "give data.batch_size, and see --forecast",
    "--trainer.callbacks RichProgressBar": "a fit has a progress bar of its own; leave it out",
    "--trainer.callbacks BackboneFinetuning": "is set by model.mode and model.schedule",
    "--trainer.callbacks Timer": "give trainer.max_time",
    # The optimizer and its rate.
    "--optimizer SparseAdam": "SparseAdam does not support dense gradients",
    "--optimizer LBFGS": "a head is solved by L-BFGS with --model.head_solver lbfgs",
    "--optimizer SGD --optimizer.lr 0.1 --optimizer.nesterov true": "Nesterov momentum requires a momentum",
    "--optimizer.differentiable true": "The optimizer AdamW cannot train a network with these arguments",
    "--optimizer.fused true --trainer.gradient_clip_val 1": "leave out optimizer.fused or trainer.gradient_clip_val",
    "--lr_scheduler StepLR --lr_scheduler.step_size 0": "StepLR cannot be used with these arguments: a number that it",
    f"{PLATEAU} --trainer.check_val_every_n_epoch 2": "validated",
    f"{ONE_CYCLE} --lr_scheduler.total_steps 2 --data.batch_size 8": "the fit has 3",
    f"{ONE_CYCLE} --trainer.max_epochs -1 --trainer.max_time 00:00:01:00": "must be given",
    f"{ONE_CYCLE} {TWO_PHASES}": "model.schedule has 2 phases: leave out",
    "--lr_scheduler StepLR --lr_scheduler.step_size 1 --model.warmup 0.2": "leave out one of them",
    # A head that is solved.
    f"{SOLVED} --optimizer.lr 0.1": "takes the place of an optimizer: leave that out",
    f"{SOLVED} --lr_scheduler StepLR --lr_scheduler.step_size 1": "leave out lr_scheduler",
    f"{SOLVED} --data.random_erasing 0.5": "give --data.augmentation none",
    # Images and classes.
    "--model.class_weights balanced --data.sampler balanced": "twice: leave one of them out",
    "--model.activation_cache on --model.mode head --data.augmentation light --data.views null": "give data.views",
    # Names.
    "--mode head": "Did you mean '--model.mode'?",
    "--epochs 3": "Did you mean '--trainer.max_epochs'?",
    "--lr 0.1": "Did you mean '--optimizer.lr'?",
    "--config mine.yaml": "Did you mean '--recipe'?",
    "--trainer.callback EarlyStopping": "Did you mean '--trainer.callbacks'?",
    "--model.network_args 3": "--model.network_args is '3'; it must be a mapping.",
}

ALLOWED = [
    "--trainer.max_time 00:01:00:00 --trainer.detect_anomaly true --trainer.profiler simple --optimizer Adafactor",
    "--trainer.callbacks LearningRateMonitor --trainer.logger CSVLogger --trainer.logger.save_dir logs "
    "--trainer.overfit_batches 1 --data.batch_size 1000 --trainer.precision 16",
    "--trainer.callbacks EMAWeightAveraging --model.label_smoothing 0.1 --model.focal_gamma 2 --model.mixup 0.2",
    "--trainer.max_epochs -1 --trainer.max_steps 2 --trainer.val_check_interval 2 --data.batch_size 8",
    "--trainer.val_check_interval 2 --trainer.check_val_every_n_epoch null --data.batch_size 8",
    "--trainer.fast_dev_run 1 --trainer.check_val_every_n_epoch 2",
    "--optimizer timm.optim.Lamb --optimizer.lr 0.01 --lr_scheduler OneCycleLR --lr_scheduler.max_lr 0.1 "
    "--lr_scheduler.epochs 3",
    f"{PLATEAU} {TWO_PHASES}",
]


@pytest.mark.parametrize(("flags", "sentence"), REFUSED.items(), ids=list(REFUSED))
def test_what_cannot_be_is_refused_in_one_sentence_and_leaves_no_run(command, blobs, tmp_path, flags, sentence):
    epochs = [] if "max_epochs" in flags else ["--trainer.max_epochs", 1]

    code, _, err = command("fit", "--data.root", blobs, *epochs, *shlex.split(flags))

    assert code == 2
    assert sentence in err
    assert err.startswith("resnet-tl: ")
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.parametrize(
    "flags", [*ALLOWED[-2:], *(pytest.param(each, marks=pytest.mark.slow) for each in ALLOWED[:-2])]
)
def test_what_works_is_not_refused(command, blobs, tmp_path, flags):
    epochs = [] if "max_epochs" in flags else ["--trainer.max_epochs", 1]

    code, _, err = command("fit", "--data.root", blobs, *epochs, *shlex.split(flags))

    assert (code, err) == (0, "")
    assert list(tmp_path.glob("runs/*/summary.json"))


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        ("data: {batch_size: null}", "data.batch_size is null; it must be a whole number."),
        ("model: {weights: null}", "model.weights is null; it must be a text."),
        ("optimizer: {class_path: torch.optim.SGDD}", "torch.optim has no 'SGDD'. Did you mean 'SGD'?"),
        ("trainer: {callbacks: [{class_path: EarlyStop}]}", "Did you mean 'EarlyStopping'?"),
        ("lr_scheduler: {class_path: StepLR, init_args: {step: 1}}", "Did you mean 'step_size'?"),
        ("trainer: {loggr: CSVLogger}", "Did you mean 'trainer.logger'?"),
    ],
)
def test_what_a_recipe_misspells_or_leaves_empty_is_named(command, blobs, tmp_path, recipe, sentence):
    (tmp_path / "mine.yaml").write_text(recipe)

    code, _, err = command("fit", "--recipe", "mine.yaml", "--data.root", blobs)

    assert code == 2
    assert sentence in err


def test_the_recipe_of_a_solved_head_names_no_optimizer_and_repeats(command, blobs, tmp_path):
    fit = ["fit", "--recipe", "solve_head", "--data.root", blobs, "--trainer.max_epochs", 2, "--run", "first"]
    assert command(*fit).code == 0

    assert yaml.safe_load(Path("first/recipe.yaml").read_text())["optimizer"] is None
    assert command("fit", "--recipe", "first/recipe.yaml", "--run", "again").code == 0
    assert Path("first/predictions/val.csv").read_bytes() == Path("again/predictions/val.csv").read_bytes()


def test_a_schedule_of_another_length_than_the_fit_is_said(command, blobs):
    words = ["fit", "--data.root", blobs, "--trainer.max_epochs", 1, "--lr_scheduler"]

    cosine = command(*words, "CosineAnnealingLR", "--lr_scheduler.T_max", 7)
    cycle = command(*words, "OneCycleLR", "--lr_scheduler.max_lr", 0.1, "--lr_scheduler.total_steps", 9)

    assert "CosineAnnealingLR falls for 7 epochs (T_max), and the fit has 1" in cosine.out
    assert "OneCycleLR has 9 steps, and the fit 1: the cycle does not come to its end" in cycle.out


def test_a_share_that_a_folder_has_already_is_said(command, blobs):
    words = ["--data.val_fraction", 0.5, "--data.test_fraction", 0.1]

    out = command("fit", "--data.root", blobs, "--trainer.max_epochs", 1, *words).out

    assert "has a val split of its own: data.val_fraction is not used" in out
    assert "has a test split of its own: data.test_fraction is not used" in out
