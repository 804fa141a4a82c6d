"""What a person sees of a fit: a live bar in a terminal, and everywhere a line for each epoch."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import Console
from rich.table import Table

from resnet_tl import terminal
from resnet_tl.evaluation.words import metric_name, metric_value
from resnet_tl.notebook import in_notebook
from resnet_tl.terminal import Screen
from resnet_tl.training.classifier import ImageClassifier
from resnet_tl.training.console.notebook_screen import NotebookScreen

GAP = "  "
LEFT_OUT = ("images/s", "train_loss", "val_loss", "val_accuracy")
"""Columns in the order in which a narrow terminal does without them; never the monitored one."""


class FitProgress(ProgressBar):
    """Loss, metrics, images per second and time left; a mark at each epoch that is the best so far.

    Args:
        console: where it is shown; default: where the command writes, a notebook's cell, else standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self._given = Screen(console) if console else None
        self._shown = ExitStack()
        self.task: Any = None  # the live bar
        self.enabled = True
        self.best: float | None = None  # the monitored number of the best epoch so far

    def disable(self) -> None:
        self.enabled = False

    def enable(self) -> None:
        self.enabled = True

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """From here on what takes long before the training is seen as well, such as decoding."""
        if stage == TrainerFn.FITTING and self._shows(trainer):
            # The console that was given, the cell of a notebook that runs now, or the command's screen.
            self.screen = self._given or (NotebookScreen() if in_notebook() else terminal.current())
            self._shown.enter_context(terminal.shown(self.screen))

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._shown.close()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.started = time.perf_counter()
        if not self._shows(trainer):
            return
        assert isinstance(pl_module, ImageClassifier)
        assert pl_module.origin is not None
        self.screen.print(f"{pl_module.network.name}, weights: {pl_module.origin.source}")
        self.screen.print(stage_table(pl_module, trainer.optimizers[0].param_groups))
        self.columns = epoch_columns(pl_module.hparams["monitor"], _epochs(trainer), self.screen.console.width)
        if pl_module.data.final:  # nothing is validated
            known = {name: column for name, column in self.columns.items() if not name.startswith("val_")}
            self.columns = {name: column for name, column in known.items() if name != "best"}
        self.is_headed = False
        if self.screen.is_terminal:
            batches = (trainer.max_epochs or 1) * int(trainer.num_training_batches)
            total = batches if batches > 0 else trainer.max_steps * trainer.accumulate_grad_batches
            self.task = self.screen.begin("training", total)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.epoch_started = time.perf_counter()
        self.images = 0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.images += len(batch["row"]) * trainer.world_size
        self.epoch_seconds = time.perf_counter() - self.epoch_started
        if self.task is not None:
            done = trainer.current_epoch * int(trainer.num_training_batches) + batch_idx + 1
            loss = trainer.progress_bar_metrics.get("train_loss_step", trainer.progress_bar_metrics.get("train_loss"))
            text = f"loss {loss:.3f}{GAP}{self.images_per_second:.0f} images/s" if loss is not None else ""
            epoch = f"epoch {trainer.current_epoch + 1}{_of_epochs(trainer)}"
            self.screen.update(self.task, completed=done, description=epoch, text=text)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.task is not None:
            self.screen.update(self.task, text="validation")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, ImageClassifier)
        # Validation's numbers of this epoch: Lightning's go on showing those of an earlier one.
        values = {f"val_{name}": value for name, value in pl_module.numbers.get("val", {}).items()}
        values |= {name: float(value) for name, value in trainer.callback_metrics.items() if name == "train_loss"}
        is_best = self._is_best(values.get(pl_module.hparams["monitor"]), pl_module.monitor_mode)
        if not self._shows(trainer):
            return
        cells = {name: metric_value(name, value) for name, value in values.items()}
        cells["epoch"] = f"{trainer.current_epoch + 1}{_of_epochs(trainer)}"
        cells["images/s"] = f"{self.images_per_second:,.0f}"
        cells["best"] = "*" if is_best else ""
        if not self.is_headed:  # only now, since lines about the start come before
            self.is_headed = True
            self.screen.print(epoch_line({name: title for name, (title, _) in self.columns.items()}, self.columns))
        self.screen.print(epoch_line(cells, self.columns))

    def _is_best(self, value: float | None, mode: str) -> bool:
        """Whether no epoch before was as good, as the best checkpoint has it."""
        if value is None or math.isnan(value):
            return False
        if self.best is None or (value < self.best if mode == "min" else value > self.best):
            self.best = value
            return True
        return False

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._stop()
        self._shown.close()

    def _stop(self) -> None:
        if self.task is not None:
            self.screen.end(self.task)
            self.task = None

    def _shows(self, trainer: L.Trainer) -> bool:
        return self.enabled and trainer.is_global_zero

    @property
    def images_per_second(self) -> float:
        return self.images / max(1e-9, getattr(self, "epoch_seconds", 0.0))


def _epochs(trainer: L.Trainer) -> int:
    """How many there are; 0 when the fit counts steps."""
    return max(0, trainer.max_epochs or 0)


def _of_epochs(trainer: L.Trainer) -> str:
    return f"/{_epochs(trainer)}" if _epochs(trainer) else ""


def epoch_columns(monitor: str, epochs: int, width: int) -> dict[str, tuple[str, int]]:
    """The columns of the epochs' lines, name -> (title, width), that fit into a width; 0 epochs: not known."""
    names = list(dict.fromkeys(("epoch", "train_loss", "val_loss", "val_accuracy", monitor, "images/s", "best")))
    titles = {name: metric_name(name) for name in names}
    columns = {name: (title, len(title)) for name, title in titles.items()}
    columns["epoch"] = ("epoch", max(5, 2 * len(str(epochs)) + 1))
    for name in LEFT_OUT:
        if sum(size + len(GAP) for _, size in columns.values()) - len(GAP) <= width:
            break
        if name != monitor:
            del columns[name]
    return columns


def epoch_line(cells: dict[str, str], columns: dict[str, tuple[str, int]]) -> str:
    """A line of cells by the names of their columns; one without a cell stays empty."""
    return GAP.join(f"{cells.get(name, ''):>{size}}" for name, (_, size) in columns.items()).rstrip()


def stage_table(model: ImageClassifier, groups: list[dict[str, Any]]) -> Table:
    """Each stage's parameters, whether it trains now, and its base learning rate."""
    network = model.network
    rates = {group["name"]: group.get("initial_lr", group["lr"]) for group in groups}
    table = Table(box=None, pad_edge=False)
    table.add_column("stage", overflow="fold")
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("trained")
    table.add_column("learning rate", justify="right")
    for name in (*network.stage_names, "head"):
        module = network.head if name == "head" else network.stage(name)
        trained = name == "head" or name not in network.frozen
        rate = rates.get(name, rates.get(f"{name}, no decay"))
        table.add_row(
            "stem (first layers)" if name == "stem" else name,
            f"{sum(parameter.numel() for parameter in module.parameters()):,}",
            ("norms" if network.norms_only and name != "head" else "yes") if trained else "frozen",
            f"{rate:g}" if trained and rate is not None else "later" if rate is not None else "",
            style="" if trained else "dim",
        )
    return table
