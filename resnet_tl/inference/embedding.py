"""The features of images: what the head of a trained model, or of a pretrained network, is given."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from resnet_tl.data.index import NOT_THERE, ImageIndex
from resnet_tl.data.pixels.decode import DECODER
from resnet_tl.data.pixels.preprocessing import Preprocessing, plan_preprocessing
from resnet_tl.data.quality.audit import placeholders
from resnet_tl.data.reading.layouts import read_images, unlabelled
from resnet_tl.data.reading.options import Reading
from resnet_tl.errors import UserError, listed, printable
from resnet_tl.inference.ensemble import Member
from resnet_tl.inference.predictor import refuse_bad, usable_device
from resnet_tl.inference.preparing import batches_of, in_batches, prepare
from resnet_tl.networks import create_network
from resnet_tl.networks.frozen import FrozenStages
from resnet_tl.networks.weights import load_weights
from resnet_tl.terminal import counted

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Embedder:
    """The stages of a network, and how its images are prepared."""

    stages: FrozenStages
    preprocessing: Preprocessing
    width: int  # F

    @classmethod
    def of_model(cls, path: Path, device: str | None = None) -> Embedder:
        """Those of a run, a bundle or a checkpoint; UserError for none."""
        member = Member(path, usable_device(device))
        return cls(member.stages, member.bundle.preprocessing, member.width)

    @classmethod
    def of_network(cls, name: str, weights: str = "default", device: str | None = None) -> Embedder:
        """Those of a network by its name, as its weights come; UserError where there is none, or no such weights."""
        network = create_network(name, num_classes=2)
        origin = load_weights(network, weights)
        preprocessing = plan_preprocessing(
            origin.image_size,
            crop_ratio=origin.crop_ratio,
            mean=origin.mean,
            std=origin.std,
            interpolation=origin.interpolation,
            decoder=DECODER,
        )
        stages = FrozenStages(network.to(usable_device(device)).eval())
        return cls(stages, preprocessing, network.num_features)

    @torch.inference_mode()
    def features(self, index: ImageIndex, batch_size: int = 32, skips: bool = False) -> Iterator[tuple]:
        """Rows of an index, some at a time, (n,) int64, and their features (n, F) float32; no more is held at once.

        Raises:
            UserError: at the end, and unless it `skips` them, that images cannot be used; all are listed.
        """
        ids = index.ids()
        bad = placeholders(ids)
        prepared = partial(prepare, groups=[self.preprocessing])
        paths = [index.path(row) for row in range(len(index))]
        with counted("features", len(index)) as advance:
            for rows, images in in_batches(paths, prepared, batch_size, bad):
                if rows and (skips or not bad):
                    (batch,) = batches_of(images)
                    found = self.stages(self.preprocessing.normalise(batch.to(self.stages.device)))
                    assert isinstance(found, torch.Tensor)
                    yield np.array(rows, np.int64), found.flatten(1).float().cpu().numpy()
                advance(len(rows))
        refuse_bad(ids, bad, skips, "files")


def images_and_labels(paths: Sequence[str], reading: Reading) -> tuple[ImageIndex, list[str]]:
    """The images of files, folders, patterns and tables, and the label of each where one folder or zip says it, or "".

    UserError as of `unlabelled`.
    """
    index = unlabelled(paths, reading)
    if index.missing:
        log.warning(printable(f"Left out {len(index.missing)} images: {NOT_THERE} ({listed(index.missing)})"))
    known: dict[Path, str] = {}
    if len(paths) == 1:
        with suppress(UserError):  # it is not labelled
            labelled = read_images(paths[0], learns=False, reading=reading)
            known = {
                labelled.path(row): labelled.classes[label]
                for row, label in enumerate(labelled.labels.tolist())
                if label >= 0
            }
    return index, [known.get(index.path(row), "") for row in range(len(index))]
