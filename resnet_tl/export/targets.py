"""The kinds of file that a model is exported to: how each is written, opened again, and used without us."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from resnet_tl.export.facts import Facts, InputKind

if TYPE_CHECKING:
    from resnet_tl.export.deployed import Deployed


class RuntimeModel(Protocol):
    """An exported file as its own runtime runs it."""

    @property
    def facts(self) -> Facts: ...

    @property
    def runtime(self) -> str:
        """Name and version, such as "onnxruntime 1.32.0"."""

    def probabilities(self, images: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """(n, classes) float64 of decoded images (H, W, C) uint8, or of the network's inputs (size, size, C) uint8."""


@dataclass(frozen=True)
class Order:
    """What a target is to write."""

    deployed: Deployed
    facts: Facts  # with the kind of input, and whether in 8 bits
    scaling_pixels: Callable[[], np.ndarray] | None  # with 8 bits: inputs to choose scales by, (n, size, size, C) uint8


@dataclass(frozen=True)
class Target:
    """One kind of file.

    Args:
        suffix: what the file's name ends in.
        extra: the extra of resnet-tl that it needs; "" for none.
        inputs: the kinds of input that it can have, the default first.
        why_tensor: why it cannot take raw images, as a sentence that is printed; "" where it can.
        has_int8: whether it can be written in whole numbers of 8 bits.
        parts: the suffixes of further files that belong to it.
        write: writes the file, and gives what there is to say of it, sentences; a full disk is an OSError, a network
            that cannot be written a UserError.
        open: opens it again by its runtime.
        consumers: files that use it without resnet-tl, written beside it: what is put behind the file's name without
            its suffix, to the text for facts and the name of the file; "" where there is none.
    """

    suffix: str
    extra: str
    inputs: tuple[InputKind, ...]
    why_tensor: str
    has_int8: bool
    write: Callable[[Order, Path], tuple[str, ...]]
    open: Callable[[Path], RuntimeModel]
    consumers: dict[str, Callable[[Facts, str], str]]
    parts: tuple[str, ...] = ()


def _write_onnx(order: Order, file: Path) -> tuple[str, ...]:
    from resnet_tl.export.int8 import quantised
    from resnet_tl.export.onnx_graph import tensor_graph, with_facts
    from resnet_tl.export.raw_images import raw_graph

    network, notes = tensor_graph(order.deployed), tuple[str, ...]()
    if order.scaling_pixels is not None:
        network, notes = quantised(network, order.scaling_pixels())
    whole = raw_graph(network, order.facts.preprocessing) if order.facts.input == "raw" else network
    file.write_bytes(with_facts(whole, order.facts).SerializeToString(deterministic=True))
    return notes


def _open_onnx(file: Path) -> RuntimeModel:
    from resnet_tl.export.runtime import OnnxModel

    return OnnxModel(file)


def _onnx_in_python(facts: Facts, name: str) -> str:
    from resnet_tl.export.consumers.texts import consumer_text

    return consumer_text(f"onnx_{facts.input}.py", name)


def _onnx_in_javascript(facts: Facts, name: str) -> str:
    from resnet_tl.export.consumers.javascript import javascript_text

    return javascript_text(facts, name) if facts.input == "raw" else ""  # a browser resizes otherwise


def _write_torch(order: Order, file: Path) -> tuple[str, ...]:
    from resnet_tl.export.torch_program import write_program

    write_program(order.deployed, order.facts, file)
    return ()


def _open_torch(file: Path) -> RuntimeModel:
    from resnet_tl.export.torch_program import TorchProgram

    return TorchProgram(file)


def _torch_in_python(facts: Facts, name: str) -> str:
    from resnet_tl.export.consumers.other_runtimes import torch_text

    return torch_text(facts.input, name)


def _write_openvino(order: Order, file: Path) -> tuple[str, ...]:
    from resnet_tl.export.openvino_model import write_openvino

    write_openvino(order.deployed, order.facts, file)
    return ()


def _open_openvino(file: Path) -> RuntimeModel:
    from resnet_tl.export.openvino_model import OpenVinoModel

    return OpenVinoModel(file)


def _openvino_in_python(facts: Facts, name: str) -> str:
    from resnet_tl.export.consumers.other_runtimes import openvino_text

    return openvino_text(name)


TARGETS = {
    "onnx": Target(
        suffix=".onnx",
        extra="onnx",
        inputs=("raw", "tensor"),
        why_tensor="",
        has_int8=True,
        write=_write_onnx,
        open=_open_onnx,
        consumers={"_onnx_predict.py": _onnx_in_python, "_onnx_predict.mjs": _onnx_in_javascript},
    ),
    "torch_export": Target(
        suffix=".pt2",
        extra="",
        inputs=("raw", "tensor"),
        why_tensor="",
        has_int8=False,
        write=_write_torch,
        open=_open_torch,
        consumers={"_torch_predict.py": _torch_in_python},
    ),
    "openvino": Target(
        suffix=".xml",
        extra="openvino",
        inputs=("tensor",),
        why_tensor="OpenVINO resizes images otherwise than the model was trained with, so the host prepares them.",
        has_int8=False,
        write=_write_openvino,
        open=_open_openvino,
        consumers={"_openvino_predict.py": _openvino_in_python},
        parts=(".bin",),
    ),
}
