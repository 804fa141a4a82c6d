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
    "--trainer.min_epochs 3": "trainer.min_epochs is 3, but trainer.max_epochs is 1: leave out one of them",
    # How many batches.
    "--trainer.limit_train_batches 0": "trainer.limit_train_batches is 0; it must be above 0",
    "--trainer.limit_train_batches 0.01": "0.01 of the train_dataloader",
    "--trainer.limit_val_batches 0": "trainer.limit_val_batches is 0; it must be above 0",
    "--trainer.limit_val_batches 0.01": "trainer.limit_val_batches is 0.01, but of 1 batches that is none: give 1",
    "--trainer.limit_test_batches 0.01": "trainer.limit_test_batches is 0.01, but of 1 batches that is none: give 1",
    "--trainer.overfit_batches 0.01": "trainer.overfit_batches is 0.01, but of 1 batches that is none: give 1",
    "--trainer.limit_predict_batches 2": "would have no effect, since a fit predicts nothing: leave it out",
    "--trainer.accumulate_grad_batches -1": "trainer.accumulate_grad_batches is -1; it must be above 0",
    # Gradients, types and devices.
    "--trainer.gradient_clip_val -1": "trainer.gradient_clip_val is -1; it must be 0 or more",
    "--trainer.gradient_clip_algorithm value": "but nothing is clipped: give trainer.gradient_clip_val too",
    "--trainer.accelerator cpu --trainer.devices two": "trainer.devices is two; on this CPU it must be auto, or 1 to",
    "--trainer.strategy fsdp": "trainer.strategy is 'fsdp'; it must be one of auto, ddp",
    "--trainer.strategy ddp_spawn": "trainer.strategy is 'ddp_spawn'; it must be one of auto, ddp",
    "--trainer.use_distributed_sampler true": "each process has its own share of the images already",
    "--trainer.strategy DDPStrategy": "trainer.strategy is 'DDPStrategy'; it must be one of auto, ddp",
    "--trainer.strategy DDPStrategy --trainer.strategy.start_method spawn": "nothing would be left of it",
    "--trainer.strategy deepspeed": "trainer.strategy is 'deepspeed'; it must be one of auto, ddp",
    "--trainer.enable_checkpointing false": "a fit must keep its best weights",
    "--trainer.barebones true": "a fit must keep its best weights",
    "--trainer.default_root_dir there": "would have no effect, since all that a fit writes is in its run: give --run",
    "--trainer.model_registry mine": "would have no effect, since checkpoints stay in the run",
    # Callbacks and loggers.
    "--trainer.callbacks LearningRateMonitor": "writes to a logger, and there is none: add --trainer.logger true",
    "--trainer.callbacks BatchSizeFinder": "give data.batch_size, and see --forecast",
    "--trainer.callbacks RichProgressBar": "a fit has a progress bar of its own; leave it out",
    "--trainer.callbacks BackboneFinetuning": "is set by model.mode and model.schedule",
    "--trainer.callbacks Timer": "give trainer.max_time",
    "--trainer.callbacks StochasticWeightAveraging --trainer.callbacks.swa_lrs 0.1": "use EMAWeightAveraging",
    "--trainer.callbacks ModelPruning": "changes weights that are to stay frozen",
    "--trainer.callbacks GradientAccumulationScheduler --trainer.callbacks.scheduling {4:2}": "accumulate_grad_batches",
    "--trainer.callbacks LambdaCallback": "a recipe cannot hold a function; name a callback of your own",
    "--trainer.callbacks ThroughputMonitor": "a recipe cannot hold a function, and it needs one",
    "--trainer.callbacks SpikeDetection": "Lightning 2.6 cannot load its state",
    "--trainer.callbacks ModelCheckpoint --trainer.callbacks.filename best": "is the name of the run's own",
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
    f"{SOLVED} --trainer.overfit_batches 1": "leave out trainer.max_steps, limit_train_batches and overfit_batches",
    f"{SOLVED} --trainer.limit_val_batches 1": "judges all images: leave out trainer.limit_val_batches",
    f"{SOLVED} --trainer.callbacks EMAWeightAveraging": "takes no steps: leave out EMAWeightAveraging",
    f"{SOLVED} --data.sampler balanced": "leave out data.sampler, or give --model.class_weights balanced",
    f"{SOLVED} --trainer.logger true": "leave out trainer.logger",
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
    "--trainer.callbacks EMAWeightAveraging --model.mode head --trainer.log_every_n_steps 0",
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
        ("model: {weights: null}", "model.weights is null; it must be a text or a list of texts."),
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


