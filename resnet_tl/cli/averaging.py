"""Of which models and views predictions are the average: the options, and what is said of it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from resnet_tl.errors import UserError

if TYPE_CHECKING:
    from resnet_tl.evaluation.accuracy import Accuracy
    from resnet_tl.inference.predictor import Predictor

VIEWS = {
    "mirror": "each image and its mirror image",
    "dihedral": "the eight flips and quarter turns of each image",
    "crops": "the centre and the four corners of each image",
}
"""What `--tta` averages over."""
KNOWN = {"mirror": ("mirror", "dihedral"), "dihedral": ("dihedral",), "crops": ("none", "mirror", "dihedral")}
"""The symmetries of a model's training images under which it knows all these views."""


def add_averaging_options(parser: argparse.ArgumentParser) -> None:
    """Adds `--tta` and `--average`."""
    kinds = "; ".join(f"{kind}: {what}" for kind, what in VIEWS.items())
    parser.add_argument("--tta", choices=list(VIEWS), help=f"average the logits over several views. {kinds}")
    how = "how several models are averaged: their probabilities (default) or the logarithms of these"
    parser.add_argument("--average", choices=["arithmetic", "geometric"], help=how)


def is_run(word: str | Path) -> bool:
    """Whether a path is a run, a model bundle, a zip of one or a checkpoint, and no place of images."""
    from resnet_tl.bundle_zip import is_bundle_zip

    path = Path(word)
    places = ("model.json", "recipe.yaml", "model/model.json")
    return path.suffix == ".ckpt" or any((path / place).is_file() for place in places) or is_bundle_zip(path)


def said_of(paths: Sequence[Path], predictor: Predictor) -> list[str]:
    """A line for each run, with its validation accuracy, and one for what is averaged."""
    lines = [_of_run(path, predictor.tta) for path in paths]
    models = len(predictor.ensemble.members)
    if models > 1:
        mean = "geometric" if predictor.ensemble.is_geometric else "arithmetic"
        lines.append(f"average: the {mean} mean of the probabilities of {models} models")
    if predictor.tta:
        lines.append(f"--tta {predictor.tta}: the mean of the logits over {VIEWS[predictor.tta]}")
        symmetries = {member.bundle.data.get("symmetry") for member in predictor.ensemble.members} - {None}
        for unlike in sorted(map(str, symmetries - set(KNOWN[predictor.tta]))):
            lines.append(
                f"note: trained with the symmetry {unlike}, a model does not know all of these views; "
                "`resnet-tl validate` says whether they help"
            )
    return lines


def _of_run(path: Path, tta: str | None) -> str:
    """`model: runs/plants, validation accuracy with --tta mirror 94.2 % [90.4, 96.5] of 240 images`."""
    from resnet_tl.run import Run, bundles_of
    from resnet_tl.terminal import shortest

    run, folds = Run(path), len(bundles_of(path))
    summary = run.summary if run.is_complete else {}
    under_tta = run.tta_summary(tta).get("accuracy", {}).get("val") if tta and summary else None
    parent = summary.get("final_of")
    line = f"models: the {folds} folds of {path}" if folds > 1 else f"model: {path}"
    if parent:
        line += f", which repeats {shortest(Path(parent['run']))} on train and validation together; that one's"
    if not (accuracy := _accuracy_of(path, under_tta or (parent or summary).get("accuracy", {}).get("val"))):
        return line
    images = "out-of-fold" if folds > 1 or "spread" in (parent or {}) else "validation"
    measured = f" with{'' if under_tta else 'out'} --tta {tta}" if tta else ""
    line += f"{'' if parent else ','} {images} accuracy{measured} {accuracy} of {accuracy.images:,} images"
    is_measurable = tta and summary and not under_tta and not parent
    return f"{line}; with it: resnet-tl validate {quote(str(path))} --tta {tta}" if is_measurable else line


def _accuracy_of(path: Path, facts: Mapping[str, Any] | None) -> Accuracy | None:
    """That on validation: of a run by its facts, of a bundle alone by what it holds; None where neither says it."""
    from resnet_tl.bundle import Bundle
    from resnet_tl.evaluation.accuracy import Accuracy
    from resnet_tl.notebook import kept_accuracies

    with suppress(UserError, KeyError, TypeError, ValueError):  # a checkpoint or an older model says less of itself
        return Accuracy.from_facts(facts) if facts else kept_accuracies(Bundle.open(path)).get("val")
    return None
