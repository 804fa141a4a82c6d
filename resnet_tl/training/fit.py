"""A whole fit: train, evaluate the best checkpoint, and write what remains."""

from __future__ import annotations

import json
import logging
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
from lightning.pytorch.callbacks import ModelCheckpoint

from resnet_tl import timing
from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.errors import UserError, reason_of
from resnet_tl.evaluation.accuracy import Accuracy
from resnet_tl.evaluation.figures import confusion_matrix
from resnet_tl.evaluation.mistakes import mistakes_figure
from resnet_tl.evaluation.predictions import write_predictions
from resnet_tl.evaluation.repeated import own_arrays
from resnet_tl.evaluation.uncertainty.calibration import calibrate
from resnet_tl.evaluation.uncertainty.familiarity import Reference
from resnet_tl.evaluation.uncertainty.judged import Judged
from resnet_tl.files import write_text
from resnet_tl.report.run_page import write_report
from resnet_tl.run import Run
from resnet_tl.terminal import shortest
from resnet_tl.training.classifier import ImageClassifier
from resnet_tl.training.console.time_spent import advice
from resnet_tl.training.evidence.cost import images_in_memory
from resnet_tl.training.evidence.writing import write_evidence
from resnet_tl.training.recorder import RunRecorder, best_epoch
from resnet_tl.training.resuming.resume_points import read_checkpoint
from resnet_tl.training.solve_head import solve_head, takes_steps

log = logging.getLogger(__name__)


def best_checkpoint(monitor: str, mode: str, validates: bool = True) -> ModelCheckpoint:
    """Keeps `best.ckpt` by the monitored metric, of which less (min) or more (max) is better; nothing without one."""
    kept = 1 if validates else 0
    return ModelCheckpoint(filename="best", monitor=monitor, mode=mode, save_top_k=kept, enable_version_counter=False)


def fit(
    model: ImageClassifier,
    data: ImageDataModule,
    trainer: L.Trainer,
    recorder: RunRecorder,
    resume: Path | None = None,
) -> Run:
    """Trains, then evaluates the best checkpoint on every labelled split and writes bundle, tables and summary.

    `resume` is the checkpoint at which an interrupted fit goes on; the recorder is one of the Trainer's callbacks.
    UserError for what the user gave that does not work, and for a memory too small for the batch.
    """
    try:
        if resume and _is_trained(model, resume):
            data.prepare_data()
            data.setup("fit")
            model.build(data)
            model.resuming.check_unchanged(data, trainer)
        elif model.hparams["head_solver"] == "lbfgs" and not takes_steps(model, data, trainer):
            solve_head(model, data, trainer, recorder)
        else:
            train(model, data, trainer, resume)
        return _evaluate(model, data, trainer, recorder)
    finally:
        recorder.release()


def _is_trained(model: ImageClassifier, resume: Path) -> bool:
    """Reads a checkpoint: whether nothing is left to train; UserError where one needed is not there or damaged."""
    saved = read_checkpoint(resume)
    best = str(Path(saved["callbacks"]["ResumePoints"]["folder"], "best.ckpt"))  # before the run was moved
    if any(state.get("best_model_path") == best for state in saved["callbacks"].values()):
        read_checkpoint(resume.parent / "best.ckpt")
    model.restore(saved["resnet_tl"], model.given_network)  # it describes the network: no weights file is needed
    model.resuming.read(saved["resnet_tl"])
    return saved["resnet_tl"]["position"]["ends"]


def _evaluate(model: ImageClassifier, data: ImageDataModule, trainer: L.Trainer, recorder: RunRecorder) -> Run:
    """The end of a fit, with its best weights; without a validation they are the last."""
    assert recorder.run is not None
    kept = recorder.run.last_checkpoint if data.final else recorder.run.checkpoints / "best.ckpt"
    checkpoint = kept if kept.is_file() else None  # none after fast_dev_run
    metrics: dict[str, dict[str, float]] = {}
    for split, evaluate in (("val", trainer.validate), ("test", trainer.test)):
        if images := len(data.index.rows(split)):
            with model.keeping_features(split == "val" and images <= images_in_memory(model.network.num_features)):
                evaluate(model, datamodule=data, ckpt_path=checkpoint, verbose=False, weights_only=True)
            # JSON has no word for what is not defined, such as the AUROC of a single class.
            metrics[split] = {name: value for name, value in model.numbers[split].items() if math.isfinite(value)}
    if checkpoint and not metrics:  # nothing has loaded them, and this process may not have trained them
        model.load_state_dict(read_checkpoint(checkpoint)["state_dict"])
    if trainer.is_global_zero:
        with timing.measure("evidence"):
            known = write_evidence(recorder.run, model, data, trainer, len(recorder.history))
        _write(recorder.run, model, data, trainer, metrics, known)
    trainer.strategy.barrier()
    return recorder.run


