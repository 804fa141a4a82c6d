"""A run, a model bundle or a checkpoint behind a server, by torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resnet_tl.evaluation.uncertainty.familiarity import strange_up_to
from resnet_tl.evaluation.uncertainty.judged import Judged
from resnet_tl.evaluation.uncertainty.sureness import Sureness
from resnet_tl.inference.answers import why_not_measured
from resnet_tl.inference.predictor import Predictor
from resnet_tl.notebook import network_name
from resnet_tl.serving.engine import Engine
from resnet_tl.serving.explanation import Explainer


class PredictorEngine(Engine):
    """What `Predictor` opens.

    Args:
        path: where it is.
        device: such as cpu or cuda; default: the fastest at hand.
        min_confidence: what `is_sure_from` is; default: what `Sureness` says, by the validation images.

    Raises:
        UserError: there is no such model, or it is damaged.
    """

    def __init__(self, path: str | Path, device: str | None = None, min_confidence: float | None = None) -> None:
        self.predictor = Predictor(path, device)
        bundles = [member.bundle for member in self.predictor.ensemble.members]
        self.name = _name_of(Path(path))
        self.classes = self.predictor.classes
        self.facts = {"network": network_name(bundles[0].network), "digest": bundles[0].digest}
        self.strange_up_to = strange_up_to([len(one.distances) for one in self.predictor.ensemble.references])
        is_known = min_confidence is None and bundles[0].validation and not why_not_measured(bundles, None)
        self.mark_unsure(min_confidence, Sureness.of(Judged(**bundles[0].load_validation())) if is_known else None)

    def prepare(self, content: bytes) -> Any:
        return self.predictor.prepare(content)

    @torch.inference_mode()
    def judge(self, prepared: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        return self.predictor.judge(prepared)

    def explainer(self) -> Explainer:
        return Explainer(self.predictor)


def _name_of(path: Path) -> str:
    """The name of a model: that of its run, or of its file."""
    path = path.resolve()
    if path.is_file():
        return path.stem
    return (path.name if path.name != "model" else path.parent.name) or "model"
