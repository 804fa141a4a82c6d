"""Writes the run directory while a fit goes on: recipe, environment, data facts, metrics, figures."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from resnet_tl import __version__, failures
from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.data.index import ImageIndex
from resnet_tl.data.pixels.colour import adjust_colour
from resnet_tl.data.quality.findings import write_findings
from resnet_tl.errors import UserError
from resnet_tl.evaluation.figures import contact_sheet, learning_curves
from resnet_tl.files import as_cell, file_digest, replacing, write_text
from resnet_tl.finetuning.freezing import FrozenProof
from resnet_tl.run import Run, check_root, identity
from resnet_tl.timing import measure
from resnet_tl.training.classifier import ImageClassifier

if TYPE_CHECKING:
    from resnet_tl.training.folds import FoldsRecorder

PACKAGES = ("torch", "torchvision", "lightning", "timm", "pillow", "numpy")


class RunRecorder(L.Callback):
    """Makes the run directory on rank 0 and keeps it up to date.

    Args:
        name: the first part of the run's name, such as the recipe's.
        folder: the run's own folder; default: `runs/NAME-1`, or the next free number.
        recipe: gives the text of the resolved recipe when training begins.
        recipes: the files that the run was begun with; their digests are recorded.
        resumes: the interrupted run that goes on, in place of a new one.
        logs: whether the trainer, which has no logger, gets Lightning's default one, writing into the run.
        whole: the run of folds of which this one is a part; it has chosen the folder.
        final_of: the facts of the run that this one repeats on all images.
    """

    def __init__(
        self,
        name: str,
        folder: str | None,
        recipe: Callable[[ImageClassifier], str],
        recipes: Sequence[Path] = (),
        resumes: Run | None = None,
        logs: bool = False,
        whole: FoldsRecorder | None = None,
        final_of: dict[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.folder = folder
        self.recipe = recipe
        self.recipes = recipes
        self.logs = logs
        self.whole = whole
        self.final_of = final_of
        self.run = Run(resumes.path.resolve()) if resumes else None
        self._lock: FileLock | None = None
        self._recipe_digest = ""
        self.history: list[dict[str, float | str]] = []
        check_root(self.run.path if self.run else Path(folder).parent if folder else "runs")

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Rank 0 chooses the folder, once the data have been read and before anything is trained."""
        if self.whole:
            self.run = self.whole.setup(trainer)
        if self.run is None:
            self.run = make_run(trainer, self.folder, self.name)
        if trainer.is_global_zero and self._lock is None:
            self._lock = self.run.lock()
            self.run.clean()
        failures.run = self.whole.run.path if self.whole and self.whole.run else self.run.path
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(self.run.checkpoints)
        profiler: Any = trainer.profiler  # type: ignore[attr-defined]
        if profiler.dirpath == trainer.log_dir:  # where Lightning puts traces that were given no place
            profiler.dirpath = str(self.run.path / "profile")
        if self.logs and not trainer.loggers:
            trainer.logger = default_logger(self.run)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        assert self.run is not None
        assert isinstance(pl_module, ImageClassifier)
        if trainer.ckpt_path:
            pl_module.resuming.check_unchanged(pl_module.data, trainer)
            self._note_resume(trainer)
        else:
            with measure("files"):
                self.begin(trainer, pl_module)

    def _note_resume(self, trainer: L.Trainer) -> None:
        assert self.run is not None
        facts, digest = self.run.environment, file_digest(self.run.recipe_file)
        if digest != self._recipe_digest and facts.get("restated", {}).get(self._recipe_digest) != digest:
            raise UserError(
                f"{self.run.recipe_file} is not what the run was begun by, so that it cannot go on; put that back, or "
                "start a new run."
            )
        self._recipe_digest = digest
        again = identity(()) | environment(trainer)
        facts["resumed"] = [*facts.get("resumed", []), {**again, "after_epochs": len(self.history)}]
        write_text(self.run.environment_file, json.dumps(facts, indent=2) + "\n")

    def begin(self, trainer: L.Trainer, model: ImageClassifier) -> None:
        """Writes what is known before the first step."""
        assert self.run is not None
        data = model.data
        text = self.recipe(model)
        if self.whole:
            text = self.whole.begin(trainer, data, text)
        write_environment(self.run, trainer, self.recipes, {"final_of": self.final_of} if self.final_of else {})
        if not self.run.recipe_file.is_file():  # there is one where a run begins again that had come to no checkpoint
            write_text(self.run.recipe_file, text)
        self._recipe_digest = file_digest(self.run.recipe_file)
        write_data_facts(self.run, data, data.index)
        with replacing(self.run.figure("augmented")) as file:
            title = f"Training images as the network sees them: augmentation {data.augmentation}"
            contact_sheet(augmented_examples(data), file, title)

    def restate(self, model: ImageClassifier) -> None:
        """Writes the recipe again, of a fit that goes on otherwise than it was planned.

        A checkpoint from before may go on by it, since both agree up to now; so this comes first, and the recipe last.
        """
        if not model.trainer.is_global_zero:
            return
        assert self.run is not None
        text, facts = self.recipe(model), self.run.environment
        digest = hashlib.sha256(text.encode()).hexdigest()
        facts["restated"] = {self._recipe_digest: digest}
        write_text(self.run.environment_file, json.dumps(facts, indent=2) + "\n")
        write_text(self.run.recipe_file, text)
        self._recipe_digest = digest

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.epoch_started = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, ImageClassifier)
        training = {name: float(trainer.callback_metrics[name]) for name in ("train_loss", "train_accuracy")}
        validation = {f"val_{name}": value for name, value in pl_module.numbers.get("val", {}).items()}
        self.add_epoch(
            {
                "epoch": trainer.current_epoch + 1,
                "step": trainer.global_step,
                "phase": str(pl_module.schedule.phases[pl_module.schedule.phase_at(trainer.current_epoch)]),
                **training,
                **validation,
                "learning_rate": float(trainer.optimizers[0].param_groups[-1]["lr"]),
                "seconds": round(time.perf_counter() - self.epoch_started, 3),
            }
        )

    def add_epoch(self, line: dict[str, float | str]) -> None:
        """Adds a line to `metrics.csv`; it is rewritten whole, so that it is never cut off."""
        assert self.run is not None
        self.history.append(line)
        with measure("files"), replacing(self.run.metrics_file) as file:
            self.table.to_csv(file, index=False)

    @property
    def table(self) -> pd.DataFrame:
        """The epochs so far, as `metrics.csv` holds them."""
        return pd.DataFrame(self.history)

    def state_dict(self) -> dict[str, Any]:
        return {"history": list(self.history), "recipe": self._recipe_digest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history, self._recipe_digest = state_dict["history"], state_dict["recipe"]

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """A fit that could not begin leaves no folder behind."""
        self.release()
        if trainer.is_global_zero and self.run is not None and not any(self.run.path.iterdir()):
            self.run.path.rmdir()
            if self.whole:
                self.whole.leave()

    def release(self) -> None:
        """Another process may go on with the run."""
        if self._lock is not None:
            with suppress(OSError):  # as on Windows, which removes no open file
                Path(self._lock.lock_file).unlink()
            self._lock.release()
            self._lock = None

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, ImageClassifier)
        pl_module.freezing.prove(pl_module)
        if trainer.is_global_zero and self.history:
            self.finish(pl_module.freezing.proofs, pl_module)

    def finish(self, proofs: Sequence[FrozenProof], model: ImageClassifier) -> None:
        """Writes the proofs of freezing and draws the learning curves."""
        assert self.run is not None
        write_text(self.run.path / "freezing.json", json.dumps([asdict(proof) for proof in proofs], indent=2) + "\n")
        best = best_epoch(self.table, model.hparams["monitor"], model.monitor_mode)
        with measure("files"):
            learning_curves(self.table, self.run.figure("learning_curves"), best)


