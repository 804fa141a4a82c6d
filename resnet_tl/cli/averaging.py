"""Of which models and views predictions are the average: the options, and what is said of it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from resnet_tl.errors import UserError

if TYPE_CHECKING:
    from resnet_tl.inference.predictor import Predictor

VIEWS = {
    "mirror": "each image and its mirror image",
    "dihedral": "the eight flips and quarter turns of each image",
    "crops": "crops of each image",
}
"""What `--tta` averages over."""


def add_averaging_options(parser: argparse.ArgumentParser) -> None:
    """Adds `--tta` and `--average`."""
    kinds = "; ".join(f"{kind}: {what}" for kind, what in VIEWS.items())
    parser.add_argument("--tta", choices=list(VIEWS), help=f"average over several views. {kinds}")
    how = "how several models are averaged: their probabilities (default) or the logarithms of these"
    parser.add_argument("--average", choices=["arithmetic", "geometric"], help=how)


def is_run(word: str | Path) -> bool:
    """Whether a path is a run, a model bundle or a checkpoint, and no place of images."""
    path = Path(word)
    places = ("model.json", "recipe.yaml", "model/model.json")
    return path.suffix == ".ckpt" or any((path / place).is_file() for place in places)


def said_of(paths: Sequence[Path], predictor: Predictor) -> list[str]:
    """A line for each run, with its validation accuracy, and one for what is averaged."""
    lines = [_of_run(path, predictor.tta) for path in paths]
    models = len(predictor.ensemble.members)
    if models > 1:
        mean = "geometric" if predictor.ensemble.is_geometric else "arithmetic"
        lines.append(f"average: the {mean} mean of the probabilities of {models} models")
    if predictor.tta:
        lines.append(f"--tta {predictor.tta}: the mean of the probabilities over {VIEWS[predictor.tta]}")
    return lines


def _of_run(path: Path, tta: str | None) -> str:
    """`model: runs/plants, validation accuracy with --tta mirror 94.2 % [90.4, 96.5] of 240 images`."""
    from resnet_tl.bundle import Bundle
    from resnet_tl.evaluation.accuracy import Accuracy
    from resnet_tl.notebook import kept_accuracies
    from resnet_tl.run import Run, bundles_of

    folds = len(bundles_of(path))
    if folds > 1:
        return f"models: the {folds} folds of {path}"
    known, measured, advice = {}, f" with --tta {tta}" if tta else "", ""
    with suppress(UserError, KeyError, TypeError, ValueError):  # a checkpoint or an older model says less of itself
        run, known = Run(path), kept_accuracies(Bundle.open(path))
        if tta and run.is_complete and (facts := run.tta_summary(tta)):
            known = {split: Accuracy.from_facts(fact) for split, fact in facts["accuracy"].items()}
        elif tta:
            measured = " without --tta"
            if run.is_complete:
                advice = f"; with it: resnet-tl validate {quote(str(path))} --tta {tta}"
    if "val" not in known:
        return f"model: {path}"
    accuracy = known["val"]
    return f"model: {path}, validation accuracy{measured} {accuracy} of {accuracy.images:,} images{advice}"
