"""What the time of a fit went into, and the one setting that would shorten it most."""

from __future__ import annotations

from collections.abc import Callable

import lightning as L
from rich.table import Table

from resnet_tl import timing
from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.timing import NAMES, Part


def _begins(part: Part) -> Callable[..., None]:
    return lambda *arguments, **named: timing.phase(part)


class TimeKeeper(L.Callback):
    """Tells the stopwatch what a fit is doing; the last of the callbacks, so that theirs count where they belong."""

    on_train_epoch_start = on_train_batch_end = on_validation_batch_end = on_test_batch_end = _begins("input")
    on_train_batch_start = _begins("training")
    on_validation_start = on_validation_batch_start = on_validation_epoch_end = _begins("validation")
    on_test_start = on_test_batch_start = on_test_epoch_end = on_validation_start
    on_train_epoch_end = on_validation_end = on_test_end = _begins("rest")


def advice(seconds: dict[Part, float], trainer: L.Trainer, model: L.LightningModule, data: ImageDataModule) -> str:
    """One sentence: the largest part, and what would make it smaller, if anything would."""
    part = max(seconds, key=seconds.__getitem__)
    on_gpu = trainer.strategy.root_device.type != "cpu"
    settings = model.hparams
    hint = ""
    match part:
        case "start-up":
            hint = "which more epochs do not lengthen"
        case "pixels" | "input" if data.pixel_cache == "off":
            hint = "--data.pixel_cache auto keeps the images decoded"
        case "activations" if settings["activation_cache"] == "off":
            hint = "--model.activation_cache auto keeps what they give"
        case "activations" if data.augments and data.views is None and (trainer.max_epochs or 0) > 4:
            hint = "--data.views 4 computes them for 4 versions of each image instead of one for each epoch"
        case "input" if on_gpu:
            hint = "try a larger --data.workers"
        case "input" if data.augmentation in ("standard", "trivial_augment"):
            hint = "--data.augmentation light is quicker"
        case "training" if not settings["schedule"] and settings["mode"] == "all":
            hint = "--model.mode last_stages trains the last stage alone"
        case "training" if not on_gpu:
            hint = "a GPU is the quicker machine for it"
        case "validation" if trainer.check_val_every_n_epoch == 1:
            hint = "--trainer.check_val_every_n_epoch 2 halves it"
    joint = ", " if part == "start-up" else ": "
    return f"Most of the time: {NAMES[part]}{joint if hint else ''}{hint}."


def time_table(seconds: dict[Part, float]) -> Table:
    """Seconds and share of each part, in the order of a fit."""
    total = sum(seconds.values())
    table = Table(box=None, pad_edge=False)
    table.add_column("time")
    table.add_column(f"{total:.1f} s", justify="right")
    table.add_column("", justify="right")
    for part, name in NAMES.items():
        if seconds.get(part, 0) >= 0.005 * total:
            table.add_row(name, f"{seconds[part]:.1f}", f"{100 * seconds[part] / total:.0f} %")
    return table
