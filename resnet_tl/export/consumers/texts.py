"""The programs that are written beside an exported file: those of this folder, for its runtime and by its name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from resnet_tl.export.facts import Facts

MARK = "Classifies images with"
"""In the first line of a consumer, so that no file of the user's own is taken for one."""
_FOLDER = Path(__file__).parent
_MODEL = '"model.onnx"'
_PACKAGES = "onnxruntime, numpy and pillow"
_OPENED = """\
session = onnxruntime.InferenceSession(Path(__file__).with_name("model.onnx"))
facts = json.loads(session.get_modelmeta().custom_metadata_map["resnet_tl"])
"""
_OPENED_BY_TORCH = """\
inside = {"resnet_tl.json": ""}
network = torch.export.load(Path(__file__).with_name("model.onnx"), extra_files=inside).module()
facts = json.loads(inside["resnet_tl.json"])
"""
_OPENED_BY_OPENVINO = """\
core = openvino.Core()
model = core.read_model(Path(__file__).with_name("model.onnx"))
facts = json.loads(model.get_rt_info(["resnet_tl"]).astype(str))
network = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})  # else in bfloat16 where it can
"""
_OPENVINO_WITHOUT_TELEMETRY = """\
sys.modules["openvino_telemetry"] = None  # else importing openvino reports that to its maker
import openvino
"""


def onnx_text(facts: Facts, model: str) -> str:
    """A program in Python for onnxruntime and the file of that name, which lies beside it."""
    return _python_text(facts, model, {})


def torch_text(facts: Facts, model: str) -> str:
    """The same for a file of torch.export."""
    changes = {
        _PACKAGES: "torch, numpy and pillow",
        "import onnxruntime\n": "import torch\n",
        _OPENED: _OPENED_BY_TORCH,
        'session.run(["probabilities"], {"pixels": inputs})[0][0]': (
            'network(torch.from_numpy(inputs))["probabilities"][0].numpy()'
        ),
    }
    return _python_text(facts, model, changes)


def openvino_text(facts: Facts, model: str) -> str:
    """The same for OpenVINO's own format; it opens no connection."""
    changes = {
        _PACKAGES: "openvino, numpy and pillow",
        "import onnxruntime\n": _OPENVINO_WITHOUT_TELEMETRY,
        _OPENED: _OPENED_BY_OPENVINO,
        'session.run(["probabilities"], {"pixels": inputs})[0][0]': 'network({"pixels": inputs})["probabilities"][0]',
    }
    return _python_text(facts, model, changes)


def javascript_text(facts: Facts, model: str) -> str:
    """A module for onnxruntime-web, which reads no metadata; "" for tensor input, since a browser resizes otherwise."""
    if facts.input == "tensor":
        return ""
    text = (_FOLDER / "onnx_raw.mjs").read_text(encoding="utf-8")
    values = {"CLASSES": list(facts.classes), "CHANNELS": facts.channels, _MODEL: model}
    return re.sub("|".join(values), lambda found: json.dumps(values[found[0]]), text)  # ASCII, which ends no line


def _python_text(facts: Facts, model: str, changes: Mapping[str, str]) -> str:
    text = (_FOLDER / "onnx_tensor.py").read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text, f"onnx_tensor.py no longer has: {old}"
        text = text.replace(old, new)
    if facts.input == "raw":  # resizing is in the file
        text = re.sub("def middle.*(?=for path in)", "", text, flags=re.DOTALL)
        text = text.replace("prepared(decoded(path))", "decoded(path)").replace('"pixels"', '"images"')
    return text.replace(_MODEL, repr(model))
