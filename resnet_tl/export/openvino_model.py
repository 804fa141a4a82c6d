"""A model in OpenVINO's own format (.xml with its weights in .bin), and how OpenVINO's CPU plugin runs it.

Nothing here opens a connection: `import openvino` by itself loads a conversion tool that reports the import to the
maker (`openvino_telemetry`), which is kept from loading; the graph is read from ONNX by `Core.read_model`, not by that
tool.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from resnet_tl.errors import UserError, reason_of
from resnet_tl.export.facts import KEY, NAMES, Facts
from resnet_tl.export.runtime import RuntimeModel

if TYPE_CHECKING:
    from resnet_tl.export.deployed import Deployed

TELEMETRY = "openvino_telemetry"
PRECISION = {"INFERENCE_PRECISION_HINT": "f32"}
"""Else it computes in bfloat16 where the processor can, and probabilities differ in the second place."""


def openvino() -> ModuleType:
    """The package, imported without what reports that to its maker."""
    if "openvino" not in sys.modules:
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # an ImportError, which openvino is prepared for
        try:
            import_module("openvino")
        finally:
            del sys.modules[TELEMETRY]
    return sys.modules["openvino"]


def write_openvino(deployed: Deployed, facts: Facts, file: Path) -> None:
    """Writes `file` (.xml) and beside it the weights (.bin) in float32; the facts are in the .xml.

    UserError where it cannot be written, as on a full disk.
    """
    from resnet_tl.export.onnx_graph import tensor_graph

    ov = openvino()
    model = ov.Core().read_model(tensor_graph(deployed).SerializeToString())
    model.set_rt_info(facts.to_json(), [KEY])
    try:
        ov.save_model(model, file, compress_to_fp16=False)
    except RuntimeError as error:
        raise UserError(f"{file.name} cannot be written by OpenVINO: {reason_of(error)}.") from error


class OpenVinoModel(RuntimeModel):
    """Files of `write_openvino`, run by OpenVINO on the CPU in float32."""

    def __init__(self, path: Path) -> None:
        ov = openvino()
        self.path, self.runtime = path, f"openvino {ov.__version__.split('-')[0]}"
        core = ov.Core()
        model = core.read_model(path)
        self.facts = Facts.from_json(model.get_rt_info([KEY]).astype(str), path)
        self.compiled = core.compile_model(model, "CPU", PRECISION)

    def compute(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        found = self.compiled({NAMES[self.facts.input]: batch})
        return {name: found[name] for output in self.compiled.outputs for name in output.names}
