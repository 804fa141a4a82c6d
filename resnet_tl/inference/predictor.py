"""Classifying images with a model bundle alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch

from resnet_tl.bundle import Bundle
from resnet_tl.data.index import ImageIndex
from resnet_tl.data.loader import ImageLoader
from resnet_tl.data.order import evaluation_batches
from resnet_tl.data.quality.audit import audit_images
from resnet_tl.data.reading.layouts import unlabelled
from resnet_tl.data.samples import ImageSamples
from resnet_tl.data.threads import usable_cores
from resnet_tl.errors import UserError
from resnet_tl.evaluation.predictions import prediction_table
from resnet_tl.networks.frozen import FrozenStages, compute_type, head_logits

log = logging.getLogger(__name__)


class Predictor:
    """The trained network with its own preprocessing and class names.

    It reads nothing but the bundle: not the recipe, not the training data, not the weights that training began with.

    Args:
        path: a run, or a model bundle.
        device: such as cpu, cuda or mps; default: the fastest at hand.

    Raises:
        UserError: there is no bundle, or it is damaged.
    """

    def __init__(self, path: str | Path, device: str | None = None) -> None:
        self.bundle = Bundle.open(path)
        self.device = _device(device)
        network = self.bundle.load_network().to(self.device)
        self.stages = FrozenStages(network, dtype=compute_type(self.bundle.precision, self.device.type))
        self.head = network.head

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names in the order of the network's outputs."""
        return self.bundle.classes

    def predict(
        self,
        images: str | Path | Sequence[str | Path],
        batch_size: int = 32,
        on_bad_image: Literal["stop", "skip"] = "stop",
    ) -> pd.DataFrame:
        """The prediction table of files, folders, globs or a CSV file with a `path` column.

        Raises:
            UserError: there are no images, or, unless `on_bad_image` is skip, one cannot be decoded.
        """
        index = unlabelled([images] if isinstance(images, str | Path) else images)
        bad = audit_images(index).bad
        if bad:
            listed = "\n".join(f"  {index.id(row)}: {reason}" for row, reason in bad.items())
            if on_bad_image == "stop":
                raise UserError(
                    f"{len(bad)} of {len(index)} files cannot be used as images; remove them, or leave them out with "
                    f"--on_bad_image skip:\n{listed}"
                )
            log.warning("Left out %d files that cannot be used as images:\n%s", len(bad), listed)
            index = index.without(list(bad))
        return self.predict_rows(index, np.arange(len(index)), batch_size)

    @torch.inference_mode()
    def predict_rows(self, index: ImageIndex, rows: np.ndarray, batch_size: int = 32) -> pd.DataFrame:
        """The prediction table of some rows of an index; labelled where the index is."""
        loader = ImageLoader(
            ImageSamples(index, self.bundle.preprocessing),
            lambda epoch: evaluation_batches(rows, batch_size),
            threads=min(8, usable_cores()),
        )
        logits = [self.logits(batch["image"]).cpu().numpy() for batch in loader]
        return prediction_table(
            ids=[index.id(row) for row in rows],
            paths=[str(index.path(row)) for row in rows],
            labels=index.labels[rows],
            logits=np.concatenate(logits) if logits else np.empty((0, len(self.classes))),
            classes=self.classes,
        )

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, C, H, W) uint8, cropped to the network's size, to logits (N, classes) float32."""
        features = self.stages(self.bundle.preprocessing.normalise(images.to(self.device)))
        assert isinstance(features, torch.Tensor)
        return head_logits(self.head, features)


def _device(name: str | None) -> torch.device:
    here = [device for device, module in (("cuda", torch.cuda), ("mps", torch.backends.mps)) if module.is_available()]
    here.append("cpu")
    if name is not None and name.partition(":")[0] not in here:
        raise UserError(f"The device is '{name}'; on this machine it must be {' or '.join(here)}.")
    return torch.device(name or here[0])
