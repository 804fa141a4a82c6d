"""What the time of a fit went into, and the one setting that would shorten it most."""

from __future__ import annotations

from typing import Any

import lightning as L
from rich.table import Table

from resnet_tl import timing
from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.timing import Part

NAMES: dict[Part, str] = {
    "start-up": "start-up, to the first step",
    "pixels": "decoding of images",
    "activations": "frozen stages",
    "input": "waiting for batches",
    "training": "forward, backward, step",
    "validation": "validation",
    "files": "checkpoints, tables, figures",
    "rest": "rest",
}


class TimeKeeper(L.Callback):
    """Tells the stopwatch what a fit is doing; the last of the callbacks, so that theirs count where they belong."""

    def on_train_epoch_start(self, *arguments: Any, **named: Any) -> None:
        timing.phase("input")

    def on_train_batch_start(self, *arguments: Any, **named: Any) -> None:
        timing.phase("training")

    def on_train_batch_end(self, *arguments: Any, **named: Any) -> None:
        timing.phase("input")

    def on_train_epoch_end(self, *arguments: Any, **named: Any) -> None:
        timing.phase("rest")

    def on_validation_start(self, *arguments: Any, **named: Any) -> None:
        timing.phase("validation")

    def on_validation_batch_start(self, *arguments: Any, **named: Any) -> None:
        timing.phase("validation")

    def on_validation_batch_end(self, *arguments: Any, **named: Any) -> None:
        timing.phase("input")

    def on_validation_epoch_end(self, *arguments: Any, **named: Any) -> None:
        timing.phase("validation")

    def on_validation_end(self, *arguments: Any, **named: Any) -> None:
        timing.phase("rest")

    on_test_start = on_validation_start
    on_test_batch_start = on_validation_batch_start
    on_test_batch_end = on_validation_batch_end
    on_test_epoch_end = on_validation_epoch_end
    on_test_end = on_validation_end


def advice(seconds: dict[Part, float], trainer: L.Trainer, model: L.LightningModule, data: ImageDataModule) -> str:
    """One sentence: the largest part, and what would make it smaller, if anything would."""
    part = max(seconds, key=seconds.__getitem__)
    on_gpu = trainer.strategy.root_device.type != "cpu"
    mode, schedule = model.hparams["mode"], model.hparams["schedule"]
    match part:
        case "start-up":
            return "Most of the time was start-up, which more epochs or images do not lengthen."
        case "pixels" if data.pixel_cache == "off":
            return "Most of the time went into decoding, in each run anew: --data.pixel_cache auto keeps the images."
        case "pixels":
            return "Most of the time went into decoding, which the next run on these images does not repeat."
        case "activations" if model.hparams["activation_cache"] == "off":
            return "Most of the time went into the frozen stages: --model.activation_cache auto keeps what they give."
        case "activations" if data.augments and data.views is None:
            return "Most of the time went into the frozen stages, once for each epoch: --data.views 4 makes it 4 times."
        case "activations":
            return "Most of the time went into the frozen stages, which the next run on these images does not repeat."
        case "input" if data.pixel_cache == "off":
            return "Most of the time went into waiting for images: --data.pixel_cache auto keeps them decoded."
        case "input" if on_gpu:
            return "Most of the time went into waiting for images: try a larger --data.workers."
        case "input":
            return "Most of the time went into waiting for images: --data.augmentation light is the quickest."
        case "training" if not schedule and mode == "all":
            return "Most of the time went into training all stages: --model.mode last_stages trains the last one alone."
        case "training" if not on_gpu:
            return "Most of the time went into training, for which a GPU is the quicker machine."
        case "validation":
            return "Most of the time went into validation: --trainer.check_val_every_n_epoch 2 halves it."
    return f"Most of the time: {NAMES[part]}."


def time_table(seconds: dict[Part, float]) -> Table:
    """Seconds and share of each part, in the order of a fit."""
    total = sum(seconds.values())
    table = Table(box=None, pad_edge=False)
    table.add_column("time")
    table.add_column(f"{total:.1f} s", justify="right")
    table.add_column("", justify="right")
    for part, name in NAMES.items():
        if seconds.get(part, 0) >= 0.005 * total:
            table.add_row(name, f"{seconds[part]:.1f}", f"{seconds[part] / total:.0%}")
    return table
