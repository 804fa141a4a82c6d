"""The model bundle: one folder, or one zip, without a pickle, that holds all that prediction needs."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from resnet_tl import __version__
from resnet_tl.bundle_zip import FILES, check_no_other_file, is_bundle_zip, members, read_member
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.errors import CONTROLS, UserError
from resnet_tl.files import file_digest, replacing, write_text

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from resnet_tl.networks import Network
    from resnet_tl.networks.stages import StagedNetwork

FORMAT = 1
MAX_BYTES = 64_000_000
"""Of `model.json`; 100,000 classes come to a few megabytes."""
MAX_ARRAY_BYTES = 256_000_000
"""Of each further file; 2000 images of 4096 features come to 16 megabytes, judged ones to 56 bytes each."""
_JUDGED = {"labels": "i8", "predicted": "i8", "probability": "f8", "label_probability": "f8"}
_OWN = {"content": "u1", "own_probability": "f8"}
"""What is kept of validation images, and the types; the second, since November 2026, is not in every bundle."""


@dataclass(frozen=True, repr=False)
class Bundle:
    """What `model.json` says; the weights beside it are read by `load_network()`.

    Args:
        path: the folder, or the zip, with `model.json` and `weights.safetensors`.
        network: which network it is and its head: `StagedNetwork.description`.
        classes: class names in the order of the network's outputs.
        preprocessing: from decoded pixels to the network's input.
        weights: source, digest and licence of the weights that training began with.
        precision: Lightning's word for the arithmetic of the evaluation, such as `32-true` or `bf16-mixed`.
        metrics: on each evaluated split.
        calibration: the temperature that logits are divided by, and what it was fitted to; empty: none was.
        validation: what is kept of the validation images in `validation.safetensors`: the number of `images`, its
            `digest`, on which `device` they were judged, and whether it `repeats` another run's, which judged them;
            empty: there is none.
        data: fingerprint, layout and counts of the training data; nothing of where they lie.
        digest: SHA-256 of `weights.safetensors`.
        reference: SHA-256 of `reference.safetensors`, `digest`, by which a model knows what looks like nothing that it
            was trained on, and which of the `neighbours` counts; empty: it has none.
        made_by: name and version of the program.
    """

    path: Path
    network: dict[str, Any]
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    weights: dict[str, Any] = field(default_factory=dict)
    precision: str = "32-true"
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    validation: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    digest: str = ""
    reference: dict[str, Any] = field(default_factory=dict)
    made_by: str = ""

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Reads a bundle, its zip, or the one inside a run; UserError when there is none or it is damaged."""
        path = Path(path)
        folder = path / "model" if (path / "model" / "model.json").is_file() else path
        file = folder / "model.json"
        is_zip = is_bundle_zip(path)
        if not is_zip and not file.is_file():
            check_no_other_file(path)
            if (path / "folds" / "1" / "model" / "model.json").is_file():
                raise UserError(
                    f"{path} holds a model for each fold: give one of them, such as {path / 'folds' / '1'}."
                )
            if (path / "recipe.yaml").is_file():
                raise UserError(
                    f"{path} has no model yet, for its training did not end; go on with: "
                    f"resnet-tl fit --resume {quote(str(path))}"
                )
            if not path.exists():
                raise UserError(f"{path} does not exist; give a run such as runs/freeze_backbone-1, or a model bundle.")
            raise UserError(f"{path} is neither a run nor a model bundle: it has no model.json.")
        try:
            if (members(path)["model.json"] if is_zip else file.stat().st_size) > MAX_BYTES:
                raise ValueError(f"it has more than {MAX_BYTES / 1e6:.0f} MB")
            values = json.loads((read_member(path, file.name) if is_zip else file.read_bytes()).decode("utf-8"))
            if values.pop("format") != FORMAT:
                raise UserError(f"{file} was written by another version of resnet-tl; this one reads format {FORMAT}.")
            values["preprocessing"] = Preprocessing.from_dict(values["preprocessing"])
            values["classes"] = _class_names(values["classes"])
            for name in ("network", "weights", "metrics", "calibration", "validation", "data", "reference"):
                if not isinstance(values.get(name, {}), dict):
                    raise ValueError(f"{name} is no mapping")
            if values.get("calibration") and not 0 < values["calibration"]["temperature"] < math.inf:
                raise ValueError("its temperature is not above 0")
            values["network"]  # there must be one; what it holds is known when it is built
            return cls(path=folder, **values)
        except KeyError as error:
            raise UserError(f"{file} is damaged: it has no {error}.") from None
        except (ValueError, TypeError, AttributeError, RecursionError, OSError) as error:
            raise UserError(f"{file} is damaged: {error}.") from None

    @classmethod
    def of_checkpoint(cls, path: Path, saved: Any) -> Bundle:
        """What a checkpoint says of its network, `checkpoint["resnet_tl"]`; its weights are in the checkpoint alone."""
        try:
            network, weights = dict(saved["network"]), dict(saved["weights"])
            seen = Preprocessing.from_dict(saved["preprocessing"])
            return cls(path, network, _class_names(list(saved["classes"])), seen, weights)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is damaged, or no checkpoint of this version of resnet-tl: {error}.") from None

    def __repr__(self) -> str:
        from resnet_tl.notebook import bundle_line

        return bundle_line(self)

    def _repr_html_(self) -> str:
        from resnet_tl.notebook import bundle_page

        return bundle_page(self)

    @property
    def temperature(self) -> float:
        """What logits are divided by, so that probabilities are as often right as they say."""
        return self.calibration.get("temperature", 1.0)

    @property
    def weights_file(self) -> Path:
        return self.path / "weights.safetensors"

    @property
    def validation_file(self) -> Path:
        return self.path / "validation.safetensors"

    @property
    def reference_file(self) -> Path:
        return self.path / "reference.safetensors"

    def sizes(self) -> dict[str, int]:
        """Bytes of each file that the bundle has, by its name; those of a checkpoint are none."""
        if self.path.is_file():
            return members(self.path) if is_bundle_zip(self.path) else {}
        return {name: (self.path / name).stat().st_size for name in FILES if (self.path / name).is_file()}

    def read(self, name: str) -> bytes:
        """One of its files; UserError where it is missing, or its zip is damaged."""
        if self.path.is_file():
            return read_member(self.path, name)
        if not (self.path / name).is_file():
            raise UserError(f"{self.path} has no {name}.")
        return (self.path / name).read_bytes()

    def load_validation(self) -> dict[str, np.ndarray]:
        """How the validation images were judged: the arrays of `evaluation.uncertainty.judged.Judged` by name.

        UserError where there are none, or they are not those that `model.json` was written with.
        """
        if not self.validation:
            raise UserError(
                f"{self.path} keeps nothing of validation images: give a run, or its model, that `resnet-tl fit` "
                "of this version has made with some."
            )
        arrays = self._validation_arrays()
        return {name: arrays[name] for name in _JUDGED}

    def load_own(self) -> dict[str, np.ndarray]:
        """Which images they were, and what the network gave: what `evaluation.repeated.own_arrays` gave.

        Empty where the bundle does not keep them; UserError as `load_validation`.
        """
        arrays = self._validation_arrays() if self.validation else {}
        return {name: arrays[name] for name in _OWN if name in arrays}

    def _validation_arrays(self) -> dict[str, np.ndarray]:
        arrays = self._arrays(self.validation_file.name, self.validation.get("digest"))
        images, classes = self.validation.get("images"), len(self.classes)
        kinds = _JUDGED | (_OWN if _OWN.keys() & arrays.keys() else {})
        shapes = {name: (images, 16) if name == "content" else (images,) for name in kinds}
        is_whole = {name: found.dtype.str[1:] for name, found in arrays.items()} == kinds and all(
            found.shape == shapes[name] and images for name, found in arrays.items()
        )
        most = {"i8": classes - 1, "f8": 1, "u1": 255}
        if not is_whole or not all(
            ((found >= 0) & (found <= most[kinds[name]])).all() for name, found in arrays.items()
        ):
            raise UserError(
                f"{self.validation_file} was changed: it is not what validation images of {classes} classes give."
            )
        return arrays

    def load_reference(self) -> dict[str, np.ndarray]:
        """The arrays of `evaluation.uncertainty.familiarity.Reference` by name; none where the model has none.

        UserError where they are not those that `model.json` was written with.
        """
        return self._arrays(self.reference_file.name, self.reference.get("digest")) if self.reference else {}

    def _arrays(self, name: str, digest: Any) -> dict[str, np.ndarray]:
        """What `_write_arrays` wrote; UserError where it is missing, or another file than that of a digest."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        size = self.sizes().get(name)
        if size is None:
            raise UserError(f"{self.path} has no {name}, which belongs to its model.json; copy the whole folder.")
        # Once, so that what is loaded is what was checked.
        content = self.read(name) if size <= MAX_ARRAY_BYTES else b""
        if hashlib.sha256(content).hexdigest() != digest:
            raise UserError(f"{self.path / name} is damaged: it is not the file that model.json was written with.")
        try:
            return load(content)
        except (SafetensorError, KeyError, ValueError) as error:
            raise UserError(f"{self.path / name} is not a safetensors file of numbers: {error}.") from error

    def load_network(self, network: Network | None = None) -> StagedNetwork:
        """The trained network in eval mode, on the CPU.

        Args:
            network: the user's own network, where the bundle holds one: the module, or the class or function that makes
                it. Without it a bundle's code is imported only where `--import` has allowed that.

        Raises:
            UserError: the weights are missing, or not those of `model.json` or of this network.
        """
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load

        content = self.read(self.weights_file.name)  # once, so that what is loaded is what was checked
        if hashlib.sha256(content).hexdigest() != self.digest:
            raise UserError(f"{self.weights_file} is damaged: it is not the file that model.json was written with.")
        try:
            with torch.device("cpu"):
                weights = load(content)
        except SafetensorError as error:
            raise UserError(f"{self.weights_file} is not a safetensors file: {error}.") from error
        return self.with_weights(weights, network)

    def with_weights(self, weights: Mapping[str, Tensor], network: Network | None = None) -> StagedNetwork:
        """The network in eval mode with some weights; `network` as in `load_network`."""
        import torch

        from resnet_tl.networks import rebuild_network

        try:
            with torch.device("cpu"):
                _check_size(sum(tensor.numel() for tensor in weights.values()), len(self.classes), **self.network)
                built = rebuild_network(self.network, len(self.classes), network, whose=str(self.path))
                built.load_state_dict(weights)
        except (RuntimeError, TypeError, ValueError, AttributeError) as error:
            if network is not None:
                raise UserError(f"The network given is not the one that {self.path} was made with.") from error
            file = self.path if self.path.is_file() else self.path / "model.json"
            raise UserError(f"{file} was changed: its network or classes do not fit its weights.") from error
        return built.eval()


def _class_names(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or len(values) < 2 or not all(isinstance(name, str) for name in values):
        raise ValueError("its classes are no list of two or more names")
    if len(set(values)) < len(values):
        raise ValueError("it has a class twice")
    if odd := next((name for name in values if CONTROLS.search(name)), None):
        raise ValueError(f"the class {odd!a} holds a control character")
    return tuple(values)


def _check_size(
    held: int,
    classes: int,
    name: str = "",
    in_chans: int = 3,
    head_hidden: Sequence[int] = (),
    network_args: Any = None,
    **_: Any,
) -> None:
    """Raises ValueError for a network of more numbers than the `held` ones of the weights, before memory is taken."""
    import torch

    from resnet_tl.networks.body import create_body

    # So many layers or channels would take hours even without memory.
    if re.search(r"(?<![\d.])\d{5,}", json.dumps([in_chans, head_hidden, network_args])):
        raise ValueError("a number is too large")
    widths = [*head_hidden, classes]
    needed = sum(a * b for a, b in pairwise(widths))
    if name:  # the size of the user's own network is known when it is made
        with torch.device("meta"), _nothing_drawn():
            needed += sum(
                tensor.numel() for tensor in create_body(name, widths[0], in_chans, network_args).state_dict().values()
            )
    if needed > held:
        raise ValueError(f"the network has {needed} numbers, the weights {held}")


def _nothing_drawn() -> AbstractContextManager[Any]:
    """For networks on the meta device: there are no numbers to draw, and torch would import its compiler for it."""
    import torch

    class NothingDrawn(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if getattr(function, "__name__", "") in ("normal_", "uniform_", "kaiming_normal_", "kaiming_uniform_"):
                return args[0] if args else kwargs["tensor"]
            return function(*args, **(kwargs or {}))

    return NothingDrawn()


def write_bundle(
    bundle: Bundle,
    network: StagedNetwork,
    judged: Mapping[str, np.ndarray] | None = None,
    reference: Mapping[str, np.ndarray] | None = None,
) -> Bundle:
    """Writes weights and arrays, then `model.json`, so that a folder with `model.json` is whole.

    `judged` is what `load_validation` and `load_own` give back, `reference` what `load_reference` does. A bundle is
    given to others: of paths in what it says of data and weights only the last part is kept.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    bundle.path.mkdir(parents=True, exist_ok=True)
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in network.state_dict().items()}
    with replacing(bundle.weights_file) as temporary:
        try:
            save_file(state, temporary, metadata={"format": "pt"})
        except SafetensorError as error:  # a full disk, in words for programmers
            raise UserError(f"{bundle.weights_file} cannot be written: {error}.") from error
    validation = _write_arrays(bundle.validation_file, judged, bundle.validation)
    if judged:
        validation["images"] = len(judged["labels"])
    values = {
        **asdict(bundle),
        # JSON has no word for what is not defined, such as the AUROC of a single class.
        "metrics": {
            split: {name: value for name, value in numbers.items() if math.isfinite(value)}
            for split, numbers in bundle.metrics.items()
        },
        "validation": validation,
        "weights": _without_folders(bundle.weights),
        "data": _without_folders(bundle.data),
        "format": FORMAT,
        "digest": file_digest(bundle.weights_file),
        "reference": _write_arrays(bundle.reference_file, reference, bundle.reference),
        "made_by": f"resnet-tl {__version__}",
    }
    del values["path"]
    write_text(bundle.path / "model.json", json.dumps(values, indent=2, ensure_ascii=False) + "\n")
    return Bundle.open(bundle.path)


def _write_arrays(file: Path, arrays: Mapping[str, np.ndarray] | None, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Writes arrays that a bundle may have, and gives what `model.json` says of them; nothing where there are none."""
    from safetensors.numpy import save

    if not arrays:
        file.unlink(missing_ok=True)  # of a bundle that is written over
        return {}
    with replacing(file) as temporary:
        temporary.write_bytes(save(dict(arrays)))
    return {**facts, "digest": file_digest(file)}


def _without_folders(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts with the name alone of each file or folder of this machine."""
    paths = {key: Path(value) for key, value in facts.items() if value and isinstance(value, str)}
    kept = {
        key: path.resolve().name
        for key, path in paths.items()
        if path.is_absolute() or key == "root" or path.parts[0].startswith("~") or (key == "source" and path.exists())
    }
    each = {"each": [*map(_without_folders, facts["each"])]} if facts.get("each") else {}
    return {**facts, **kept, **each}
