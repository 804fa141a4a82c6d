"""What an exported file says of itself: classes, preprocessing, calibration, and where the weights came from."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias, get_args

from resnet_tl import __version__
from resnet_tl.bundle import Bundle
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.errors import CONTROLS, UserError
from resnet_tl.evaluation.uncertainty.judged import Judged
from resnet_tl.evaluation.uncertainty.sureness import Sureness

FORMAT = 1
KEY = "resnet_tl"
"""Of the metadata of an ONNX file, under which the facts are."""
InputKind: TypeAlias = Literal["raw", "tensor"]
INPUTS: tuple[InputKind, ...] = get_args(InputKind)
NAMES: dict[InputKind, str] = {"raw": "images", "tensor": "pixels"}
"""How the input of a graph is called: decoded images of any size, or what `Preprocessing.centre` gives."""


@dataclass(frozen=True)
class Facts:
    """What a program has to know in order to use an exported model.

    Args:
        input: `raw`, decoded images (N, H, W, C) uint8 of any size; or `tensor`, (N, size, size, C) uint8.
        classes: class names in the order of the outputs.
        preprocessing: from decoded pixels to the network's input.
        calibration: the temperature, which is in the graph, and what it was fitted to.
        network: which network it is.
        weights: source, digest and licence of the weights that training began with.
        data: fingerprint and counts of the training data.
        digest: SHA-256 of the bundle's `weights.safetensors`.
        int8: whether the network computes in 8-bit integers.
        made_by: name and version of the program.
        sureness: what `Sureness` holds, by the bundle's validation images; empty where it is not known.
    """

    input: InputKind
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    calibration: dict[str, Any]
    network: dict[str, Any]
    weights: dict[str, Any]
    data: dict[str, Any]
    digest: str = ""
    int8: bool = False
    made_by: str = f"resnet-tl {__version__}"
    sureness: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, bundle: Bundle, kind: InputKind, int8: bool = False) -> Self:
        """Those of a bundle that is exported now."""
        known = {name: getattr(bundle, name) for name in ("classes", "preprocessing", "calibration", "network")}
        sureness = Sureness.of(Judged(**bundle.load_validation())) if bundle.validation else None
        known |= {"weights": bundle.weights, "data": bundle.data, "digest": bundle.digest}
        return cls(kind, **known, int8=int8, sureness=vars(sureness) if sureness else {})

    def to_json(self) -> str:
        """One JSON object; the same facts give the same text."""
        values = {"format": FORMAT, **vars(self), "preprocessing": self.preprocessing.to_dict()}
        return json.dumps(values, ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, file: Path) -> Self:
        """What `to_json` gave; UserError for a damaged or a stranger's text in a `file`."""
        try:
            values = json.loads(text)
            if (version := values.pop("format")) != FORMAT:
                raise ValueError(f"it has format {version!r}, and this version of resnet-tl reads {FORMAT}")
            classes = values["classes"]
            if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
                raise ValueError("its classes are no list of names")
            if odd := next((name for name in classes if CONTROLS.search(name)), None):
                raise ValueError(f"the class {odd!a} holds a control character")
            if len(classes) < 2 or len(set(classes)) < len(classes):
                raise ValueError("its classes are not two or more different names")
            if values["input"] not in INPUTS:
                raise ValueError(f"its input is {values['input']!r}; it must be {' or '.join(INPUTS)}")
            kinds = dict.fromkeys(("calibration", "network", "weights", "data"), dict)
            for name, kind in {**kinds, "digest": str, "made_by": str, "int8": bool}.items():
                if not isinstance(values[name], kind):
                    raise ValueError(f"its {name} is not of type {kind.__name__}")
            values["classes"] = tuple(classes)
            values["preprocessing"] = Preprocessing.from_dict(values["preprocessing"])
            if values.get("sureness"):
                Sureness(**values["sureness"])
            return cls(**values)
        except KeyError as error:
            raise UserError(f"{file} is damaged: its metadata has no {error}.") from None
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{file} is damaged: {error}.") from None

    @property
    def channels(self) -> int:
        """Of an image: 1 (grey), 3 (RGB) or 4 (RGBA)."""
        return self.preprocessing.channels
