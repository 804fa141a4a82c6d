"""How numbers are called and written, the same in every command: shares in per cent, a loss as a number."""

from __future__ import annotations

import math

NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "top5_accuracy": "top-5 accuracy",
    "auroc": "AUROC",
    "loss": "loss",
}
"""Our own metrics, in the order in which they are shown."""
SHARES = ("accuracy", "balanced_accuracy", "macro_f1", "top5_accuracy", "precision", "recall", "f1")
SPLITS = {"train": "training", "val": "validation", "test": "test"}


def metric_name(metric: str) -> str:
    """`val_macro_f1` -> `validation macro F1`; a metric of the user's own keeps its name."""
    split, _, name = metric.partition("_")
    if split in SPLITS and name:
        return f"{SPLITS[split]} {NAMES.get(name, name)}"
    return NAMES.get(metric, metric)


def metric_value(metric: str, value: float) -> str:
    """`83.3 %` for a share of images, else three digits behind the point, or two that count where it is small.

    What is not defined, such as the recall of a class without images, is a dash.
    """
    if math.isnan(value):
        return "–"
    if metric.removeprefix("train_").removeprefix("val_").removeprefix("test_") in SHARES:
        return percent(value)
    return f"{value:.2g}" if 0 < abs(value) < 0.01 else f"{value:.3f}"


def points(share: float) -> str:
    """`83.3`: the same digits wherever a share is written, though 100 * (0.825 - 0.5375) is a little below 28.75."""
    return f"{round(round(100 * share, 6), 1) + 0.0:.1f}"  # + 0: no "-0.0"


def percent(share: float) -> str:
    """`83.3 %`."""
    return f"{points(share)} %"


def counted(number: int, noun: str) -> str:
    """`1 image`, `3,217 images`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def interval(share: float, low: float, high: float, *, unit: str = " %") -> str:
    """`83.3 % [71.2, 90.8]`."""
    return f"{points(share)}{unit} [{points(low)}, {points(high)}]"


def spread_text(metric: str, mean: float, deviation: float) -> str:
    """`83.3 ± 1.2 %` for a share of images, else `0.431 ± 0.020`."""
    value, unit = metric_value(metric, mean), ""
    if value.endswith(" %"):
        value, unit, deviation = value.removesuffix(" %"), " %", 100 * deviation
    return f"{value} ± {deviation:.{max(1, len(value.partition('.')[2]))}f}{unit}"


def duration(seconds: float) -> str:
    """`12.3 s`, `2 min 05 s`, `1 h 10 min`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s" if minutes else f"{seconds:.3g} s"
    return f"{minutes // 60} h {minutes % 60:02} min"
