"""Random numbers are uniform, independent, and the same in whatever company they are drawn."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest

from resnet_tl.data.draws import Purpose, step_seed, uniform


def test_a_rows_numbers_are_the_same_in_whatever_company_it_is_drawn() -> None:
    together = uniform(3, 2, np.arange(100), Purpose.CROP, 22)
    backwards = uniform(3, 2, np.arange(100)[::-1], Purpose.CROP, 22)
    assert (backwards[::-1] == together).all()
    for row in (0, 41, 99):
        assert (uniform(3, 2, np.array([row]), Purpose.CROP, 22)[0] == together[row]).all()
        assert (uniform(3, 2, np.array([row]), Purpose.CROP, 5)[0] == together[row, :5]).all()


def test_the_numbers_are_the_same_on_every_machine_and_in_every_version() -> None:
    drawn = uniform(1, 2, np.array([3]), Purpose.COLOUR, 2)
    assert drawn.tolist() == [[0.04230677757338974, 0.45133577090113985]]


def test_seed_view_row_and_purpose_each_give_other_numbers() -> None:
    purposes = (Purpose.CROP, Purpose.FLIP)
    drawn = {
        float(number)
        for seed, view, purpose in itertools.product((0, 1, 2**40), range(20), purposes)
        for number in uniform(seed, view, np.arange(100), purpose, 3).flat
    }
    assert len(drawn) == 3 * 20 * 2 * 100 * 3


@pytest.mark.parametrize("purpose", [Purpose.CROP, Purpose.ERASING])
def test_the_numbers_are_uniform_and_know_nothing_of_each_other(purpose: Purpose) -> None:
    drawn = uniform(0, 0, np.arange(20_000), purpose, 4)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = np.array([np.bincount((column * 20).astype(int), minlength=20) for column in drawn.T])
    assert (((counts - 1000) ** 2 / 1000).sum(axis=1) < 50).all()  # chi-squared of 19 degrees: 1 in 10 000
    neighbours = np.column_stack([drawn, np.roll(drawn, 1, axis=0), uniform(0, 1, np.arange(20_000), purpose, 4)])
    correlation = np.corrcoef(neighbours.T) - np.eye(12)
    assert np.abs(correlation).max() < 0.03  # 4 standard deviations


def test_any_seed_is_taken_and_none_overflows_aloud() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in (0, 2**63, 2**64 - 1, 2**70):
            assert uniform(seed, 10**6, np.array([0, 2**40]), Purpose.SHIFT, 1).shape == (2, 1)
    assert uniform(0, 0, np.arange(0), Purpose.SHIFT, 2).shape == (0, 2)


def test_seeds_do_not_collide_over_epochs_and_rows() -> None:
    seeds = {step_seed(seed, view, row) for seed in range(2) for view in range(30) for row in range(300)}
    assert len(seeds) == 2 * 30 * 300
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_seed_of_a_sample_is_the_same_on_every_machine_and_in_every_version() -> None:
    assert step_seed(0, 0, 0) == 7896617691693857887
    assert step_seed(1, 2, 3) == 6498626229777268288
