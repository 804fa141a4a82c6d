from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from resnet_tl import __version__
from resnet_tl.cli.fit import split_recipes
from resnet_tl.cli.main import main
from resnet_tl.data.reading.catalog import SAMPLE, fetch


@pytest.fixture
def configure(tmp_path, monkeypatch, blobs):
    """`configure("--optimizer", "SGD")`: what `fit` on the blobs would use, made but not trained."""
    from resnet_tl.cli.fit_parser import FitCLI

    monkeypatch.chdir(tmp_path)

    def parse(*words: object, recipe: str | None = "freeze_backbone") -> FitCLI:
        given = ["--recipe", recipe] if recipe else []
        return FitCLI(*split_recipes([*given, "--data.root", str(blobs), *map(str, words)]))

    return parse


@pytest.fixture
def groups(configure):
    """`groups("--optimizer", "SGD")`: the optimizer that a fit trains with."""

    def train(*words: object):
        cli = configure("--trainer.max_epochs", 1, "--trainer.enable_progress_bar", "false", *words)
        cli.trainer.fit(cli.model, datamodule=cli.datamodule)
        return cli.trainer.optimizers[0], cli.trainer.lr_scheduler_configs[0]

    return train


@pytest.fixture
def fitted(command, blobs):
    """`fitted("--seed", 1)`: the run of a fit of one epoch."""

    def run(*words: object, recipe: str | Path = "freeze_backbone", epochs: int = 1) -> Path:
        flags = ["--data.root", blobs, "--trainer.max_epochs", epochs]
        code, out, err = command("fit", "--recipe", recipe, *flags, *words)
        assert (code, err) == (0, "")
        return Path(out.split("Next: resnet-tl predict ")[1].split()[0]).absolute()

    return run


# How recipes and flags come together.


def test_flags_override_recipes_wherever_they_stand(configure, tmp_path):
    (tmp_path / "mine.yaml").write_text("data: {batch_size: 8, val_fraction: 0.5}\n")

    for words in (
        ["--data.batch_size", "4", "--recipe", "mine.yaml"],
        ["--recipe", "mine.yaml", "--data.batch_size=4"],
    ):
        config = configure(*words, recipe=None).config
        assert config.data.batch_size == 4
        assert config.data.val_fraction == 0.5


def test_a_later_recipe_overrides_key_by_key(configure, tmp_path):
    (tmp_path / "first.yaml").write_text("data: {batch_size: 8, val_fraction: 0.5}\nmodel: {mode: head}\n")
    (tmp_path / "second.yaml").write_text("data: {batch_size: 16}\n")

    config = configure("--recipe", "first.yaml", "--recipe", "second.yaml", recipe=None).config
    assert (config.data.batch_size, config.data.val_fraction, config.model.mode) == (16, 0.5, "head")

    config = configure("--recipe", "second.yaml", "--recipe", "first.yaml", recipe=None).config
    assert config.data.batch_size == 8


def test_phases_that_all_say_how_long_they_are_make_the_fit_as_long_as_their_sum(configure, tmp_path):
    (tmp_path / "mine.yaml").write_text("model: {schedule: [{mode: head, epochs: 5}, {mode: all, epochs: 7}]}\n")

    assert configure("--recipe", "mine.yaml", recipe=None).config.trainer.max_epochs == 12
    flag = "[{mode: head, epochs: 1}, {epochs: 2, image_size: 24}]"
    assert configure("--model.schedule", flag, recipe=None).config.trainer.max_epochs == 3
    assert configure("--model.schedule", "[{epochs: 2}, {mode: head}]", recipe=None).config.trainer.max_epochs == 10


