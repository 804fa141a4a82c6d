"""What a server serves: a model that prepares one image and judges a batch of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resnet_tl.errors import UserError
from resnet_tl.evaluation.uncertainty.abstention import TARGETS, check_share, confidence_reaching
from resnet_tl.evaluation.uncertainty.familiarity import strange_up_to
from resnet_tl.evaluation.uncertainty.judged import Judged
from resnet_tl.evaluation.words import percent
from resnet_tl.inference.answers import why_not_measured
from resnet_tl.inference.predictor import Predictor, Prepared


class Engine(ABC):
    """A model behind a server; `prepare` and `judge` may be called from any thread.

    Attributes:
        name: what the model is called.
        classes: their names, in the order of the columns of what `judge` gives.
        facts: what an answer says of the model besides its name, for JSON.
        strange_up_to: the familiarity up to which an image looks like nothing known; None where that is not known.
        is_sure_from: the probability from which an answer is sure; None where none is said to be unsure.
        said: what is worth saying of it when the server starts, in sentences.
    """

    name: str
    classes: tuple[str, ...]
    facts: dict[str, Any]
    strange_up_to: float | None = None
    is_sure_from: float | None = None
    said: tuple[str, ...] = ()

    @abstractmethod
    def prepare(self, content: bytes) -> Any:
        """The bytes of an image file as `judge` takes it; BadImage says why it cannot be used."""

    @abstractmethod
    def judge(self, prepared: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (n, classes) float64, and familiarity (n,), nan where it is not known."""


class PredictorEngine(Engine):
    """A run, a model bundle or a checkpoint, by torch.

    Args:
        path: where it is.
        device: such as cpu or cuda; default: the fastest at hand.
        min_confidence: what `is_sure_from` is; default: the least from which the answers on the validation images are
            correct as often as the first of `TARGETS` that is above the accuracy of all of them.

    Raises:
        UserError: there is no such model, or it is damaged.
    """

    def __init__(self, path: str | Path, device: str | None = None, min_confidence: float | None = None) -> None:
        check_share("--min_confidence", min_confidence)
        self.predictor = Predictor(path, device)
        bundles = [member.bundle for member in self.predictor.ensemble.members]
        self.name = _name_of(Path(path))
        self.classes = self.predictor.classes
        self.facts = {"network": bundles[0].network["name"], "digest": bundles[0].digest}
        self.strange_up_to = strange_up_to([len(one.distances) for one in self.predictor.ensemble.references])
        self.is_sure_from = min_confidence
        if min_confidence is None and bundles[0].validation and not why_not_measured(bundles, None):
            judged = Judged(**bundles[0].load_validation())
            self.is_sure_from, self.said = _sure_from(judged)

    def prepare(self, content: bytes) -> Prepared:
        return self.predictor.prepare(content)

    def judge(self, prepared: Sequence[Prepared]) -> tuple[np.ndarray, np.ndarray]:
        return self.predictor.judge(prepared)


def engine_of(path: Path, device: str | None = None, min_confidence: float | None = None) -> Engine:
    """The engine for what a user names: MODEL.onnx, or what `Predictor` takes; UserError where it is no model."""
    if path.suffix.lower() == ".onnx":
        raise UserError(f"{path}: ONNX files are not served yet.")
    return PredictorEngine(path, device, min_confidence)


def _name_of(path: Path) -> str:
    """The name of a model: that of its run, or of its file."""
    path = path.resolve()
    return path.parent.name if path.name == "model" else path.stem if path.is_file() else path.name


def _sure_from(judged: Judged) -> tuple[float | None, tuple[str, ...]]:
    """The probability from which answers are sure, by the validation images, and a sentence that says so."""
    accuracy = judged.is_correct.mean() if len(judged) else 1.0
    for target in TARGETS:
        if target > accuracy and (found := confidence_reaching(judged, target)):
            share = f"{percent(target)} of the validation images' answers are correct ({percent(found[1])} answered)"
            return float(found[0]), (f"An answer is called not sure below {found[0]}: from there on {share}.",)
    return None, ()
