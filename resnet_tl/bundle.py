"""The model bundle: one folder, without a pickle, that holds all that prediction needs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_tl.data.preprocessing import Preprocessing
from resnet_tl.errors import UserError
from resnet_tl.files import replacing, write_text

if TYPE_CHECKING:
    from resnet_tl.networks.stages import StagedNetwork

FORMAT = 1


@dataclass(frozen=True)
class Bundle:
    """What `model.json` says; the weights beside it are read by `load_network()`.

    Args:
        path: the folder with `model.json` and `weights.safetensors`.
        network: name and head of the network: the arguments of `create_network`.
        classes: class names in the order of the network's outputs.
        preprocessing: from decoded pixels to the network's input.
        weights: source, digest and licence of the weights that training began with.
        precision: Lightning's word for the arithmetic of the evaluation, such as `32-true` or `bf16-mixed`.
        metrics: on each evaluated split.
        data: fingerprint, layout and counts of the training data.
        digest: SHA-256 of `weights.safetensors`.
        made_by: name and version of the program.
    """

    path: Path
    network: dict[str, Any]
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    weights: dict[str, Any] = field(default_factory=dict)
    precision: str = "32-true"
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    digest: str = ""
    made_by: str = ""

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Reads a bundle, or the one inside a run; UserError when there is none or it is damaged."""
        path = Path(path)
        folder = path / "model" if (path / "model" / "model.json").is_file() else path
        file = folder / "model.json"
        if not file.is_file():
            raise UserError(
                f"{path} is neither a run nor a model bundle: it has no model.json."
                if path.exists()
                else f"{path} does not exist; give a run such as runs/freeze_backbone-1, or a model bundle."
            )
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            if values.pop("format") != FORMAT:
                raise UserError(f"{file} was written by another version of resnet-tl; this one reads format {FORMAT}.")
            values["preprocessing"] = Preprocessing.from_dict(values["preprocessing"])
            values["classes"] = tuple(values["classes"])
            return cls(path=folder, **values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{file} is damaged: {error}.") from None

    @property
    def weights_file(self) -> Path:
        return self.path / "weights.safetensors"

    def load_network(self) -> StagedNetwork:
        """The trained network in eval mode; UserError when the weights are missing or not those of `model.json`."""
        from safetensors.torch import load_file

        from resnet_tl.networks import create_network

        if not self.weights_file.is_file():
            raise UserError(f"{self.path} has no weights.safetensors.")
        if file_digest(self.weights_file) != self.digest:
            raise UserError(f"{self.weights_file} is damaged: it is not the file that model.json was written with.")
        try:
            network = create_network(**self.network, num_classes=len(self.classes))
            network.load_state_dict(load_file(self.weights_file))
        except (RuntimeError, TypeError) as error:
            raise UserError(
                f"{self.path / 'model.json'} was changed: its network or classes do not fit its weights."
            ) from error
        return network.eval()


def write_bundle(bundle: Bundle, network: StagedNetwork) -> Bundle:
    """Writes the weights, then `model.json`, so that a folder with `model.json` is whole."""
    from safetensors.torch import save_file

    from resnet_tl import __version__

    bundle.path.mkdir(parents=True, exist_ok=True)
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in network.state_dict().items()}
    with replacing(bundle.weights_file) as temporary:
        save_file(state, temporary, metadata={"format": "pt"})
    values = {
        **asdict(bundle),
        "format": FORMAT,
        "digest": file_digest(bundle.weights_file),
        "made_by": f"resnet-tl {__version__}",
    }
    del values["path"]
    write_text(bundle.path / "model.json", json.dumps(values, indent=2, ensure_ascii=False) + "\n")
    return Bundle.open(bundle.path)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
