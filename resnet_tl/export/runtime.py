"""An exported file, run by its runtime on the CPU; an ONNX file by onnxruntime, without torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.errors import UserError, reason_of
from resnet_tl.export.facts import KEY, NAMES, Facts

BATCH = 32
"""Images of one size that are run together."""
PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino", "onnx", "onnxscript")}
"""Of each extra in pyproject.toml."""


def check_extra(extra: str, what: str) -> None:
    """Raises UserError where a package of an extra is missing; `what` needs it, such as "An ONNX file"."""
    if missing := [name for name in PACKAGES[extra] if find_spec(name) is None]:
        raise UserError(f'{what} needs {missing[0]}, which is not installed: pip install "resnet-tl[{extra}]".')


class RuntimeModel(ABC):
    """An exported file, opened by its runtime."""

    path: Path
    facts: Facts
    runtime: str  # name and version, such as "onnxruntime 1.32.0"

    @abstractmethod
    def compute(self, batch: np.ndarray) -> Mapping[str, np.ndarray]:
        """What the file gives, by name, for a batch (N, H, W, C) uint8."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names in the order of the outputs."""
        return self.facts.classes

    @property
    def preprocessing(self) -> Preprocessing:
        """From decoded pixels to the network's input; of a raw graph it is in the graph."""
        return self.facts.preprocessing

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
            found = self.compute(batch)
            shares.append(found["probabilities"].astype(np.float64))
            features += [found["features"]] if "features" in found else []
        return np.concatenate(shares), np.concatenate(features) if features else None

    def _batches(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        side, channels, is_raw = self.preprocessing.size, self.preprocessing.channels, self.facts.input == "raw"
        for shape, alike in groupby(images, key=np.shape):
            fits = len(shape) == 3 and shape[2] == channels and 0 not in shape
            if not fits or not (is_raw or shape[:2] == (side, side)):
                wanted = f"(H, W, {channels})" if is_raw else f"({side}, {side}, {channels})"
                raise UserError(f"{self.path} takes images {wanted}, but one is {shape}.")
            same = list(alike)
            if odd := next((image.dtype for image in same if image.dtype != np.uint8), None):
                raise UserError(f"{self.path} takes images of uint8, but one is of {odd}.")
            for start in range(0, len(same), BATCH):
                yield np.stack(same[start : start + BATCH])


class OnnxModel(RuntimeModel):
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
        import onnxruntime

        self.path = Path(path)
        self.runtime = f"onnxruntime {onnxruntime.__version__}"
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}.") from None
        self.facts = _facts(content, self.path)
        try:
            self.session = session_of(content, threads)
        except Exception as error:  # onnxruntime has a class for each kind, of no common base but Exception
            raise UserError(f"{path} cannot be run by onnxruntime: {reason_of(error)}.") from error
        self.outputs = [output.name for output in self.session.get_outputs()]
        self._check()

    def compute(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(self.outputs, self.session.run(None, {NAMES[self.facts.input]: batch}), strict=True))

    def _check(self) -> None:
        """Raises UserError where graph and metadata do not belong together."""
        found = [(one.name, one.type, len(one.shape)) for one in self.session.get_inputs()]
        if found != [(NAMES[self.facts.input], "tensor(uint8)", 4)]:
            raise UserError(f"{self.path} was changed: its input is not that of its metadata.")
        shapes: dict[str, Any] = {output.name: output.shape for output in self.session.get_outputs()}
        if shapes.get("probabilities", [])[1:] != [len(self.classes)] or shapes.keys() - {"probabilities", "features"}:
            raise UserError(f"{self.path} was changed: its outputs are not those of its metadata.")


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
    if any(onnx.external_data_helper.uses_external_data(tensor) for tensor in _tensors(model)):
        raise UserError(f"{path} has its weights in other files; `resnet-tl export` writes one that holds all.")
    return Facts.from_json(texts[KEY], path)


def _tensors(message: Any) -> Iterator[Any]:
    """All tensors that a message of protobuf holds, wherever: in graphs, sparse ones, attributes, functions."""
    from onnx import TensorProto

    if isinstance(message, TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in [value] if hasattr(value, "ListFields") else value:
                yield from _tensors(inner)


def session_of(content: bytes, threads: int | None = None) -> Any:
    """A graph as onnxruntime runs it on the CPU; raises whatever that meets."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    options.enable_mem_pattern = False  # one would be kept for each size of an image
    if threads is not None:
        options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
