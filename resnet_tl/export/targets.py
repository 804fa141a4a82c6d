"""The kinds of file that a model is exported to: how each is written, opened again, and used without us."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from resnet_tl.export.consumers.texts import javascript_text, onnx_text, openvino_text, torch_text
from resnet_tl.export.facts import Facts, InputKind
from resnet_tl.export.openvino_model import OpenVinoModel, write_openvino
from resnet_tl.export.runtime import OnnxModel, RuntimeModel

if TYPE_CHECKING:
    from resnet_tl.export.deployed import Deployed


@dataclass(frozen=True)
class Order:
    """What a target is to write."""

    deployed: Deployed
    facts: Facts  # with the kind of input, and whether in 8 bits
    scaling_pixels: np.ndarray | None  # with 8 bits: inputs to choose scales by, (n, size, size, C) uint8


@dataclass(frozen=True)
class Target:
    """One kind of file.

    Args:
        suffix: what the file's name ends in.
        extra: the extra of resnet-tl that it needs; "" for none.
        inputs: the kinds of input that it can have, the default first.
        why_tensor: why it cannot take raw images, as a sentence that is printed; "" where it can.
        has_int8: whether it can be written in 8-bit integers.
        parts: the suffixes of further files that belong to it.
        write: writes the file and gives notes for the user; a full disk is an OSError, a network that cannot be written
            a UserError.
        open: opens it again by its runtime.
        consumers: programs that use it without resnet-tl, written beside it: the end of each one's name, after the
            file's stem, and what makes its text of facts and the file's name; "" where there is none.
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
        network, notes = quantised(network, order.scaling_pixels)
    whole = raw_graph(network, order.facts.preprocessing) if order.facts.input == "raw" else network
    file.write_bytes(with_facts(whole, order.facts).SerializeToString(deterministic=True))
    return notes


def _write_torch(order: Order, file: Path) -> tuple[str, ...]:
    from resnet_tl.export.torch_program import write_program

    write_program(order.deployed, order.facts, file)
    return ()


def _open_torch(file: Path) -> RuntimeModel:
    from resnet_tl.export.torch_program import TorchProgram

    return TorchProgram(file)


def _write_openvino(order: Order, file: Path) -> tuple[str, ...]:
    write_openvino(order.deployed, order.facts, file)
    return ()


TARGETS = {
    "onnx": Target(
        suffix=".onnx",
        extra="onnx",
        inputs=("raw", "tensor"),
        why_tensor="",
        has_int8=True,
        write=_write_onnx,
        open=OnnxModel,
        consumers={"_onnx_predict.py": onnx_text, "_onnx_predict.mjs": javascript_text},
    ),
    "torch_export": Target(
        suffix=".pt2",
        extra="",
        inputs=("raw", "tensor"),
        why_tensor="",
        has_int8=False,
        write=_write_torch,
        open=_open_torch,
        consumers={"_torch_predict.py": torch_text},
    ),
    "openvino": Target(
        suffix=".xml",
        extra="openvino",
        inputs=("tensor",),
        why_tensor="OpenVINO resizes images otherwise than the model was trained with, so the host prepares them.",
        has_int8=False,
        write=_write_openvino,
        open=OpenVinoModel,
        consumers={"_openvino_predict.py": openvino_text},
        parts=(".bin",),
    ),
}
