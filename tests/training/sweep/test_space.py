"""What a space may be written as, and what it is refused for."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from resnet_tl.errors import UserError
from resnet_tl.training.sweep.space import Dimension, parse_space


def test_choices_and_ranges_are_read_from_words():
    space = parse_space(
        ["optimizer.lr=1e-4..1e-1:log", "model.mode=head, last_stages", "trainer.max_epochs=2..5", "model.mixup=0..0.4"]
    )

    assert space == [
        Dimension("optimizer.lr", low=1e-4, high=0.1, is_log=True),
        Dimension("model.mode", ("head", "last_stages")),
        Dimension("trainer.max_epochs", low=2, high=5, is_whole=True),
        Dimension("model.mixup", low=0, high=0.4),
    ]
    assert [dimension.count for dimension in space] == [math.inf, 2, 4, math.inf]
    assert [dimension.samples for dimension in space] == [
        ("0.0001", "0.1"), ("head", "last_stages"), ("2", "5"), ("0.0", "0.4")
    ]  # fmt: skip


def test_a_file_says_the_same_as_words(tmp_path: Path):
    file = tmp_path / "space.yaml"
    file.write_text(
        "optimizer.lr: 1e-4..1e-1:log\nmodel.mode: [head, last_stages]\ndata.pixel_cache: [on, auto]\n"
        "model.network: [resnet18, [resnet18, resnet50]]\nmodel.head_hidden: [null, [64]]\n"
    )

    assert parse_space([str(file)]) == parse_space(
        [
            "optimizer.lr=1e-4..1e-1:log",
            "model.mode=head,last_stages",
            "data.pixel_cache=true,auto",
            'model.network=resnet18,["resnet18", "resnet50"]',
            "model.head_hidden=null,[64]",
        ]
    )


def test_a_space_is_read_again_from_what_it_says_of_itself():
    words = ["a=1..5", "b=1.0..2.0", "c=1e-6..1:log", "d=x,[y, z]", "e=-2..3", "f=../one,../two", "g=1..64:log"]
    space = parse_space(words)

    assert parse_space([str(dimension) for dimension in space]) == space


def test_what_is_drawn_has_few_digits_and_stays_within_the_range():
    dimension = Dimension("lr", low=0.12344, high=0.654321)

    assert dimension.rounded(0.33333333) == 0.3333
    assert dimension.rounded(0.123441) == 0.12344
    assert dimension.rounded(0.65432099) == 0.6543
    assert dimension.written(0.0001) == "0.0001"
    assert Dimension("n", low=1, high=9, is_whole=True).written(3.0) == "3"


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("optimizer.lr=1e-4..x", "optimizer.lr=1e-4..x is no range; it must be LOW..HIGH"),
        ("optimizer.lr=1..2:linear", "is no range"),
        ("optimizer.lr=0..inf", "is no range"),
        ("optimizer.lr=0..nan", "is no range"),
        ("optimizer.lr=1..1", "is empty; the smaller number comes first"),
        ("optimizer.lr=2..1", "is empty"),
        ("optimizer.lr=0..1:log", "begins at 0; a range with :log must begin above 0"),
        ("model.mode=head", "has one value; give it as --model.mode head"),
        ("model.mode=", "has no value"),
        ("model.mode=head,all,head", "names head twice"),
        ("nothing.yaml", "is neither KEY=VALUES"),
    ],
)
def test_what_is_no_space_is_refused_in_one_sentence(word: str, sentence: str):
    with pytest.raises(UserError) as error:
        parse_space([word])

    assert sentence in str(error.value)


def test_a_key_that_is_named_twice_is_refused():
    with pytest.raises(UserError, match=r"--space names model.mode twice"):
        parse_space(["model.mode=head,all", "model.mode=head,last_stages"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- a\n- b\n", "must hold one setting on each line"),
        ("", "must hold one setting on each line"),
        ("a: [1\n", "is not a YAML file"),
        ("model:\n  mode: [head, all]\n", "such as model.mode"),
        ("model.mode: head\n", "has one value"),
        ("model.mode:\n", "has one value; give it as --model.mode null"),
    ],
)
def test_a_file_that_is_no_space_is_refused_in_one_sentence(tmp_path: Path, text: str, sentence: str):
    file = tmp_path / "space.yaml"
    file.write_text(text)

    with pytest.raises(UserError) as error:
        parse_space([str(file)])
    assert sentence in str(error.value)
