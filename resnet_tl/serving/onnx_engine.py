"""An exported ONNX file behind a server, by onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resnet_tl.data.pixels.decode import decode
from resnet_tl.data.threads import usable_cores
from resnet_tl.evaluation.uncertainty.sureness import Sureness
from resnet_tl.export.runtime import OnnxModel
from resnet_tl.notebook import network_name
from resnet_tl.serving.engine import Engine


class OnnxEngine(Engine):
    """What `resnet-tl export --to onnx` has written; nothing is known of how familiar an image looks.

    An image for a raw graph is judged as soon as it is decoded: images of several sizes are no batch, and in a queue
    whole photos would take gigabytes.

    Raises:
        UserError: it is no such file.
    """

    def __init__(self, path: Path, min_confidence: float | None = None) -> None:
        self.model = OnnxModel(path, usable_cores())
        self.name = path.stem
        self.classes = self.model.classes
        self.facts = {"network": network_name(self.model.facts.network), "digest": self.model.facts.digest}
        known = self.model.facts.sureness
        self.mark_unsure(min_confidence, Sureness(**known) if known else None)
        self.is_raw = self.model.facts.input == "raw"

    def prepare(self, content: bytes) -> Any:
        planned = self.model.preprocessing
        pixels = decode(content, planned.channels, planned.storage_size, planned.value_range)
        if self.is_raw:
            return self.model.probabilities([pixels])[0]
        return planned.centre(planned.store(pixels)).permute(1, 2, 0).numpy()

    def judge(self, prepared: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        shares = np.stack(prepared) if self.is_raw else self.model.probabilities(prepared)
        return shares, np.full(len(prepared), np.nan)