def test_a_later_list_replaces_an_earlier_one(configure, tmp_path):
    (tmp_path / "first.yaml").write_text(
        "model: {head_hidden: [32, 16], schedule: [{mode: head, epochs: 1}, {mode: all, epochs: 2}]}\n"
        "trainer: {callbacks: [{class_path: LearningRateMonitor}, {class_path: ModelSummary}]}\n"
    )
    (tmp_path / "second.yaml").write_text(
        "model: {head_hidden: [8], schedule: [{mode: head, epochs: 4}]}\n"
        "trainer: {callbacks: [{class_path: EarlyStopping, init_args: {monitor: val_loss}}]}\n"
    )

    config = configure("--recipe", "first.yaml", "--recipe", "second.yaml", recipe=None).config

    assert config.model.head_hidden == [8]
    assert [(phase["mode"], phase["epochs"]) for phase in config.model.schedule] == [("head", 4)]
    assert [callback.class_path.rsplit(".", 1)[-1] for callback in config.trainer.callbacks] == ["EarlyStopping"]


def test_defaults_follow_the_mode_wherever_it_is_named(configure):
    from resnet_tl.finetuning.defaults import DEFAULTS

    steps = ["--model.head_solver", "optimizer"]
    for words, mode in (
        (steps, "head"),
        (["--model.mode", "all"], "all"),
        (["--model.mode=last_stages"], "last_stages"),
    ):
        config, defaults = configure(*words).config, DEFAULTS[mode]
        assert config.trainer.max_epochs == defaults.epochs
        assert (config.data.augmentation, config.data.views) == ("auto", "auto")  # the mode decides when it begins
        assert config.optimizer.init_args.lr == defaults.lr
        assert config.optimizer.init_args.weight_decay == defaults.weight_decay


def test_a_flag_beats_the_modes_default(configure):
    config = configure("--trainer.max_epochs", 3, "--data.augmentation", "standard", "--optimizer.lr", 0.5).config

    assert (config.trainer.max_epochs, config.data.augmentation) == (3, "standard")
    assert config.optimizer.class_path == "torch.optim.AdamW"
    assert config.optimizer.init_args.lr == 0.5


def test_the_printed_configuration_has_the_modes_defaults(command, blobs):
    code, out, _ = command("fit", "--recipe", "freeze_backbone", "--print_config", "--data.root", blobs)

    from resnet_tl.finetuning.defaults import PENALTIES

    assert code == 0
    printed = yaml.safe_load(out)
    assert (printed["model"]["head_solver"], printed["optimizer"]) == ("lbfgs", None)
    assert printed["trainer"]["max_epochs"] == PENALTIES
    assert printed["data"]["augmentation"] == "auto"


@pytest.mark.parametrize(
    "words",
    [
        ["--optimizer", "SGD", "--optimizer.lr", "0.1"],
        ["--optimizer.lr", "0.1", "--optimizer", "SGD"],
        ["--optimizer", "torch.optim.SGD", "--optimizer.lr=0.1"],
        ["--recipe", "lr.yaml", "--optimizer", "SGD"],
        ["--recipe", "lr.yaml", "--recipe", "sgd.yaml"],
        ["--optimizer.lr", "0.1", "--recipe", "sgd.yaml"],
    ],
    ids=" ".join,
)
def test_another_optimizer_has_its_own_defaults(configure, tmp_path, words):
    (tmp_path / "lr.yaml").write_text("optimizer: {lr: 0.1}\n")
    (tmp_path / "sgd.yaml").write_text("optimizer: {class_path: SGD}\n")

    optimizer = configure(*words, recipe=None).config.optimizer

    assert optimizer.class_path == "torch.optim.SGD"
    assert (optimizer.init_args.lr, optimizer.init_args.weight_decay, optimizer.init_args.momentum) == (0.1, 0, 0)


# Optimizers, schedulers, callbacks and loggers, as Lightning's users know them.


def test_our_parameter_groups_survive_another_optimizer(groups):
    words = ["--model.mode", "last_stages", "--model.backbone_lr_factor", 0.1]
    ours, _ = groups(*words, "--optimizer.lr", 0.1)
    sgd, _ = groups(*words, "--optimizer", "SGD", "--optimizer.lr", 0.1)

    assert (type(ours).__name__, type(sgd).__name__) == ("AdamW", "SGD")
    assert [group["name"] for group in sgd.param_groups] == [group["name"] for group in ours.param_groups]
    assert sgd.param_groups[0]["name"].startswith("stage3")
    assert [group["initial_lr"] for group in sgd.param_groups] == [group["initial_lr"] for group in ours.param_groups]
    assert sgd.param_groups[0]["initial_lr"] < sgd.param_groups[-1]["initial_lr"] == 0.1


