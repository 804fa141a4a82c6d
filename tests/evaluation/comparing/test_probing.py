"""Which of several probes is to be taken follows from what the images can tell, and from what they cost."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from resnet_tl.evaluation.comparing.probing import Probe, choose, probe_rows, ranked, write_probes
from resnet_tl.evaluation.intervals import wilson

IMAGES = 1000


def probe(name: str, wrong: range, rate: float = 100.0) -> Probe:
    """One that misjudges the images of some numbers."""
    is_correct = ~np.isin(np.arange(IMAGES), list(wrong))
    losses = np.where(is_correct, 0.1, 2.0)
    return Probe(name, "default", "stage4", False, 512, 0.1, is_correct, losses, is_correct, rate, 1.0)


def test_the_better_one_is_taken_where_the_images_can_tell():
    choice = choose([probe("small", range(150), 400.0), probe("large", range(50))])

    assert choice.probe.network == "large"
    assert choice.sentence.startswith("Take large, 95.0 %: it is better than the next, small, by 10.0 points [")


def test_a_faster_one_is_taken_where_it_is_shown_to_be_as_good():
    small, large = probe("small", range(50), 300.0), probe("large", range(1, 50))

    choice = choose([large, small])

    assert choice.probe is small
    assert "large is shown to be less than one point better (+0.1 points [" in choice.sentence
    assert choice.sentence.endswith(", and it is 3 times as fast.")


def test_where_nothing_is_shown_the_most_accurate_is_taken_and_that_is_said():
    """They err on different images: the interval of the difference is wide."""
    small, large = probe("small", range(100), 300.0), probe("large", range(200, 290))

    choice = choose([small, large])

    assert choice.probe is large
    assert "these 1,000 images cannot tell it from small (+1.0 points [" in choice.sentence
    assert choice.sentence.endswith("which is 3 times as fast.")


def test_a_slower_one_is_not_praised_for_its_speed():
    sentence = choose([probe("small", range(90), 300.0), probe("large", range(100, 200))]).sentence

    assert sentence.startswith("Take small")
    assert "fast" not in sentence


def test_what_is_hardly_faster_is_not_called_so():
    small, large = probe("small", range(100), 110.0), probe("large", range(200, 290))

    choice = choose([small, large])

    assert choice.probe is large
    assert "fast" not in choice.sentence


def test_equals_are_ranked_by_speed():
    slow, fast = probe("slow", range(10)), probe("fast", range(10), 200.0)

    assert ranked([slow, fast]) == [fast, slow]
    assert choose([slow, fast]).probe is fast


def test_networks_of_one_name_are_told_apart_by_their_weights():
    one, other = probe("net", range(10)), replace(probe("net", range(200, 212)), weights="mine.pth")

    sentence = choose([one, other]).sentence
    assert "Take net (default), 99.0 %" in sentence
    assert "cannot tell it from net (mine.pth)" in sentence


def test_a_cut_is_called_so():
    cut = replace(probe("resnet18", range(25)), depth="stage3", is_cut=True)

    assert choose([cut]).sentence.startswith("resnet18 up to stage3 reaches 97.5 %")


def test_the_table_holds_the_intervals(tmp_path: Path):
    one = replace(probe("=net", range(250)), weights="a,b.safetensors")
    write_probes([one], tmp_path / "probe.csv")
    table = pd.read_csv(tmp_path / "probe.csv")

    assert table["network"][0] == "'=net"
    assert table["weights"][0] == "a,b.safetensors"
    assert (table["accuracy"][0], table["images"][0]) == (0.75, IMAGES)
    assert (table["accuracy_low"][0], table["accuracy_high"][0]) == pytest.approx(wilson(750, IMAGES))
    assert table["loss"][0] == pytest.approx(0.575)
    assert table["loss_low"][0] < 0.575 < table["loss_high"][0]
    header, rows = probe_rows([one])
    assert rows[0][header.index("linear probe [95 % interval]")].startswith("75.0 % [")
