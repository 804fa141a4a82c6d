"""The packages that an export or a runtime needs and that not everyone has installed."""

from __future__ import annotations

from importlib.util import find_spec

from resnet_tl.errors import UserError

PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino", "onnx", "onnxscript")}
"""Of each extra in pyproject.toml."""


def check_extra(extra: str, what: str) -> None:
    """Raises UserError where a package of an extra is missing; `what` needs it, such as "An ONNX file"."""
    missing = [name for name in PACKAGES[extra] if find_spec(name) is None]
    if missing:
        raise UserError(f'{what} needs {missing[0]}, which is not installed: pip install "resnet-tl[{extra}]".')
