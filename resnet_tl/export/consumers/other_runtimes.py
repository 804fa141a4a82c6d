"""The Python consumers of other runtimes than onnxruntime: the same programs, in which another runtime is called."""

from __future__ import annotations

import json

from resnet_tl.export.consumers.texts import MODEL, consumer_text

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
_WITHOUT_TELEMETRY = """\
sys.modules["openvino_telemetry"] = None  # else importing openvino reports that to its maker
import openvino  # noqa: E402
"""


def torch_text(kind: str, model: str) -> str:
    """A program for a file of torch.export with `raw` or `tensor` input."""
    name, prepared = {"raw": ("images", "decoded(path)"), "tensor": ("pixels", "prepared(decoded(path))")}[kind]
    changes = {
        "onnxruntime, numpy and pillow": "torch, numpy and pillow",
        "import onnxruntime\nfrom PIL import Image, ImageOps\n": "import torch\nfrom PIL import Image, ImageOps\n",
        _OPENED: _OPENED_BY_TORCH,
        f'session.run(["probabilities"], {{"{name}": {prepared}[None]}})[0][0]': (
            f'network(torch.from_numpy({prepared})[None])["probabilities"][0].numpy()'
        ),
    }
    return _changed(f"onnx_{kind}.py", model, changes)


def openvino_text(model: str) -> str:
    """A program for OpenVINO's own format; it opens no connection."""
    changes = {
        "onnxruntime, numpy and pillow": "openvino, numpy and pillow",
        "import onnxruntime\nfrom PIL import Image, ImageOps\n": (
            f"from PIL import Image, ImageOps\n\n{_WITHOUT_TELEMETRY}"
        ),
        _OPENED: _OPENED_BY_OPENVINO,
        'session.run(["probabilities"], {"pixels": prepared(decoded(path))[None]})[0][0]': (
            'network({"pixels": prepared(decoded(path))[None]})["probabilities"][0]'
        ),
    }
    return _changed("onnx_tensor.py", model, changes)


def _changed(consumer: str, model: str, changes: dict[str, str]) -> str:
    text = consumer_text(consumer, "model.onnx")
    for old, new in changes.items():
        before, found, after = text.partition(old)
        assert found, f"{consumer} no longer has: {old}"
        text = before + new + after
    return text.replace(MODEL, json.dumps(model, ensure_ascii=False))
