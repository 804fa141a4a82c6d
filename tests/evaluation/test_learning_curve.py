"""A learning curve: a known power law is found again, and its interval holds what twice the images bring."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from resnet_tl.evaluation.learning_curve import (
    curve_table,
    draw_curve,
    fewest_images,
    fit_curve,
    sizes_for,
    write_curve,
)

SIZES = sizes_for(800, 2)


def measured(floor: float, scale: float, exponent: float, seed: int = 0, images: int = 2000, repeats: int = 5):
    """What is misjudged where the error is known: some images are hard for every probe, as they are in fact."""
    generator = np.random.default_rng(seed)
    hardness = generator.random(images)
    wrong = []
    for size in SIZES:
        error = floor + scale * size**-exponent
        count = repeats if size < SIZES[-1] else 1
        wrong.append((hardness + generator.normal(0, 0.01, (count, images))) < error)
    return fit_curve(SIZES, wrong)


def true_gain(floor: float, scale: float, exponent: float) -> float:
    n = SIZES[-1]
    return scale * (n**-exponent - (2 * n) ** -exponent)


def test_the_sizes_end_with_all_images_and_grow_by_a_factor():
    assert SIZES[-1] == 800
    assert np.allclose(np.divide(SIZES[1:], SIZES[:-1]), 2**0.5, rtol=0.03)
    assert min(sizes_for(240, 12)) >= 24


@pytest.mark.parametrize("classes", [2, 5, 12, 100])
def test_below_the_fewest_images_there_is_no_curve(classes: int):
    least = fewest_images(classes)
    assert sizes_for(least - 1, classes) == []
    assert len(sizes_for(least, classes)) >= 4


@pytest.mark.slow
def test_the_interval_holds_the_gain_of_known_curves():
    laws = [(0.02, 2.0, 0.6), (0.1, 0.5, 0.3), (0.0, 1.0, 0.4)]
    held = [
        low <= true_gain(*law) <= high
        for law in laws
        for seed in range(7)
        for _, low, high in [measured(*law, seed=seed).gain()]
    ]
    assert sum(held) >= 0.9 * len(held)


def test_more_images_to_judge_by_make_it_surer():
    few, many = (measured(0.02, 2.0, 0.6, images=images).gain() for images in (100, 5000))
    assert many.high - many.low < few.high - few.low


def test_a_flat_curve_promises_little_and_a_steep_one_much():
    flat, steep = measured(0.1, 0.0, 1.0).gain(), measured(0.0, 2.0, 0.5).gain()
    assert flat.high < 0.02
    assert steep.low > flat.high


def test_no_mistake_at_all_is_no_certainty():
    wrong = [np.zeros((5 if size < SIZES[-1] else 1, 50), bool) for size in SIZES]
    curve = fit_curve(SIZES, wrong)
    assert 0 <= curve.gain().value < 0.02
    assert curve.at(1600).low < 1


def test_no_accuracy_is_below_zero():
    """Of many classes of which hardly one is known."""
    curve = measured(0.97, 0.0, 1.0, images=20)
    assert 0 <= curve.at(SIZES[-1]).low < 0.05


def test_it_is_the_same_every_time():
    assert measured(0.02, 2.0, 0.6).gain() == measured(0.02, 2.0, 0.6).gain()


def test_it_is_said_in_a_sentence():
    sentence = measured(0.02, 2.0, 0.6).sentence()
    assert sentence.startswith("Twice the training images (1,600 in place of 800) would bring about +")
    assert " points [" in sentence


def test_the_table_and_the_figure_go_beyond_what_was_measured(tmp_path: Path):
    curve = measured(0.02, 2.0, 0.6)
    write_curve(curve, tmp_path / "curve.csv")
    draw_curve(curve, tmp_path / "curve.png")

    table = pd.read_csv(tmp_path / "curve.csv")
    assert table.equals(pd.read_csv(tmp_path / "curve.csv"))
    assert list(table["images"][-3:]) == [800, 1131, 1600]
    assert table["measured"].isna().tolist() == [False] * len(SIZES) + [True, True]
    assert (table["low"] <= table["expected"]).all()
    assert (table["expected"] <= table["high"]).all()
    assert len(curve_table(curve)) == len(SIZES) + 2
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
