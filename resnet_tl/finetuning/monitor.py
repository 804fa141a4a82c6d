"""What a best checkpoint, early stopping or a learning-rate scheduler may watch, and which way is better."""

from __future__ import annotations

from resnet_tl.errors import UserError, nearest

MONITORS = ("val_loss", "val_accuracy", "val_balanced_accuracy", "val_macro_f1", "val_auroc")
OTHERS = ("val_top5_accuracy", "train_loss", "train_accuracy")  # not always there, or no ground to choose weights on


def monitor_mode(monitor: str) -> str:
    """A loss is to be small, everything else to be large."""
    return "min" if monitor.endswith("loss") else "max"


def check_monitor(setting: str, monitor: str, mode: str | None = None) -> None:
    """Raises UserError before training when a setting watches what is never measured, or in the wrong direction.

    Args:
        setting: as its user knows it; `model.monitor` takes validation metrics alone.
        monitor: the metric's name.
        mode: min or max as given; None where it follows from the metric.
    """
    allowed = MONITORS if mode is None else MONITORS + OTHERS
    if monitor not in allowed:
        raise UserError(f"{setting} is '{monitor}'; it must be one of {', '.join(allowed)}.{nearest(monitor, allowed)}")
    if mode is not None and mode != monitor_mode(monitor):
        better = {"min": "smaller", "max": "larger"}[monitor_mode(monitor)]
        raise UserError(
            f"{setting} is {monitor}, of which {better} is better, but its mode is {mode}: "
            f"add --{setting.removesuffix('monitor')}mode {monitor_mode(monitor)}."
        )
