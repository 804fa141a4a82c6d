"""An exported ONNX file, run by onnxruntime on the CPU, without torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.errors import UserError, reason_of
from resnet_tl.export.extras import check_extra
from resnet_tl.export.facts import KEY, NAMES, Facts

if TYPE_CHECKING:
    from onnx import GraphProto, TensorProto

BATCH = 32
"""Images of one size that are run together."""


class OnnxModel:
    """A file that `resnet-tl export --to onnx` has written; `run` may be called from several threads at once.

    Args:
        path: the file.
        threads: that one call uses; default: as many as there are cores.

    Raises:
        UserError: there is no such file, it is no ONNX file or a damaged one, somebody else's, or its weights lie in
            other files.
    """

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        check_extra("onnx", "An ONNX file")
        self.path = Path(path)
        content = _content(self.path)
        self.facts = _facts(content, self.path)
        self.session = _session(content, self.path, threads)
        self.outputs = [output.name for output in self.session.get_outputs()]
        self._check()

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names in the order of the outputs."""
        return self.facts.classes

    @property
    def preprocessing(self) -> Preprocessing:
        """From decoded pixels to the network's input; of a raw graph it is in the graph."""
        return self.facts.preprocessing

    @property
    def runtime(self) -> str:
        """Name and version of what runs it."""
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__}"

    def probabilities(self, images: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """The calibrated probabilities (n, classes) float64 of images.

        Of a raw graph decoded images (H, W, C) uint8, which may differ in size: neighbours of one size are run
        together, at most `BATCH`. Of a tensor graph (size, size, C) uint8. An array (N, H, W, C) is N images.
        """
        return self.run(images)[0]

    def run(self, images: Sequence[np.ndarray] | np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """`probabilities`, and the features (n, F) float32 where the file gives them.

        UserError for images of another kind or shape.
        """
        shares, features = [np.empty((0, len(self.classes)))], []
        for batch in self._batches(images):
            found = dict(zip(self.outputs, self.session.run(None, {NAMES[self.facts.input]: batch}), strict=True))
            shares.append(found["probabilities"].astype(np.float64))
            features += [found["features"]] if "features" in found else []
        return np.concatenate(shares), np.concatenate(features) if features else None

    def _batches(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        side, channels = self.preprocessing.size, self.facts.channels
        for shape, alike in groupby(images, key=np.shape):
            is_wrong = len(shape) != 3 or shape[2] != channels or 0 in shape
            if is_wrong or (self.facts.input == "tensor" and shape != (side, side, channels)):
                wanted = f"({side}, {side}, {channels})" if self.facts.input == "tensor" else f"(H, W, {channels})"
                raise UserError(f"{self.path} takes images {wanted}, but one is {shape}.")
            same = list(alike)
            if odd := next((image.dtype for image in same if image.dtype != np.uint8), None):
                raise UserError(f"{self.path} takes images of uint8, but one is of {odd}.")
            for start in range(0, len(same), BATCH):
                yield np.stack(same[start : start + BATCH])

    def _check(self) -> None:
        """Raises UserError where graph and metadata do not belong together."""
        found = [(one.name, one.type, len(one.shape)) for one in self.session.get_inputs()]
        if found != [(NAMES[self.facts.input], "tensor(uint8)", 4)]:
            raise UserError(f"{self.path} was changed: its input is not that of its metadata.")
        shapes: dict[str, Any] = {output.name: output.shape for output in self.session.get_outputs()}
        if shapes.get("probabilities", [])[1:] != [len(self.classes)] or shapes.keys() - {"probabilities", "features"}:
            raise UserError(f"{self.path} was changed: its outputs are not those of its metadata.")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None


def _facts(content: bytes, path: Path) -> Facts:
    """What the file says of itself, before anything of it is run."""
    import onnx

    try:
        model = onnx.load_model_from_string(content)
    except Exception:  # protobuf's DecodeError, of a package that we do not ask for by name
        raise UserError(f"{path} is no ONNX file, or a damaged one; export it again.") from None
    texts = {entry.key: entry.value for entry in model.metadata_props}
    if KEY not in texts:
        raise UserError(f"{path} is not an ONNX file that `resnet-tl export` has written.")
    if any(onnx.external_data_helper.uses_external_data(tensor) for tensor in _tensors(model.graph)):
        raise UserError(f"{path} has its weights in other files; `resnet-tl export` writes one that holds all.")
    return Facts.from_json(texts[KEY], path)


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """All that a graph and those inside it hold."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def _session(content: bytes, path: Path, threads: int | None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    options.enable_mem_pattern = False  # one would be kept for each size of an image
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class for each kind, of no common base but Exception
        raise UserError(f"{path} cannot be run by onnxruntime: {reason_of(error)}.") from error
