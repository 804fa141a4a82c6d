"""What a sweep tries next follows from its seed and what it has tried, whatever has interrupted it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from resnet_tl.errors import UserError
from resnet_tl.training.sweep.space import Dimension, parse_space
from resnet_tl.training.sweep.trials import Trials

SPACE = parse_space(["x=0.0..1.0", "y=1e-4..1:log", "z=a,b,c"])


def value(settings) -> float:
    return (settings["x"] - 0.3) ** 2 + abs(settings["y"] - 0.01) + (settings["z"] != "b")


def tried(file: Path, count: int, seed: int = 0, space: list[Dimension] = SPACE) -> list[dict]:
    """The settings of all trials, once there are `count`."""
    trials = Trials(file, space, "min", seed)
    while trials.finished < count:
        trial, settings = trials.next()
        trials.finish(trial, value(settings))
    return [trial.params for trial in trials.all]


def test_trials_in_several_processes_are_those_of_one(tmp_path: Path):
    whole = tried(tmp_path / "whole.db", 13)
    for count in (1, 11):  # opened again, as after a kill
        tried(tmp_path / "parts.db", count)
        Trials(tmp_path / "parts.db", SPACE, "min", 0).next()  # is begun, and never finished

    assert tried(tmp_path / "parts.db", 13) == whole
    assert tried(tmp_path / "other.db", 3, seed=1) != whole[:3]


def test_what_is_tried_gets_better_than_chance(tmp_path: Path):
    values = [value(settings) for settings in tried(tmp_path / "trials.db", 24)]

    assert sum(values[14:]) < 0.8 * sum(values[:10])  # of which all were drawn at random


def test_a_trial_that_was_begun_goes_on_with_its_settings(tmp_path: Path):
    first, settings = Trials(tmp_path / "trials.db", SPACE, "max", 0).next()
    first.report(0.5, 1)
    again, same = Trials(tmp_path / "trials.db", SPACE, "max", 0).next()

    assert (again.number, same) == (first.number, settings)
    assert Trials(tmp_path / "trials.db", SPACE, "max", 0).all[0].intermediate_values == {1: 0.5}


def test_no_settings_are_tried_twice_and_all_of_a_small_space_are(tmp_path: Path):
    space = parse_space(["x=1..3", "z=a,b"])
    trials = Trials(tmp_path / "trials.db", space, "min", 0)
    for number in range(6):
        trial, settings = trials.next()
        if number == 2:
            trials.fail(trial, "a sentence")
        else:
            trials.finish(trial, settings["x"])

    assert trials.most == 6
    assert len({tuple(trial.params.items()) for trial in trials.all}) == 6
    assert trials.all[2].user_attrs == {"error": "a sentence"}


def test_a_range_with_few_numbers_of_four_digits_has_enough_of_more(tmp_path: Path):
    trials = Trials(tmp_path / "trials.db", parse_space(["x=0.1..0.1001"]), "min", 0)
    while trials.finished < 4:
        trial, settings = trials.next()
        trials.finish(trial, settings["x"])

    found = [trial.params["x"] for trial in trials.all]
    assert len(set(found)) == 4
    assert all(0.1 <= x <= 0.1001 for x in found)


def test_a_folder_may_have_any_name(tmp_path: Path):
    folder = tmp_path / "100%20 of #1? ü'"
    folder.mkdir()

    assert len(tried(folder / "trials.db", 1)) == 1
    assert (folder / "trials.db").is_file()


def test_a_damaged_file_is_named_in_one_sentence(tmp_path: Path):
    (tmp_path / "trials.db").write_text("no database at all, but some text that is long enough to be read as one" * 20)

    with pytest.raises(UserError, match=r"trials.db cannot be opened as the trials of a sweep") as error:
        Trials(tmp_path / "trials.db", SPACE, "min", 0)
    assert "\n" not in str(error.value)


def test_without_optuna_one_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "optuna", None)

    with pytest.raises(UserError, match=r'pip install "resnet-tl\[sweep\]"'):
        Trials(tmp_path / "trials.db", SPACE, "min", 0)