def test_a_scheduler_is_stepped_once_an_epoch(groups):
    sgd, config = groups("--lr_scheduler", "StepLR", "--lr_scheduler.step_size", 1, "--lr_scheduler.gamma", 0.5,
                         "--trainer.max_epochs", 2)  # fmt: skip

    assert type(config.scheduler).__name__ == "StepLR"
    assert config.interval == "epoch"
    assert sgd.param_groups[-1]["lr"] == pytest.approx(sgd.param_groups[-1]["initial_lr"] * 0.25)


def test_reduce_on_plateau_watches_its_monitor(groups):
    _, config = groups("--lr_scheduler", "ReduceLROnPlateau", "--lr_scheduler.monitor", "val_loss")

    assert type(config.scheduler).__name__ == "ReduceLROnPlateau"
    assert config.monitor == "val_loss"
    assert config.scheduler.best < float("inf")


def test_one_cycle_keeps_the_groups_own_rates(groups):
    words = ["--model.mode", "last_stages", "--lr_scheduler", "OneCycleLR", "--lr_scheduler.max_lr", 0.1]
    optimizer, config = groups(*words, "--lr_scheduler.total_steps", 8, "--model.backbone_lr_factor", 0.1)

    assert config.interval == "step"
    peaks = {group["name"].split(",")[0]: group["max_lr"] for group in optimizer.param_groups}
    assert peaks == {"stage3": pytest.approx(0.01), "head": pytest.approx(0.1)}


def test_early_stopping_by_its_short_name_stops(fitted):
    words = ["--trainer.callbacks", "EarlyStopping", "--trainer.callbacks.monitor", "val_loss"]
    # No epoch is ever better by a thousand.
    run = fitted(*words, "--trainer.callbacks.min_delta", 1000, "--trainer.callbacks.patience", 1, epochs=5)

    assert len(pd.read_csv(run / "metrics.csv")) == 2