def train(model: ImageClassifier, data: ImageDataModule, trainer: L.Trainer, resume: Path | None = None) -> None:
    """`trainer.fit`, but a memory that is too small for the batch is the user's to fix: UserError."""
    try:
        trainer.fit(model, datamodule=data, ckpt_path=resume, weights_only=True if resume else None)
    except (RuntimeError, MemoryError) as error:
        if _is_out_of_memory(error):
            smaller = max(1, data.batch_size // 2)
            raise UserError(
                f"The memory is too small for batches of {data.batch_size} images: try --data.batch_size {smaller}, or "
                "smaller images by --data.image_size."
            ) from error
        raise


def _write(
    run: Run,
    model: ImageClassifier,
    data: ImageDataModule,
    trainer: L.Trainer,
    metrics: dict[str, dict[str, float]],
    known: Reference | None,
) -> None:
    """The summary comes last: a run that has one is complete."""
    assert model.built is not None
    with timing.measure("files"):
        tables = {split: model.prediction_table(split) for split in metrics}
        accuracies = {split: Accuracy.of(table) for split, table in tables.items()}
        for split, table in tables.items():
            write_predictions(table, run.predictions_file(split))
            confusion_matrix(table, run.figure(f"confusion_{split}"))
            _draw_mistakes(run, split, table, data, model.predictions[split].rows)
        final_of = run.environment.get("final_of", {})
        calibration = calibrate(tables["val"]) if "val" in tables else final_of.get("calibration", {})
        facts = {"precision": str(trainer.precision), "metrics": metrics, "data": data.facts()}
        judged, validation = _judged(tables.get("val"), calibration, final_of)
        if "val" in tables and judged:  # for `validate` on another machine
            hashes = data.dataset.hashes[model.predictions["val"].rows]
            judged |= own_arrays(tables["val"], hashes)
            validation["device"] = trainer.strategy.root_device.type
        bundle = model.save(run.path / "model", judged, known, **facts, calibration=calibration, validation=validation)
    _write_time_spent(run, model, data, trainer)
    summary: dict[str, Any] = {
        "best_epoch": best_epoch(run.history, model.hparams["monitor"], model.monitor_mode),
        "monitor": model.hparams["monitor"],
        "monitor_mode": model.monitor_mode,
        "metrics": metrics,
        "accuracy": {split: accuracy.facts() for split, accuracy in accuracies.items()},
        "network": {
            "name": model.network.name,
            "parameters": sum(stage.parameters for stage in model.built.costs),
            "multiply_adds": sum(stage.multiply_adds for stage in model.built.costs),
        },
        "bundle_digest": bundle.digest,
    }
    if calibration:
        summary["calibration"] = calibration
    if final_of:
        summary["final_of"] = final_of
    write_text(run.path / "summary.json", json.dumps(summary, indent=2) + "\n")
    with timing.measure("files"):
        report(run)
    _write_time_spent(run, model, data, trainer)  # of the page as well
    timing.begin("rest")  # another fit of this process has a table of its own


def report(run: Run) -> None:
    """Writes the page of a complete run; one that cannot be written is no reason to lose a fit."""
    try:
        write_report(Run(run.path), shown=shortest(run.path))  # a Run that has read nothing yet
    except Exception as error:
        log.warning(f"{run.report_file.name} could not be written: {reason_of(error)}.")


def _judged(
    table: pd.DataFrame | None, calibration: dict[str, Any], final_of: dict[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What a bundle keeps of validation images and says of it; those of a run that this one repeats are told apart."""
    about = {}
    if table is None and final_of:
        with suppress(UserError):  # it may be gone
            table, about = Run(final_of["run"]).predictions("val"), {"repeats": True}
    if table is None:
        return {}, {}
    return Judged.of_validation(table, calibration.get("temperature", 1.0)).arrays(), about


def _draw_mistakes(run: Run, split: str, table: pd.DataFrame, data: ImageDataModule, rows: np.ndarray) -> None:
    """The most confident mistakes of a split; a picture that cannot be drawn is no reason to lose a fit."""
    file, samples = run.figure(f"mistakes_{split}"), data.loader(split).samples

    def pixels(place: int) -> np.ndarray:
        return samples.stored(int(rows[place])).permute(1, 2, 0).numpy()

    try:
        mistakes_figure(table, pixels, file)
    except Exception as error:
        log.warning(f"{file.name} could not be drawn: {reason_of(error)}.")


def _write_time_spent(run: Run, model: ImageClassifier, data: ImageDataModule, trainer: L.Trainer) -> None:
    """How fast it was is a fact about the machine: the summary is the same wherever the recipe is run again."""
    seconds = timing.seconds()
    facts = run.environment | {
        # none without a validation or test
        "prediction_images_per_second": next((round(found, 1) for found in model.images_per_second.values()), None),
        "seconds": {part: round(spent, 2) for part, spent in seconds.items()},
        "advice": advice(seconds, trainer, model, data),
    }
    write_text(run.environment_file, json.dumps(facts, indent=2) + "\n")


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error)
