"""`resnet-tl fit --final RUN`: what is typed for one, so that a run is repeated on train and validation images."""

from __future__ import annotations

import json
from shlex import quote
from typing import Any

from resnet_tl.errors import UserError
from resnet_tl.run import Run


def final_words(run: Run) -> list[str]:
    """The flags with which the recipe of a run trains on all images, as many epochs as its validation has chosen.

    It is the same schedule, which ends after the best epoch: the numbers of the run are of such weights. A schedule
    that fell to zero by then would give others, of which nothing was measured.

    Raises:
        UserError: the run is not complete, is such a one itself, or was not counted in epochs.
    """
    recipe = run.recipe
    if not run.is_complete:
        raise UserError(
            f"{run.path} has not chosen how long to train, for its training did not end; go on with: "
            f"resnet-tl fit --resume {quote(str(run.path))}"
        )
    if recipe["data"].get("final"):
        raise UserError(f"{run.path} is trained on all images already: give the run that it repeats.")
    if recipe["trainer"].get("max_steps", -1) != -1:
        raise UserError(
            f"{run.path} was counted in steps (trainer.max_steps), of which more images need more: train it again with "
            "trainer.max_epochs, and that run can be repeated."
        )
    scheduler = recipe.get("lr_scheduler") or {}
    if "ReduceLROnPlateau" in str(scheduler.get("class_path")):
        raise UserError(f"{run.path} was led by its validation (ReduceLROnPlateau), so that it cannot do without one.")
    words = ["--final", str(run.path), "--data.final=true", "--data.fold=null"]
    if epoch := run.summary["best_epoch"]:
        words.append(f"--model.stop_after={epoch}")
    words += [f"--trainer.{name}=null" for name in ("min_epochs", "min_steps") if recipe["trainer"].get(name)]
    callbacks = recipe["trainer"].get("callbacks") or []
    callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
    kept = [callback for callback in callbacks if not _watches(callback)]
    return words if len(kept) == len(callbacks) else [*words, f"--trainer.callbacks={json.dumps(kept or None)}"]


def facts_of_parent(run: Run) -> dict[str, Any]:
    """What a final run says of the one that it repeats, whose numbers are not its own."""
    kept = ("best_epoch", "monitor", "metrics", "accuracy", "calibration", "spread")  # the last one of folds alone
    return {"run": str(run.path.resolve())} | {name: run.summary[name] for name in kept if name in run.summary}


def _watches(callback: Any) -> bool:
    """Whether it waits for what a validation finds, such as EarlyStopping."""
    settings = callback.get("init_args") or {} if isinstance(callback, dict) else {}
    return str(settings.get("monitor") or "").startswith("val_")