def make_run(trainer: L.Trainer, folder: str | None, name: str) -> Run:
    """The folder that rank 0 makes, `folder` or the next free `runs/NAME-N`, told to all; UserError if it cannot."""
    path = None
    if trainer.is_global_zero:
        try:
            run = Run.create_at(folder) if folder else Run.create("runs", name)
        except OSError as error:
            raise UserError(f"The run directory cannot be made: {error}; choose another --run.") from None
        path = str(run.path.resolve())
    return Run(str(trainer.strategy.broadcast(path)))


def write_environment(run: Run, trainer: L.Trainer, recipes: Sequence[Path], further: dict[str, Any]) -> None:
    """The first file of a run, since a job that is run again finds its run by it."""
    known = run.environment if run.environment_file.is_file() else {}  # of one that begins again
    own = identity(recipes) | further
    kept = {name: known[name] for name in (*own, "final_of") if name in known}
    write_text(run.environment_file, json.dumps(environment(trainer) | own | kept, indent=2) + "\n")


def write_data_facts(run: Run, data: ImageDataModule, index: ImageIndex) -> None:
    """The images of a run, with their splits, what was found wrong with them, and where they came from."""
    table = index.table.assign(label=[index.classes[label] if label >= 0 else "" for label in index.labels])
    with replacing(run.path / "data" / "index.csv") as file:
        table[["path", "label", "split", "group"]].map(as_cell).to_csv(file, index_label="row")
    if len(data.findings):
        write_findings(data.findings, run.path / "data" / "findings.csv")
    if data.skipped:
        with replacing(run.path / "data" / "skipped.csv") as file:
            skipped = pd.DataFrame({"path": list(data.skipped), "reason": list(data.skipped.values())})
            skipped.map(as_cell).to_csv(file, index=False)
    write_text(run.path / "data" / "facts.json", json.dumps(data.facts(index), indent=2, ensure_ascii=False) + "\n")


