"""A head is solved by default; what goes with steps alone brings the optimizer back, and the recipe says what did."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from resnet_tl.cli.head_solver import STEPS, choose_head_solver
from resnet_tl.cli.parse_errors import given_settings
from resnet_tl.cli.trainer_settings import UNUSED

HEAD = {"mine.yaml": {"model": {"mode": "head"}}}


def chosen(*flags: str) -> tuple[str, str]:
    return choose_head_solver(given_settings(HEAD, flags))


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--data.augmentation", "none", "--model.head_hidden", "null", "--model.head_dropout", "0"),
        ("--model.label_smoothing", "0.1", "--model.class_weights", "balanced", "--trainer.fast_dev_run", "true"),
        ("--trainer.limit_val_batches", "1.0", "--data.random_erasing", "0.0"),
        ("--optimizer", "null", "--trainer.precision", "bf16-mixed", "--model.activation_cache", "on"),
    ],
)
def test_a_head_is_solved_where_nothing_goes_with_steps_alone(flags: tuple[str, ...]):
    assert chosen(*flags)[0] == "lbfgs"


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("trainer.max_epochs", "5"),
        ("trainer.callbacks", "EarlyStopping"),
        ("trainer.callbacks.class_path", "EarlyStopping"),
        ("optimizer.lr", "0.1"),
        ("lr_scheduler", "StepLR"),
        ("data.augmentation", "light"),
        ("data.symmetry", "mirror"),
        ("data.test_size", "96"),
        ("data.sampler", "balanced"),
        ("data.test_size", "40"),
        ("model.head_hidden", "[8]"),
        ("model.head_dropout", "0.5"),
        ("model.activation_cache", "off"),
        ("model.schedule", "[{mode: head}]"),
        ("trainer.precision", "16-mixed"),
        ("trainer.limit_val_batches", "1"),
        ("trainer.limit_train_batches", "1"),
    ],
)
def test_what_goes_with_steps_alone_is_named(flag: str, value: str):
    assert chosen(f"--{flag}", value) == ("optimizer", f"{flag} is given, which goes with steps alone")


def test_the_last_word_counts():
    assert chosen("--data.augmentation", "light", "--data.augmentation", "none")[0] == "lbfgs"
    assert chosen("--model.mode", "all") == ("optimizer", "the mode all trains more than a head")


def test_every_setting_that_is_looked_for_exists(configure_parser):
    known = configure_parser()
    own = {key for key in STEPS if key.partition(".")[0] in ("data", "model", "trainer")} - UNUSED.keys()
    assert {key for key in own if key.partition(".")[2] not in known[key.partition(".")[0]]} <= {"model.ema"}


@pytest.fixture
def configure_parser():
    from resnet_tl.cli.fit_parser import SECTIONS
    from resnet_tl.cli.signatures import arguments

    return lambda: {section: arguments(kind)[0] for section, kind in SECTIONS.items()}


def test_a_run_says_what_its_head_solver_became(command, blobs: Path):
    code, out, err = command("fit", "--recipe", "freeze_backbone", "--data.root", blobs, "--run", "solved")

    assert (code, err) == (0, "")
    frozen = "frozen: stem, stage1, stage2, stage3; head solved"
    assert f"resnet20, weights: built-in resnet20_cifar10; {frozen}\nepoch 1, penalty 10: " in out
    text = Path("solved/recipe.yaml").read_text()
    assert "# model.head_solver was left to the program, which chose lbfgs: " in text
    settings = yaml.safe_load(text)
    assert (settings["model"]["head_solver"], settings["optimizer"]) == ("lbfgs", None)
    assert command("fit", "--recipe", "solved/recipe.yaml", "--run", "again").code == 0
    assert Path("solved/predictions/val.csv").read_bytes() == Path("again/predictions/val.csv").read_bytes()
    assert Path("solved/summary.json").read_bytes() == Path("again/summary.json").read_bytes()


def test_a_forecast_of_it_measures_the_frozen_stages(command, blobs: Path):
    code, out, err = command("fit", "--recipe", "freeze_backbone", "--data.root", blobs, "--forecast")

    assert (code, err) == (0, "")
    assert "It counts the frozen stages for all images, but neither the seconds of solving the head nor" in out
