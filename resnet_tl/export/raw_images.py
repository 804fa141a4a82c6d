"""The preprocessing as ONNX operators in front of a network, so that a file takes decoded images of any size.

What `Preprocessing.store` and `centre` do, with the very same sizes and places, in whole numbers. Resizing is
onnxruntime's on the CPU, which follows Pillow as torch does: of 255 levels the pixels differ by 1, rarely 2. Other
runtimes resize otherwise; they are given what the host has prepared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_tl.data.pixels.preprocessing import MAX_ASPECT, Preprocessing
from resnet_tl.export.facts import NAMES

if TYPE_CHECKING:
    from onnx import ModelProto


def raw_graph(network: ModelProto, preprocessing: Preprocessing) -> ModelProto:
    """A graph that takes `images` (N, H, W, C) uint8 for one that takes `pixels` (N, size, size, C) uint8.

    All images of one batch have one size; N, H and W are dynamic.
    """
    from onnx import compose, parser

    front = parser.parse_model(graph_text(preprocessing, network.opset_import[0].version))
    front.ir_version = network.ir_version
    front = compose.add_prefix(front, "preprocessing/", rename_inputs=False, rename_outputs=False)
    pixels = NAMES["tensor"]
    return compose.merge_models(front, network, io_map=[(pixels, pixels)])


def graph_text(preprocessing: Preprocessing, opset: int) -> str:
    """The preprocessing in ONNX's own textual syntax."""
    p = preprocessing
    lines = ["axes = Constant <value_ints = [1, 2]> ()", "half = Constant <value = double {0.5}> ()"]
    if p.resize_rule == "squash":
        lines += [f"stored_sides = Constant <value_ints = [{p.storage_size}, {p.storage_size}]> ()"]
        lines += [_resize(p, "images", "stored_sides", "stored")]
    else:
        lines += [
            "sides = Shape <start = 1, end = 3> (images)",
            "short = ReduceMin <keepdims = 1> (sides)",
            f"most = Constant <value_ints = [{MAX_ASPECT}]> ()",
            "longest = Mul (short, most)",
            "kept_sides = Min (sides, longest)",
            *_middle("images", "sides", "kept_sides", "kept"),
            f"storage_size = Constant <value_ints = [{p.storage_size}]> ()",
            "multiplied = Mul (kept_sides, storage_size)",
            "stored_sides = Div (multiplied, short)",  # of whole numbers: rounded down
            _resize(p, "kept", "stored_sides", "stored"),
        ]
    lines += [f"crop_sides = Constant <value_ints = [{p.crop_size}, {p.crop_size}]> ()"]
    lines += _middle("stored", "stored_sides", "crop_sides", "crop")
    lines += [f"sides_of_input = Constant <value_ints = [{p.size}, {p.size}]> ()"]
    lines += [_resize(p, "crop", "sides_of_input", NAMES["tensor"])]
    shapes = f"(uint8[N, H, W, {p.channels}] images) => (uint8[N, {p.size}, {p.size}, {p.channels}] {NAMES['tensor']})"
    body = "\n  ".join(lines)
    return f'<ir_version: 10, opset_import: ["" : {opset}]>\npreprocessing {shapes} {{\n  {body}\n}}'


def _resize(preprocessing: Preprocessing, source: str, sides: str, result: str) -> str:
    """Antialiased; -0.5 is Pillow's and torch's cubic, and what lies outside of the image counts for nothing.

    Where the sides are those of the image it stays what it is.
    """
    mode = {"bilinear": "linear", "bicubic": "cubic"}[preprocessing.interpolation]
    attributes = f'mode = "{mode}", antialias = 1, cubic_coeff_a = -0.5, exclude_outside = 1, axes = [1, 2]'
    return f"{result} = Resize <{attributes}> ({source}, , , {sides})"


def _middle(source: str, sides: str, wanted: str, result: str) -> list[str]:
    """The middle of an image; Round takes of two equally near numbers the even one, as Python's does."""
    return [
        f"{result}_spare = Sub ({sides}, {wanted})",
        f"{result}_spare_double = Cast <to = 11> ({result}_spare)",
        f"{result}_spare_half = Mul ({result}_spare_double, half)",
        f"{result}_spare_round = Round ({result}_spare_half)",
        f"{result}_start = Cast <to = 7> ({result}_spare_round)",
        f"{result}_end = Add ({result}_start, {wanted})",
        f"{result} = Slice ({source}, {result}_start, {result}_end, axes)",
    ]
