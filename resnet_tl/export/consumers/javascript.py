"""The consumer in JavaScript of an ONNX file that takes raw images; it has the class names in it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from resnet_tl.export.consumers.texts import MODEL
from resnet_tl.export.facts import Facts


def javascript_text(facts: Facts, model: str) -> str:
    """A module for the model in the file of that name, which lies beside it; onnxruntime-web reads no metadata."""
    text = (Path(__file__).parent / "onnx_raw.mjs").read_text(encoding="utf-8")
    values = {"CLASSES": list(facts.classes), "CHANNELS": facts.channels, MODEL: model}
    return re.sub("|".join(values), lambda found: json.dumps(values[found[0]]), text)  # ASCII, which ends no line