@pytest.mark.slow
def test_csv_and_tensorboard_loggers_write_where_they_are_told(fitted, tmp_path):
    pytest.importorskip("tensorboard")
    fitted("--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "logs")
    fitted("--trainer.logger", "TensorBoardLogger", "--trainer.logger.save_dir", "board")

    logged = pd.read_csv(next((tmp_path / "logs").rglob("metrics.csv")))
    assert {"train_loss", "val_loss", "val_accuracy"} <= set(logged.columns)
    assert list((tmp_path / "board").rglob("events.out.tfevents.*"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["board", "logs", "runs"]


@pytest.mark.slow
def test_mlflow_keeps_settings_and_metrics_in_its_local_store(fitted, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    run = fitted("--trainer.logger", "MLFlowLogger", "--trainer.logger.save_dir", "mlruns")

    client = mlflow.MlflowClient((tmp_path / "mlruns").as_uri())
    (experiment,) = (found for found in client.search_experiments() if found.name == "lightning_logs")
    (logged,) = client.search_runs([experiment.experiment_id])
    assert logged.info.status == "FINISHED"
    assert logged.data.params["mode"] == "head"
    summary = json.loads((run / "summary.json").read_text())
    assert logged.data.metrics["val_accuracy"] == pytest.approx(summary["metrics"]["val"]["accuracy"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlruns", "runs"]


@pytest.mark.parametrize(
    "flags",
    [["--model.network_args.dropout", "0.2"], ["--model.network_args", "{dropout: 0.2}"]],
    ids=["dotted", "mapping"],
)
def test_arguments_of_the_network_are_numbers_when_they_look_like_it(configure, flags):
    cli = configure("--model.network", "mnist_cnn", "--model.weights", "none", *flags)

    assert cli.model.hparams["network_args"] == {"dropout": 0.2}


def test_images_too_small_for_the_network_are_refused_before_training(command, blobs, tmp_path):
    flags = ["--data.image_size", "12", "--model.network", "lenet5", "--model.weights", "none"]
    code, _, err = command("fit", "--data.root", blobs, *flags)

    assert (code, err) == (
        2,
        "resnet-tl: The network 'lenet5' does not take images of 12 px; it was designed for 32.\n",
    )


# Runs.


@pytest.mark.parametrize("recipe", ["freeze_backbone", "train_everything"])
def test_a_training_that_diverges_ends_with_a_sentence(command, blobs, recipe):
    code, _, err = command("fit", "--recipe", recipe, "--data.root", blobs, "--optimizer.lr", 1e30)

    assert code == 2
    assert re.match(r"resnet-tl: The training has diverged in epoch \d: loss or outputs are no finite numbers;", err)
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--data.root", ""), "data.root is empty; name a folder, or . for the current one."),
        (("--optimizer.lr", 0), "optimizer.lr is 0, at which nothing is learned; it must be above 0."),
        (("--lr_scheduler", "ExponentialLR", "--lr_scheduler.gamma=-1"), "The learning-rate scheduler ExponentialLR "),
    ],
)
def test_settings_at_which_nothing_is_learned_are_refused(command, blobs, words, sentence):
    code, _, err = command("fit", "--recipe", "freeze_backbone", "--data.root", blobs, *words)

    assert (code, err[: len(sentence) + 11]) == (2, f"resnet-tl: {sentence}")
    assert err.count("\n") == 1
    assert not Path("runs").exists() or not list(Path("runs").iterdir())


@pytest.mark.slow
def test_runs_count_up_carry_the_last_recipes_name_and_follow_the_seed(fitted, command, blobs, tmp_path):
    (tmp_path / "mine.yaml").write_text("data: {batch_size: 8}\n")

    runs = [fitted("--seed", 1), fitted("--seed", 2), fitted("--recipe", "mine.yaml")]

    assert [run.relative_to(tmp_path).as_posix() for run in runs] == [
        "runs/freeze_backbone-1",
        "runs/freeze_backbone-2",
        "runs/mine-1",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.yaml", "runs"]
    assert (runs[0] / "predictions/val.csv").read_bytes() != (runs[1] / "predictions/val.csv").read_bytes()
    text = (runs[0] / "recipe.yaml").read_text()
    settings = yaml.safe_load(text)
    assert settings["model"]["network"] == "resnet20"
    assert "# model.network was left to the program, which chose resnet20: the images' short side is 32 px" in text
    assert settings["data"]["root"] == str(blobs)
    assert "run" not in settings
    used = command("fit", "--recipe", "freeze_backbone", "--data.root", blobs, "--run", runs[0])
    assert used.code == 2
    assert f"{runs[0].name} is not empty" in used.err
    assert "epoch" not in used.out
    assert (runs[0] / "recipe.yaml").read_text() == text


def test_a_forecast_has_the_parts_of_a_fit_and_makes_no_run(command, blobs, tmp_path):
    flags = ["--data.root", blobs, "--model.schedule", "[{mode: head, epochs: 3}, {mode: all}]"]
    code, out, err = command("fit", "--recipe", "freeze_backbone", *flags, "--forecast")

    assert (code, err) == (0, "")
    for part in ("an estimate", "start-up", "forward, backward, step", "Memory at its peak"):
        assert part in out
    assert not list(tmp_path.iterdir())


def test_the_resolved_recipe_repeats_the_run_to_the_last_bit(fitted, command, tmp_path):
    words = ["--model.mode", "last_stages", "--optimizer", "SGD", "--optimizer.lr", 0.05, "--seed", 3]
    words += ["--lr_scheduler", "StepLR", "--lr_scheduler.step_size", 1, "--data.augmentation", "standard"]
    words += ["--trainer.callbacks", "EarlyStopping", "--trainer.callbacks.monitor", "val_loss"]
    first = fitted(*words, "--model.head_dropout", 0.2, "--data.batch_size", 8, epochs=2)

    assert command("fit", "--recipe", first / "recipe.yaml", "--run", "again").code == 0

    again = tmp_path / "again"
    for name in ("predictions/val.csv", "predictions/test.csv", "model/weights.safetensors", "summary.json"):
        assert (again / name).read_bytes() == (first / name).read_bytes(), name
    columns = ["train_loss", "val_loss", "learning_rate"]
    pd.testing.assert_frame_equal(
        pd.read_csv(again / "metrics.csv")[columns], pd.read_csv(first / "metrics.csv")[columns], check_exact=True
    )
    recipes = [yaml.safe_load((run / "recipe.yaml").read_text()) for run in (first, again)]
    assert recipes[0] == recipes[1]


@pytest.mark.slow
def test_a_phase_schedule_from_the_command_line_trains_each_phase(fitted):
    run = fitted("--model.schedule", "[{mode: head, epochs: 1}, {mode: all, epochs: 1}]", epochs=2)

    assert pd.read_csv(run / "metrics.csv")["phase"].tolist() == ["head", "all"]


def test_skipped_images_are_listed_in_the_run(fitted, blobs, tmp_path):
    shutil.copytree(blobs, tmp_path / "photos")
    (tmp_path / "photos" / "train" / "red" / "0.png").write_bytes(b"not a picture")

    run = fitted("--data.root", "photos", "--data.on_bad_image", "skip")

    assert pd.read_csv(run / "data" / "skipped.csv")["path"].tolist() == ["train/red/0.png"]
    assert len(pd.read_csv(run / "data" / "index.csv")) == 43


# What a person sees.


def test_a_fit_prints_the_data_the_stages_each_epoch_and_what_comes_next(command, blobs):
    code, out, err = command("fit", "--recipe", "freeze_backbone", "--data.root", blobs, "--trainer.max_epochs", 2)

    assert (code, err) == (0, "")
    assert "split folders" in out
    assert "3 classes; 24 train, 13 val, 7 test images" in out
    lines = out.splitlines()
    assert lines[0] == f"resnet-tl {__version__}: loading PyTorch"
    stages = [re.split(r"  +", line) for line in lines if line.startswith(("stem", "stage", "head"))]
    assert [(stage[0], stage[2]) for stage in stages[1:]] == [
        ("stem (first layers)", "frozen"),
        ("stage1", "frozen"),
        ("stage2", "frozen"),
        ("stage3", "frozen"),
        ("head", "yes"),
    ]
    assert [line.split()[0] for line in lines if re.match(r" +\d/2 ", line)] == ["1/2", "2/2"]
    assert "Best epoch: " in out
    assert lines[-1] == "Next: resnet-tl predict runs/freeze_backbone-1 IMAGES"
    assert "\x1b" not in out


def test_a_quiet_fit_shows_no_bar_and_no_epochs(command, blobs):
    words = ["--data.root", blobs, "--trainer.max_epochs", 1, "--trainer.enable_progress_bar", "false"]

    code, out, err = command("fit", "--recipe", "freeze_backbone", *words)

    assert (code, err) == (0, "")
    assert not any(re.match(r" +1/1 ", line) for line in out.splitlines())


@pytest.mark.slow
def test_the_installed_command_trains_without_a_warning(blobs, tmp_path):
    """In a process of its own, so that nothing of these tests hides a warning or lends a terminal."""
    words = ["fit", "--recipe", "freeze_backbone", "--data.root", str(blobs), "--trainer.max_epochs", "1"]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONWARNINGS", "COLUMNS")}
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])

    ran = subprocess.run(
        [sys.executable, "-m", "resnet_tl", *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ran.returncode, ran.stderr) == (0, "")
    assert "Warning" not in ran.stdout
    assert ran.stdout.endswith("Next: resnet-tl predict runs/freeze_backbone-1 IMAGES\n")


# From the sample to a submission.


@pytest.fixture
def sample(tmp_path):
    """The built-in sample with a tenth of its labelled images."""
    root = tmp_path / "sample"
    shutil.copytree(fetch(SAMPLE), root)
    for number, image in enumerate(sorted(root.glob("*/*/*.jpg"))):
        if number % 10:
            image.unlink()
    return root


@pytest.mark.slow
def test_a_submission_from_the_sample_end_to_end(command, sample, tmp_path):
    assert command("fit", "--recipe", "freeze_backbone", "--data.root", "sample", "--trainer.max_epochs", 1).code == 0

    words = ["--images", "sample/test", "--sample", "sample/sample_submission.csv", "-o", "submission.csv"]
    code, out, err = command("submit", "runs/freeze_backbone-1", *words)

    assert (code, err) == (0, "")
    wanted = pd.read_csv(sample / "sample_submission.csv")
    written = pd.read_csv(tmp_path / "submission.csv")
    assert f"{len(wanted)} rows written to submission.csv" in out
    assert written.columns.tolist() == wanted.columns.tolist()
    assert written.iloc[:, 0].tolist() == wanted.iloc[:, 0].tolist()
    classes = {folder.name for folder in (sample / "train").iterdir()}
    assert set(written.iloc[:, 1]) <= classes
    assert command("predict", "runs/freeze_backbone-1", "sample/test", "-o", "predictions.csv").code == 0
    predicted = pd.read_csv(tmp_path / "predictions.csv")
    by_name = {Path(path).name: name for path, name in zip(predicted["path"], predicted["predicted"], strict=True)}
    by_stem = {Path(name).stem: label for name, label in by_name.items()}
    assert [by_name.get(str(key)) or by_stem[Path(str(key)).stem] for key in written.iloc[:, 0]] == (
        written.iloc[:, 1].tolist()
    )


def test_a_submission_for_another_sample_is_not_written(command, tiny_run, blobs, tmp_path):
    (tmp_path / "sample.csv").write_text("file,species\nother.png,red\n")
    words = ["--images", blobs / "test" / "red", "--sample", "sample.csv", "-o", "submission.csv"]

    code, out, err = command("submit", tiny_run, *words)

    assert (code, out) == (2, "")
    assert "other.png" in err
    assert "Traceback" not in err
    assert not (tmp_path / "submission.csv").exists()


@pytest.mark.slow
def test_the_first_command_of_the_readme_gets_most_of_the_sample_right(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert main(["fit", "--recipe", "freeze_backbone.yaml"]) == 0

    summary = json.loads((tmp_path / "runs" / "freeze_backbone-1" / "summary.json").read_text())
    assert summary["metrics"]["val"]["accuracy"] > 0.75


# Code of the user's own.


def test_the_parser_makes_nothing_of_code_that_a_recipe_names(configure, tmp_path):
    """What is the user's own stays words, which the resolved recipe repeats, until the classes are known."""
    (tmp_path / "mine.py").write_text("raise ImportError('too early')\n")
    own = {"class_path": "mine.Own", "init_args": {"width": 3}}
    turn = {"class_path": "torchvision.transforms.v2.RandomRotation", "init_args": {"degrees": 10}}
    (tmp_path / "own.yaml").write_text(
        yaml.safe_dump({"model": {"network": own, "metrics": ["mine.Metric", own]}, "data": {"transform": turn}})
    )
    cli = configure("--recipe", "own.yaml", "--model.loss", "torch.nn.MultiMarginLoss", "--data.predict_root", "new")

    printed = yaml.safe_load(cli.parser.dump(cli.config, skip_unset=False))

    assert cli.config.model.network == own
    assert cli.config.model.metrics == ["mine.Metric", own]
    for name in ("network", "metrics", "loss"):
        assert printed["model"][name] == cli.config.model[name]
    assert printed["data"]["transform"] == cli.config.data.transform == turn
    assert configure("--model.metrics", "mine.Metric").config.model.metrics == "mine.Metric"
    assert configure("--model.metrics", "[mine.A, mine.B]").config.model.metrics == ["mine.A", "mine.B"]
