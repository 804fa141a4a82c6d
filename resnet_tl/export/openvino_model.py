"""A model in OpenVINO's own format (.xml with its weights in .bin), and how OpenVINO's CPU plugin runs it.

Nothing here opens a connection: `import openvino` by itself loads a conversion tool that reports the import to the
maker (`openvino_telemetry`), which is kept from loading; the graph is read from ONNX by `Core.read_model`, not by that
tool.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np

from resnet_tl.export.deployed import Deployed
from resnet_tl.export.facts import KEY, NAMES, Facts
from resnet_tl.export.onnx_graph import tensor_graph

BATCH = 32
"""Images that are run together."""
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
    """Writes `file` (.xml) and beside it the weights (.bin) in float32; the facts are in the .xml."""
    ov = openvino()
    model = ov.Core().read_model(tensor_graph(deployed).SerializeToString())
    model.set_rt_info(facts.to_json(), [KEY])
    ov.save_model(model, file, compress_to_fp16=False)


class OpenVinoModel:
    """Files of `write_openvino`, run by OpenVINO on the CPU in float32."""

    def __init__(self, path: Path) -> None:
        ov = openvino()
        core = ov.Core()
        model = core.read_model(path)
        self.facts = Facts.from_json(model.get_rt_info([KEY]).astype(str), path)
        self.compiled = core.compile_model(model, "CPU", PRECISION)

    @property
    def runtime(self) -> str:
        """Name and version of what runs it."""
        return f"openvino {openvino().__version__.split('-')[0]}"

    def probabilities(self, images: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """(n, classes) float64 of the network's inputs (size, size, C) uint8."""
        shares = [np.empty((0, len(self.facts.classes)))]
        for start in range(0, len(images), BATCH):
            batch = np.stack(list(images[start : start + BATCH]))
            shares.append(self.compiled({NAMES[self.facts.input]: batch})["probabilities"].astype(np.float64))
        return np.concatenate(shares)
