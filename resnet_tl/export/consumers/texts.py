"""The text of a consumer for one exported file."""

from __future__ import annotations

import json
from pathlib import Path

MODEL = '"model.onnx"'
"""What stands in the consumers of this folder where the name of the file belongs."""
MARK = "Classifies images with"
"""In the first line of a consumer, so that no file of the user's own is taken for one."""


def consumer_text(name: str, model: str) -> str:
    """A program of this folder for the model in the file of that name, which lies beside it."""
    text = (Path(__file__).parent / name).read_text(encoding="utf-8")
    suffix = Path(model).suffix
    return text.replace(MODEL.replace(".onnx", suffix), json.dumps(model, ensure_ascii=False))
