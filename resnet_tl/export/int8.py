"""A network in whole numbers of 8 bits: an ONNX graph whose convolutions onnxruntime computes so.

Static quantisation in QDQ form: each tensor gets a scale by the smallest and largest value that training images give.
What comes before the first convolution and after the last, normalisation and head, stays as it is, in 32 bits.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from resnet_tl.export.facts import NAMES

if TYPE_CHECKING:
    from onnx import ModelProto

OPERATORS = ["Conv", "Add", "Relu", "MaxPool"]
"""Which are computed in 8 bits; the head in 8 bits is no faster and less exact (docs/export.md)."""
BATCH = 16
CPU_FACTS = Path("/proc/cpuinfo")


class Way(NamedTuple):
    """How the weights of a convolution become whole numbers."""

    per_channel: bool  # a scale for each channel that it gives, or one for all
    bits: int

    def __str__(self) -> str:
        return f"{self.bits} bits per {'channel' if self.per_channel else 'tensor'}"


def quantised(network: ModelProto, pixels: np.ndarray) -> tuple[ModelProto, tuple[str, ...]]:
    """The same graph with its convolutions in 8 bits, and what there is to say of it.

    Args:
        network: `pixels` (N, size, size, C) uint8 -> `probabilities`, as `tensor_graph` gives it.
        pixels: the network's inputs of training images, (n, size, size, C) uint8. Two in three choose the scales; by
            the others the better of `ways` is kept, so that the validation images judge what they did not choose.

    Returns:
        The graph, and sentences.
    """
    import onnx

    calibrating, others = pixels, pixels
    if len(pixels) > 2:
        is_held_out = np.arange(len(pixels)) % 3 == 2
        calibrating, others = pixels[~is_held_out], pixels[is_held_out]
    whole = _Session(network.SerializeToString())
    wanted = whole.probabilities(others)
    found: dict[Way, tuple[float, bytes]] = {}
    with TemporaryDirectory() as folder, _quiet():
        for way in ways():
            file = Path(folder) / "network.onnx"
            _quantise(network, calibrating, file, way)
            content = file.read_bytes()
            found[way] = _divergence(wanted, _Session(content).probabilities(others)), content
    best = min(found, key=lambda way: found[way][0])
    ratio = _speed_ratio(whole, _Session(found[best][1]), others[:BATCH])
    distances = ", ".join(f"{way} {distance:.2g}" for way, (distance, _) in found.items())
    notes = (
        f"--int8: weights in {best}, scales chosen by {len(calibrating)} images; on {len(others)} others the "
        f"divergence from 32 bits, in nats, is: {distances}.",
        f"Its network has {len(found[best][1]) / 1e6:,.1f} MB, in 32 bits {network.ByteSize() / 1e6:,.1f} MB, and here "
        f"computes {ratio:.1f} times as many images a second.",
    )
    return onnx.load_model_from_string(found[best][1]), notes


def ways() -> list[Way]:
    """The ways that are tried: weights in 8 bits, and in 7 where sums of products of 8 bits overflow.

    They do so, and accuracy is lost, on processors with AVX2 but without VNNI, such as Intel's before Cascade Lake and
    AMD's before Zen 4 (onnxruntime#6545); on others 7 bits only make weights coarser.
    """
    words = set(CPU_FACTS.read_text().split()) if CPU_FACTS.exists() else set()
    overflows = "avx2" in words and not words & {"avx512_vnni", "avx_vnni"}
    return [Way(per_channel, bits) for bits in ((8, 7) if overflows else (8,)) for per_channel in (True, False)]


def _quantise(network: ModelProto, pixels: np.ndarray, file: Path, way: Way) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = (pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH))

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {NAMES["tensor"]: batch}

    quantize_static(
        copy.deepcopy(network),  # which it would change
        file,
        Reader(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=OPERATORS,
        nodes_to_exclude=_before_convolutions(network),
        per_channel=way.per_channel,
        reduce_range=way.bits == 7,
        activation_type=QuantType.QUInt8,  # with signed ones onnxruntime is several times slower on x86
        weight_type=QuantType.QInt8,
    )


def _before_convolutions(network: ModelProto) -> list[str]:
    """The names of the nodes that no convolution comes before: normalisation."""
    after: set[str] = set()
    names = []
    for node in network.graph.node:  # in the order in which they are computed
        if node.op_type == "Conv" or after.intersection(node.input):
            after.update(node.output)
        else:
            names.append(node.name)
    return names


class _Session:
    """A graph in memory, run by onnxruntime on the CPU."""

    def __init__(self, content: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors alone
        self.session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """(n, classes) float64 of the network's inputs."""
        batches = [pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH)]
        return np.concatenate(
            [self.session.run(["probabilities"], {NAMES["tensor"]: batch})[0] for batch in batches], dtype=np.float64
        )


def _divergence(wanted: np.ndarray, found: np.ndarray) -> float:
    """Of Kullback and Leibler, in nats, in the mean over images."""
    least = np.finfo(np.float32).tiny
    logarithms = np.log(np.maximum(wanted, least)) - np.log(np.maximum(found, least))
    return float((wanted * logarithms).sum(axis=1).mean())


def _speed_ratio(whole: _Session, small: _Session, pixels: np.ndarray) -> float:
    """How many times as fast one is as the other; the median of three turns."""
    ratios = []
    for _ in range(3):
        times = []
        for session in (whole, small):
            start = perf_counter()
            session.probabilities(pixels)
            times.append(perf_counter() - start)
        ratios.append(times[0] / times[1])
    return median(ratios)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice that onnxruntime gives to whoever quantises."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