def default_logger(run: Run) -> Logger:
    """What Lightning takes for `logger=True`: TensorBoard's where it is installed, else one that writes a CSV file."""
    has_tensorboard = find_spec("tensorboard") or find_spec("tensorboardX")
    return (TensorBoardLogger if has_tensorboard else CSVLogger)(run.path, name="logs", version="")


def best_epoch(history: pd.DataFrame, monitor: str, mode: str) -> int | None:
    """The first epoch with the best monitored metric, by `mode` min or max; None when it was never measured."""
    if monitor not in history or history[monitor].isna().all():
        return None
    column = history[monitor]
    position = column.argmin() if mode == "min" else column.argmax()
    return int(history["epoch"].iloc[position])


def environment(trainer: L.Trainer) -> dict[str, object]:
    """What the run depended on besides its recipe."""
    device = trainer.strategy.root_device
    name = platform.processor() or platform.machine()
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    return {
        "resnet_tl": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {package: version(package) for package in PACKAGES},
        "device": f"{device.type}: {name}",
        "processes": trainer.world_size,
        "precision": str(trainer.precision),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def augmented_examples(data: ImageDataModule, classes: int = 12, images: int = 8) -> dict[str, list[np.ndarray]]:
    """The first images of each class in the view of epoch 0: (size, size, C) uint8."""
    loader = data.train_dataloader()
    index = data.index
    rows = index.rows("train")
    examples: dict[str, list[np.ndarray]] = {}
    for label, name in enumerate(index.classes[:classes]):
        chosen = rows[index.labels[rows] == label][:images]
        (batch,) = loader.over([chosen], view=0)
        seen = adjust_colour(batch["image"], batch["colour"]) if "colour" in batch else batch["image"]
        examples[name] = list(seen.permute(0, 2, 3, 1).numpy())
    loader.close()
    return examples
