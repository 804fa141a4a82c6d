"""Classifying images with a model bundle alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn

from resnet_tl.bundle import Bundle
from resnet_tl.data.index import ImageIndex
from resnet_tl.data.loader import ImageLoader
from resnet_tl.data.order import evaluation_batches
from resnet_tl.data.pixels.decode import BadImage, decode, upright_pixels
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.data.quality.audit import placeholders
from resnet_tl.data.reading.layouts import unlabelled
from resnet_tl.data.reading.tables import without_labels
from resnet_tl.data.samples import ImageSamples
from resnet_tl.data.threads import usable_cores
from resnet_tl.errors import UserError
from resnet_tl.evaluation.predictions import prediction_table
from resnet_tl.networks.frozen import FrozenStages, compute_type, head_logits
from resnet_tl.terminal import counted

ImageInMemory: TypeAlias = bytes | Image.Image | np.ndarray
ImageSource: TypeAlias = str | Path | ImageInMemory

log = logging.getLogger(__name__)


class Predictor:
    """The trained network with its own preprocessing and class names.

    Args:
        path: a run, or a model bundle.
        device: such as cpu, cuda or mps; default: the fastest at hand.
        network: the user's own network, for a bundle of one; it is given the bundle's weights.

    Raises:
        UserError: there is no bundle, or it is damaged.
    """

    def __init__(self, path: str | Path, device: str | None = None, network: nn.Module | None = None) -> None:
        self.bundle = Bundle.open(path)
        self.device = _device(device)
        own: dict[str, Any] = {} if network is None else {"network": network}
        loaded = self.bundle.load_network(**own).to(self.device)
        self.stages = FrozenStages(loaded, dtype=compute_type(self.bundle.precision, self.device.type))
        self.head = loaded.head

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names in the order of the network's outputs."""
        return self.bundle.classes

    def predict(
        self,
        images: ImageSource | Iterable[ImageSource],
        batch_size: int = 32,
        on_bad_image: Literal["stop", "skip"] = "stop",
    ) -> pd.DataFrame:
        """The prediction table of images on disk or in memory; each is decoded once.

        On disk: files, folders, patterns such as `photos/*.jpg`, or a CSV file with a `path` column; one or several.
        The rows are in the natural order of their paths.

        In memory: PIL images, arrays (H, W) or (H, W, C) of uint8 with 1, 3 or 4 channels, bytes of image files; one
        or several. Their ids are "0", "1", ... and their path is "". The last digits may differ from those of a large
        JPEG file, which is decoded at a fraction of its size.

        Raises:
            UserError: there are no images, or, unless `on_bad_image` is skip, some cannot be decoded; all are listed.
        """
        given = _as_list(images)
        is_path = [isinstance(image, str | Path) for image in given]
        if any(is_path) and not all(is_path):
            raise UserError("The images are partly paths and partly in memory; predict the two in two calls.")
        if all(is_path):
            in_memory, index = None, unlabelled(given)
        else:
            in_memory = [_checked(number, image) for number, image in enumerate(given)]
            index = without_labels(Path(), [str(number) for number in range(len(given))], "images in memory")
        samples = _Given(index, in_memory, self.bundle.preprocessing)
        bad, stops = samples.bad, on_bad_image == "stop"
        logits = self._logits(samples, np.arange(len(index)), batch_size, wanted=lambda: not (stops and bad))
        if bad:
            reasons = "\n".join(f"  {index.id(row)}: {reason}" for row, reason in sorted(bad.items()))
            of_all = f"{len(bad)} of {len(index)} {'files' if in_memory is None else 'images in memory'}"
            if stops:
                raise UserError(
                    f"{of_all} cannot be used as images; remove them, or leave them out with "
                    f"--on_bad_image skip:\n{reasons}"
                )
            log.warning("Left out %s, which cannot be used as images:\n%s", of_all, reasons)
        rows = np.array([row for row in range(len(index)) if row not in bad], np.int64)
        table = self._table(index, rows, logits[rows])
        return table if in_memory is None else table.assign(path="")

    def predict_rows(self, index: ImageIndex, rows: np.ndarray, batch_size: int = 32) -> pd.DataFrame:
        """The prediction table of some rows of an index, labelled where that is; BadImage for a file that is bad."""
        return self._table(index, rows, self._logits(ImageSamples(index, self.bundle.preprocessing), rows, batch_size))

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, C, H, W) uint8, cropped to the network's size, to logits (N, classes) float32."""
        features = self.stages(self.bundle.preprocessing.normalise(images.to(self.device)))
        assert isinstance(features, torch.Tensor)
        return head_logits(self.head, features)

    @torch.inference_mode()
    def _logits(
        self, samples: ImageSamples, rows: np.ndarray, batch_size: int, wanted: Callable[[], bool] = lambda: True
    ) -> np.ndarray:
        """Logits of some rows, (n, classes); once they are not `wanted` any more the rest is only decoded."""
        loader = ImageLoader(
            samples, lambda epoch: evaluation_batches(rows, batch_size), threads=min(8, usable_cores())
        )
        logits = []
        with counted("predicting", len(rows)) as advance:
            for batch in loader:
                if wanted():
                    logits.append(self.logits(batch["image"]).cpu().numpy())
                advance(len(batch["row"]))
        return np.concatenate(logits) if logits else np.empty((0, len(self.classes)), np.float32)

    def _table(self, index: ImageIndex, rows: np.ndarray, logits: np.ndarray) -> pd.DataFrame:
        return prediction_table(
            ids=[index.id(row) for row in rows],
            paths=[str(index.path(row)) for row in rows],
            labels=index.labels[rows],
            logits=logits,
            classes=self.classes,
        )


