"""What a best checkpoint, early stopping or a learning-rate scheduler may watch, and which way is better."""

from __future__ import annotations

from resnet_tl.errors import UserError, nearest
from resnet_tl.training.numbers.metrics import MetricSpecs, is_better_when_higher, named

MONITORS = ("val_loss", "val_accuracy", "val_balanced_accuracy", "val_macro_f1", "val_auroc")
# Not always there, or no ground to choose weights on.
OTHERS = ("val_top5_accuracy", "train_loss", "train_accuracy")
MEASURED = (*MONITORS, *OTHERS)


def monitor_mode(monitor: str, metrics: MetricSpecs = None) -> str:
    """A loss is to be small, our other numbers large; a metric of the user's own says so, or UserError."""
    own = named(metrics)
    name = monitor.removeprefix("val_")
    if name not in own:
        return "min" if monitor.endswith("loss") else "max"
    is_better = is_better_when_higher(metrics, name)
    if is_better is None:
        raise UserError(
            f"'{monitor}' cannot be watched: the metric does not say whether higher is better (higher_is_better); "
            "watch val_loss, or another metric."
        )
    return "max" if is_better else "min"


def check_monitor(setting: str, monitor: str, mode: str | None = None, metrics: MetricSpecs = None) -> None:
    """Raises UserError before training when a setting watches what is never measured, or in the wrong direction.

    `setting` is as its user knows it; one without a mode, `model.monitor`, takes validation metrics alone.
    """
    own = tuple(f"val_{name}" for name in named(metrics))
    allowed = (*MONITORS, *own) if mode is None else (*MEASURED, *own)
    if monitor not in allowed:
        raise UserError(f"{setting} is '{monitor}'; it must be one of {', '.join(allowed)}.{nearest(monitor, allowed)}")
    better = monitor_mode(monitor, metrics)
    if mode is not None and mode != better:
        word = {"min": "smaller", "max": "larger"}[better]
        raise UserError(
            f"{setting} is {monitor}, of which {word} is better, but its mode is {mode}: "
            f"add --{setting.split()[0].removesuffix('monitor')}mode {better}."
        )
