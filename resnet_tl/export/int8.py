"""A network in 8-bit integers: an ONNX graph whose convolutions onnxruntime computes so.

Static quantisation in QDQ form: each tensor gets a scale by the smallest and largest value that training images give.
What comes before the first convolution and after the last, normalisation and head, stays in 32 bits. What rounding
takes from the logits in the mean is given back at the end of the network: the bias correction of Nagel et al. 2019,
Data-Free Quantization Through Weight Equalization and Bias Correction, arXiv 1906.04721.
"""

from __future__ import annotations

import copy
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from resnet_tl.errors import UserError, reason_of
from resnet_tl.export.facts import NAMES
from resnet_tl.export.onnx_graph import quiet
from resnet_tl.export.runtime import session_of

if TYPE_CHECKING:
    from onnx import ModelProto

OPERATORS = ["Conv", "Add", "Relu", "MaxPool"]
"""Which are computed in 8 bits; the head is a small part of the work and stays in 32."""
BATCH = 16
CPU_FACTS = Path("/proc/cpuinfo")


class Way(NamedTuple):
    """How the weights of a convolution become integers."""

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

    Raises:
        UserError: onnxruntime cannot quantise this network.
    """
    import onnx

    calibrating, others = pixels, pixels
    if len(pixels) > 2:
        is_held_out = np.arange(len(pixels)) % 3 == 2
        calibrating, others = pixels[~is_held_out], pixels[is_held_out]
    whole = session_of(network.SerializeToString())
    right, wanted = _probabilities(whole, calibrating), _probabilities(whole, others)
    found: dict[Way, tuple[float, bytes]] = {}
    with TemporaryDirectory() as folder, quiet():
        for way in ways():
            file = Path(folder) / "network.onnx"
            try:
                _quantise(network, calibrating, file, way)
            except OSError:  # such as a full disk
                raise
            except Exception as error:  # of any kind: the network may be anyone's
                raise UserError(f"--int8: onnxruntime cannot quantise the network: {reason_of(error)}.") from error
            content = _corrected(file.read_bytes(), calibrating, right)
            found[way] = _divergence(wanted, _probabilities(session_of(content), others)), content
    best = min(found, key=lambda way: found[way][0])
    ratio = _speed_ratio(whole, session_of(found[best][1]), others[:BATCH])
    distances = ", ".join(f"{way} {distance:.2g}" for way, (distance, _) in found.items())
    notes = (
        f"int8: weights in {best}, scales chosen by {len(calibrating)} images; Kullback-Leibler divergence from 32 "
        f"bits on {len(others)} others, in nats: {distances}",
        f"int8: the network has {len(found[best][1]) / 1e6:,.1f} MB, in 32 bits {network.ByteSize() / 1e6:,.1f} MB, "
        f"and does {ratio:.1f} times as many images a second on this machine",
    )
    return onnx.load_model_from_string(found[best][1]), notes


def ways() -> list[Way]:
    """The ways that are tried: weights in 8 bits, and in 7 where sums of products of 8 bits overflow.

    They do so, and accuracy is lost, on processors with AVX2 but without VNNI, such as Intel's before Cascade Lake and
    AMD's before Zen 4 (onnxruntime#6545); on others 7 bits only make weights coarser. Both are tried where no file says
    what the processor has, as on Windows and macOS.
    """
    words = set(CPU_FACTS.read_text().split()) if CPU_FACTS.exists() else {"avx2"}
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


def _corrected(content: bytes, pixels: np.ndarray, wanted: np.ndarray) -> bytes:
    """The graph with what its logits lack in the mean over images added to them; `wanted` are their probabilities."""
    import onnx

    model = onnx.load_model_from_string(content)
    found = _probabilities(session_of(content), pixels)
    # Of the logits, but for a number that all classes share, which changes no probability.
    lost = (_logarithms(wanted) - _logarithms(found)).mean(axis=0)
    place, softmax = next((at, node) for at, node in enumerate(model.graph.node) if "probabilities" in node.output)
    model.graph.initializer.append(onnx.numpy_helper.from_array(lost.astype(np.float32), "lost_by_rounding"))
    model.graph.node.insert(
        place, onnx.helper.make_node("Add", [softmax.input[0], "lost_by_rounding"], ["corrected_logits"])
    )
    softmax.input[0] = "corrected_logits"
    return model.SerializeToString()


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


def _probabilities(session: Any, pixels: np.ndarray) -> np.ndarray:
    """(n, classes) float64 of the network's inputs."""
    batches = [pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH)]
    found = [session.run(["probabilities"], {NAMES["tensor"]: batch})[0] for batch in batches]
    return np.concatenate(found, dtype=np.float64)


def _divergence(wanted: np.ndarray, found: np.ndarray) -> float:
    """Kullback-Leibler, in nats, the mean over images."""
    return float((wanted * (_logarithms(wanted) - _logarithms(found))).sum(axis=1).mean())


def _logarithms(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))


def _speed_ratio(whole: Any, small: Any, pixels: np.ndarray) -> float:
    """How many times as fast one is as the other; the median of three turns."""
    ratios = []
    for _ in range(3):
        times = []
        for session in (whole, small):
            start = perf_counter()
            _probabilities(session, pixels)
            times.append(perf_counter() - start)
        ratios.append(times[0] / times[1])
    return median(ratios)
