"""The consumer in JavaScript of an ONNX file that takes raw images; it has the class names in it."""

from __future__ import annotations

import json
from pathlib import Path

from resnet_tl.export.consumers.texts import MODEL
from resnet_tl.export.facts import Facts


def javascript_text(facts: Facts, model: str) -> str:
    """A module for the model in the file of that name, which lies beside it; onnxruntime-web reads no metadata."""
    text = (Path(__file__).parent / "onnx_raw.mjs").read_text(encoding="utf-8")
    values = {"CLASSES": list(facts.classes), "CHANNELS": facts.channels, MODEL: model}
    for mark, value in values.items():
        text = text.replace(mark, json.dumps(value), 1)  # escaped: no line separator of Unicode ends a line
    return text
