"""What a person sees of a fit: a live bar in a terminal, one line for each epoch elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from resnet_tl.finetuning.freezing import batch_norm_mode
from resnet_tl.training.classifier import ImageClassifier


class FitProgress(ProgressBar):
    """Loss, metrics, images per second and time left."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        # Without a terminal a line is a line, however long.
        self.console = console or Console(width=None if sys.stdout.isatty() else 120)
        self.bar: Progress | None = None
        self.enabled = True

    def disable(self) -> None:
        self.enabled = False

    def enable(self) -> None:
        self.enabled = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.started = time.perf_counter()
        if not self._shows(trainer):
            return
        assert isinstance(pl_module, ImageClassifier)
        assert pl_module.origin is not None
        self.console.print(
            f"{pl_module.network.name}, weights: {pl_module.origin.source}", highlight=False, soft_wrap=True
        )
        self.console.print(stage_table(pl_module, trainer.optimizers[0].param_groups))
        if self.console.is_terminal:
            self.bar = Progress(
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[stage]:<5} {task.fields[text]}"),
                TimeRemainingColumn(compact=True),
                console=self.console,
                transient=True,
            )
            batches = (trainer.max_epochs or 1) * int(trainer.num_training_batches)
            total = batches if batches > 0 else trainer.max_steps * trainer.accumulate_grad_batches
            self.task = self.bar.add_task("fit", total=total, epoch="", stage="", text="")
            self.bar.start()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.epoch_started = time.perf_counter()
        self.images = 0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.images += len(batch["row"]) * trainer.world_size
        self.epoch_seconds = time.perf_counter() - self.epoch_started
        if self.bar:
            done = trainer.current_epoch * int(trainer.num_training_batches) + batch_idx + 1
            loss = trainer.progress_bar_metrics.get("train_loss_step", trainer.progress_bar_metrics.get("train_loss"))
            text = f"loss {loss:.3f}  {self.images_per_second:.0f} images/s" if loss is not None else ""
            epoch = f"{trainer.current_epoch + 1}{_of_epochs(trainer)}"
            self.bar.update(self.task, completed=done, epoch=epoch, stage="train", text=text)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.bar:
            self.bar.update(self.task, stage="val", text="")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self._shows(trainer):
            return
        assert isinstance(pl_module, ImageClassifier)
        # Validation's numbers of this epoch: Lightning's go on showing those of an earlier one.
        values = {f"val_{name}": value for name, value in pl_module.numbers.get("val", {}).items()}
        values |= {name: float(value) for name, value in trainer.callback_metrics.items() if name == "train_loss"}
        shown = [f"epoch {trainer.current_epoch + 1:>3}{_of_epochs(trainer)}"]
        for key, label in (
            ("train_loss", "train loss"),
            ("val_loss", "val loss"),
            ("val_accuracy", "val accuracy"),
            ("val_macro_f1", "macro F1"),
        ):
            if key in values:
                shown.append(f"{label} {values[key]:.4f}")
        shown.append(f"{self.images_per_second:.0f} images/s")
        self.console.print("  ".join(shown), highlight=False, soft_wrap=not self.console.is_terminal)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self.bar:
            self.bar.stop()
            self.bar = None

    def _shows(self, trainer: L.Trainer) -> bool:
        return self.enabled and trainer.is_global_zero

    @property
    def images_per_second(self) -> float:
        return self.images / max(1e-9, getattr(self, "epoch_seconds", 0.0))


def _of_epochs(trainer: L.Trainer) -> str:
    """How many epochs there are; nothing when the fit counts steps."""
    return f"/{trainer.max_epochs}" if (trainer.max_epochs or 0) > 0 else ""


def stage_table(model: ImageClassifier, groups: list[dict[str, Any]]) -> Table:
    """Each stage's parameters, whether it trains now, its BatchNorm mode and its base learning rate."""
    network = model.network
    rates = {group["name"]: group.get("initial_lr", group["lr"]) for group in groups}
    table = Table(box=None, pad_edge=False)
    for column, justify in (("stage", "left"), ("parameters", "right"), ("trained", "left"), ("BatchNorm", "left")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    table.add_column("learning rate", justify="right")
    for name in (*network.stage_names, "head"):
        module = network.head if name == "head" else network.stage(name)
        trained = name == "head" or name not in network.frozen
        rate = rates.get(name, rates.get(f"{name}, no decay"))
        table.add_row(
            name,
            f"{sum(parameter.numel() for parameter in module.parameters()):,}",
            "yes" if trained else "frozen",
            batch_norm_mode(module),
            f"{rate:g}" if trained and rate is not None else "later" if rate is not None else "",
            style="" if trained else "dim",
        )
    return table
