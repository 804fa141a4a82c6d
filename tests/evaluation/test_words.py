from __future__ import annotations

import pytest

from resnet_tl.evaluation.words import duration, interval, metric_name, metric_value, percent, points


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        ("val_loss", "validation loss"),
        ("train_loss", "training loss"),
        ("test_macro_f1", "test macro F1"),
        ("top5_accuracy", "top-5 accuracy"),
        ("val_kappa", "validation kappa"),
        ("kappa", "kappa"),
    ],
)
def test_a_metric_is_called_by_its_words(metric, name):
    assert metric_name(metric) == name


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("val_accuracy", 0.8333, "83.3 %"),
        ("balanced_accuracy", 1.0, "100.0 %"),
        ("recall", float("nan"), "–"),
        ("auroc", 0.9492, "0.949"),
        ("train_loss", 0.74351, "0.744"),
        ("loss", 0.00042, "0.00042"),
        ("loss", 0.0, "0.000"),
    ],
)
def test_shares_are_in_per_cent_and_the_rest_are_numbers(metric, value, text):
    assert metric_value(metric, value) == text


def test_intervals_and_durations():
    assert percent(-1e-9) == "0.0 %"
    assert interval(0.66, 0.554, 0.757) == "66.0 % [55.4, 75.7]"
    assert points(0.825 - 0.5375) == points(0.2875) == "28.8"
    assert [duration(seconds) for seconds in (5.04, 125, 4200)] == ["5.04 s", "2 min 05 s", "1 h 10 min"]
