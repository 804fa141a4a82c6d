"""resnet-tl: fine-tune ResNets on folders of images."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resnet_tl.data.datamodule import ImageDataModule
    from resnet_tl.inference.predictor import Predictor
    from resnet_tl.run import Run
    from resnet_tl.training.classifier import ImageClassifier
    from resnet_tl.training.console.progress import FitProgress

__version__ = "0.1.0"
__all__ = ["FitProgress", "ImageClassifier", "ImageDataModule", "Predictor", "Run", "__version__"]

# Importing a part imports no more than that part: `resnet-tl --help` must not wait for torch.
_HOMES = {
    "FitProgress": "resnet_tl.training.console.progress",
    "ImageClassifier": "resnet_tl.training.classifier",
    "ImageDataModule": "resnet_tl.data.datamodule",
    "Predictor": "resnet_tl.inference.predictor",
    "Run": "resnet_tl.run",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'resnet_tl' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