class _Given(ImageSamples):
    """The images that `predict` was given; one that cannot be used is noted in `bad` and black in its batch."""

    def __init__(
        self, index: ImageIndex, in_memory: Sequence[ImageInMemory] | None, preprocessing: Preprocessing
    ) -> None:
        super().__init__(index, preprocessing)
        self.in_memory = in_memory
        self.bad = placeholders(index)
        self.one_at_a_time = Lock()  # the same PIL image may have been given twice

    def stored(self, row: int) -> torch.Tensor:
        try:
            if row not in self.bad:
                return super().stored(row) if self.in_memory is None else self._from_memory(self.in_memory[row])
        except BadImage as error:
            self.bad[row] = error.reason
        side = self.preprocessing.storage_size
        return torch.zeros((self.preprocessing.channels, side, side), dtype=torch.uint8)

    def _from_memory(self, image: ImageInMemory) -> torch.Tensor:
        planned = self.preprocessing
        if isinstance(image, bytes):
            return planned.store(decode(image, planned.channels, planned.storage_size))
        try:
            if isinstance(image, np.ndarray):
                image = Image.fromarray(image.squeeze(2) if image.shape[2:] == (1,) else image)
            with self.one_at_a_time:
                return planned.store(upright_pixels(image, planned.channels))
        except (BadImage, MemoryError):
            raise
        except Exception as error:  # of a file that Pillow reads only now: whatever its parsing meets
            raise BadImage(f"cannot be decoded: {error}") from error


def _as_list(images: Any) -> list[Any]:
    is_paths = isinstance(images, np.ndarray) and images.dtype.kind in "OU"
    is_one = isinstance(images, str | Path | bytes | Image.Image | np.ndarray) or not isinstance(images, Iterable)
    return [images] if is_one and not is_paths else list(images)


def _checked(number: int, image: Any) -> ImageInMemory:
    """An image in memory, or a UserError that says what is taken."""
    found = f"of type {type(image).__name__}"
    if isinstance(image, np.ndarray):
        channels = image.shape[2:]
        if image.dtype == np.uint8 and image.size and image.ndim in (2, 3) and channels in ((), (1,), (3,), (4,)):
            return image
        found = f"an array {image.shape} of {image.dtype}"
    elif isinstance(image, bytes | Image.Image):
        return image
    raise UserError(
        f"Image {number} is {found}; images are paths, PIL images, the bytes of files, or arrays (H, W) or (H, W, C) "
        "of uint8 with 1, 3 or 4 channels."
    )


def _device(name: str | None) -> torch.device:
    here = [device for device, module in (("cuda", torch.cuda), ("mps", torch.backends.mps)) if module.is_available()]
    here.append("cpu")
    if name is not None and name.partition(":")[0] not in here:
        raise UserError(f"The device is '{name}'; on this machine it must be {' or '.join(here)}.")
    return torch.device(name or here[0])