@pytest.mark.slow
def test_the_recipe_of_a_solved_head_names_no_optimizer_and_repeats(command, blobs, tmp_path):
    fit = ["fit", "--recipe", "freeze_backbone", "--data.root", blobs, "--run", "first"]
    assert command(*fit).code == 0

    assert yaml.safe_load(Path("first/recipe.yaml").read_text())["optimizer"] is None
    assert command("fit", "--recipe", "first/recipe.yaml", "--run", "again").code == 0
    assert Path("first/predictions/val.csv").read_bytes() == Path("again/predictions/val.csv").read_bytes()


@pytest.mark.slow
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


MINE = """
import lightning as L
class Plain(L.Callback):
    def on_train_start(self, trainer, pl_module): print("HERE")
class Watches(Plain):
    monitor = "anything"
"""


def test_what_was_asked_for_is_there(command, blobs, tmp_path, monkeypatch):
    """A callback of one's own without arguments, a summary, a profiler's report, and logs in the run."""
    (tmp_path / "habits_mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    asked = "[habits_mine.Watches, habits_mine.Plain, LearningRateMonitor, ModelSummary]"
    flags = ["--trainer.callbacks", asked, "--trainer.logger", "true", "--trainer.profiler", "simple", "--run", "run"]

    code, out, err = command("fit", "--data.root", blobs, "--trainer.max_epochs", 1, *flags)

    assert (code, err) == (0, "")
    assert out.count("HERE") == 2
    assert "Total params" in out
    assert out.count("Profiler Report") == out.count("FIT Profiler Report") == 1
    assert "optimizer_step" in out
    assert list(Path("run/logs").iterdir())
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == ["habits_mine.py", "run"]


@pytest.mark.slow
def test_a_run_with_a_callback_of_ones_own_repeats(command, blobs, tmp_path, monkeypatch):
    (tmp_path / "habits_mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    flags = ["--trainer.callbacks", "habits_mine.Plain", "--run", "first"]
    assert command("fit", "--data.root", blobs, "--trainer.max_epochs", 1, *flags).code == 0

    code, out, _ = command("fit", "--recipe", "first/recipe.yaml", "--run", "again")

    assert code == 0
    assert "HERE" in out


@pytest.mark.slow
@pytest.mark.parametrize("logger", ["CSVLogger", "TensorBoardLogger"])
def test_a_logger_that_was_given_a_folder_writes_there(command, blobs, logger):
    if logger == "TensorBoardLogger":
        pytest.importorskip("tensorboard")
    flags = ["--trainer.logger", logger, "--trainer.logger.save_dir", "mine", "--run", "run"]

    assert command("fit", "--data.root", blobs, "--trainer.max_epochs", 1, *flags).err == ""

    assert list(Path("mine").rglob("hparams.yaml"))
    assert not Path("run/logs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("profiler", ["advanced", "pytorch"])
def test_a_profiler_reports_once_on_the_training_and_writes_into_the_run(command, blobs, tmp_path, profiler):
    flags = ["--trainer.profiler", profiler, "--trainer.max_epochs", 1, "--run", "run"]

    code, out, _ = command("fit", "--data.root", blobs, *flags)

    assert code == 0
    assert out.count("Profiler Report") == out.count("FIT Profiler Report") == 1
    assert profiler == "advanced" or list(Path("run/profile").glob("fit-*.pt.trace.json"))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_metric_that_turns_out_to_be_missing_is_named(command, blobs):
    """The fifth best of three classes."""
    flags = ["--trainer.callbacks", "EarlyStopping", "--trainer.callbacks.mode", "max"]

    watch = ["--trainer.callbacks.monitor", "val_top5_accuracy", "--trainer.max_epochs", 1]
    code, _, err = command("fit", "--data.root", blobs, *flags, *watch)

    assert code == 2
    assert "metric val_top5_accuracy which is not available" in err
    assert err.count("\n") == 1


def test_a_package_that_a_callback_lacks_is_named(command, blobs, monkeypatch):
    monkeypatch.setattr("lightning.pytorch.callbacks.device_stats_monitor._PSUTIL_AVAILABLE", False)
    flags = ["--trainer.logger", "true", "--trainer.callbacks", "DeviceStatsMonitor"]

    code, _, err = command("fit", "--data.root", blobs, "--trainer.max_epochs", 1, *flags)

    assert code == 2
    assert err.startswith("resnet-tl: DeviceStatsMonitor cannot log CPU stats as psutil is not installed")
    assert err.count("\n") == 1
