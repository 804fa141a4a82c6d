from __future__ import annotations

import inspect

import pytest

from resnet_tl.cli.fit_help import BY_OTHER_NAMES, PACKAGE, TRAINING, options

OURS = {"data": ("data/options.py", "DataOptions"), "model": ("training/options.py", "ClassifierOptions")}


def described(group):
    file, name = OURS[group]
    return options(PACKAGE / file, name)


@pytest.mark.parametrize("group", OURS)
def test_every_argument_of_ours_is_explained_with_its_default(group):
    from resnet_tl import ImageClassifier, ImageDataModule

    kind = {"data": ImageDataModule, "model": ImageClassifier}[group]
    parameters = inspect.signature(kind).parameters
    shown = described(group)

    assert {name for name, _, _ in shown} == set(parameters) - set(BY_OTHER_NAMES)
    assert all(text for _, _, text in shown)
    assert {name: default for name, default, _ in shown} == {
        name: str(parameters[name].default) for name, _, _ in shown
    }


def test_our_options_come_before_those_of_training(command):
    _, out, _ = command("fit", "--help")

    assert out.index("--recipe NAME") < out.index("--data.root") < out.index("--model.mode")
    assert out.index("--model.mode") < out.index("\n  --trainer.max_epochs")


def test_help_fits_120_columns_and_says_how_recipes_combine(command):
    _, out, _ = command("fit", "--help")

    assert max(map(len, out.splitlines())) <= 120
    assert "later ones override" in out
    assert "a list replaces a list" in out
    assert "pixels" in out  # units


def test_every_example_and_named_option_exists(command):
    from resnet_tl.cli.fit import split_recipes
    from resnet_tl.cli.fit_budget import take_budget
    from resnet_tl.cli.fit_parser import SECTIONS
    from resnet_tl.cli.parse_errors import check, given_settings
    from resnet_tl.cli.signatures import arguments

    _, out, _ = command("fit", "--help")
    examples = [line.split()[2:] for line in out.splitlines() if line.startswith("  resnet-tl fit")]
    assert examples
    for words in examples:
        recipes, flags, _ = split_recipes(words)
        _, flags = take_budget(recipes, flags)
        check(given_settings({}, flags), SECTIONS)
    known = {f"--{section}.{name}" for section, kind in SECTIONS.items() for name in arguments(kind)[0]}
    assert {option.split()[0] for option in TRAINING} <= known | {"--optimizer", "--lr_scheduler"}


def test_help_all_shows_lightnings_options_too(command):
    code, out, _ = command("fit", "--help_all")

    assert code == 0
    for option in ("--data.batch_size", "--model.mode", "--trainer.gradient_clip_algorithm", "--trainer.logger"):
        assert option in out
