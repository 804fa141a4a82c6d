"""What a server serves: a model that prepares one image and judges a batch of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_tl.errors import UserError
from resnet_tl.evaluation.uncertainty.abstention import check_share

if TYPE_CHECKING:
    from resnet_tl.evaluation.uncertainty.sureness import Sureness
    from resnet_tl.serving.explanation import Explainer

PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")
NO_THRESHOLD = (
    "From which probability on answers are sure is not known, so none is marked as not sure; --min_confidence sets it."
)


class Engine(ABC):
    """A model behind a server; `prepare` and `judge` may be called from any thread.

    Attributes:
        name: what the model is called.
        classes: their names, in the order of the columns of what `judge` gives.
        facts: what an answer says of the model besides its name: `network`, and `digest` of its weights.
        strange_up_to: the familiarity up to which an image looks like nothing known; None where that is not known.
        is_sure_from: the probability from which an answer is sure; None where that is not known.
        said: what is worth saying of it when the server starts, in sentences.
    """

    name: str
    classes: tuple[str, ...]
    facts: dict[str, str]
    strange_up_to: float | None = None
    is_sure_from: float | None = None
    said: tuple[str, ...] = ()

    def mark_unsure(self, min_confidence: float | None, known: Sureness | None) -> None:
        """Sets from where on an answer is sure: as the user says, or else as the validation images do."""
        self.is_sure_from = min_confidence
        if min_confidence is None:
            self.is_sure_from = known.sure_from if known else None
            self.said = (str(known) if known else NO_THRESHOLD,)

    @abstractmethod
    def prepare(self, content: bytes) -> Any:
        """The bytes of an image file as `judge` takes it; BadImage says why it cannot be used."""

    @abstractmethod
    def judge(self, prepared: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (n, classes) float64, and familiarity (n,), nan where it is not known."""

    def explainer(self) -> Explainer | None:
        """What says why, of an image that `prepare` gave; None where nothing can."""
        return None


def engine_of(path: Path, device: str | None = None, min_confidence: float | None = None) -> Engine:
    """The engine for what a user names: MODEL.onnx, by onnxruntime, or else what `Predictor` takes, by torch.

    Raises:
        UserError: there is no such model, it is damaged, or the file cannot be served on that device.
    """
    check_share("--min_confidence", min_confidence)
    if path.suffix.lower() == ".onnx":
        if device not in (None, "cpu"):
            raise UserError(f"--device is {device}, but an ONNX file is run on the CPU; leave it out.")
        from resnet_tl.serving.onnx_engine import OnnxEngine

        return OnnxEngine(path, min_confidence)
    from resnet_tl.serving.predictor_engine import PredictorEngine

    return PredictorEngine(path, device, min_confidence)


def check_serve_extra() -> None:
    """UserError where a package is missing that a server needs."""
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise UserError(f'A server needs {missing[0]}, which is not installed: pip install "resnet-tl[serve]".')
