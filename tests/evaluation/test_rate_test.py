"""What a learning-rate range test suggests, and where it ends."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from resnet_tl.evaluation.rate_test import draw_rates, has_ended, rate_table, smoothed, suggest, write_rates

RATES = np.geomspace(1e-6, 1, 100)


def losses(best: float) -> np.ndarray:
    """A valley whose floor is at one rate."""
    return 0.5 + 0.2 * np.log10(RATES / best) ** 2


@pytest.mark.parametrize("best", [1e-2, 1e-1])
def test_a_tenth_of_the_lowest_is_suggested(best: float):
    found = suggest(RATES, losses(best))
    assert found is not None
    assert best / 10 <= found <= best / 10 * 4  # the running mean comes behind


def test_nothing_is_suggested_where_the_loss_does_not_fall():
    assert suggest(RATES, np.full(100, 1.6)) is None
    assert suggest(RATES, np.linspace(1, 5, 100)) is None
    assert suggest(RATES[:5], losses(0.1)[:5]) is None


def test_what_is_no_number_is_no_rate():
    cut = losses(0.1)[:90]
    assert suggest([*RATES[:90], RATES[90]], [*cut, float("nan")]) == suggest(RATES[:90], cut)


def test_it_ends_where_the_loss_has_grown_or_is_no_number():
    assert not has_ended([2.0] * 30)
    assert has_ended([2.0] * 30 + [100.0] * 5)
    assert has_ended([2.0, float("nan")])
    assert has_ended([float("inf")])


def test_the_running_mean_begins_with_the_first_loss():
    assert smoothed([3.0, 3.0, 3.0]) == pytest.approx([3.0, 3.0, 3.0])


def test_table_and_figure(tmp_path: Path):
    table = rate_table(RATES, losses(0.1))
    write_rates(table, tmp_path / "lr.csv")
    draw_rates(table, None, tmp_path / "lr.png")
    assert list(pd.read_csv(tmp_path / "lr.csv").columns) == ["learning_rate", "loss", "smoothed_loss"]
    assert (tmp_path / "lr.png").read_bytes().startswith(b"\x89PNG")
