"""What a pretrained network gives for each image of a data set, computed once and kept: the start of every probe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from resnet_tl import stopping
from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.finetuning.activation_cache import ActivationTable, find_or_compute, stages_key
from resnet_tl.finetuning.freezing import digest
from resnet_tl.finetuning.prefix import FILLED_AT_ONCE
from resnet_tl.networks.frozen import Activation, FrozenStages, compute_type
from resnet_tl.timing import measure
from resnet_tl.training.classifier import ImageClassifier
from resnet_tl.training.trainer.precision import choose_precision


@dataclass(frozen=True, eq=False)
class Features:
    """The labelled images of a data set as the stages of a network see them, at their centre."""

    model: ImageClassifier  # built for them: `network`, `preprocessing`, `origin`
    table: ActivationTable

    def of(self, rows: np.ndarray) -> Tensor:
        """Those of some rows of the index, (n, F) float32 on the CPU."""
        found = self.table[rows]
        assert isinstance(found, Tensor)
        return found.flatten(1).float()


def frozen_features(data: ImageDataModule, model: ImageClassifier, device: str = "cpu") -> Features:
    """Builds the model for the data and takes what all its stages give: the same entry of the cache as a frozen fit's.

    The model is one of mode `head`, such as `ImageClassifier("resnet18", mode="head")`. UserError as of a fit that
    begins.
    """
    data.prepare_data()
    data.setup("fit")
    model.build(data)
    network = model.network.to(device)
    kind = compute_type(choose_precision(torch.device(device).type)[0], torch.device(device).type)
    stages = FrozenStages(network, dtype=kind)
    rows = np.sort(np.concatenate([data.index.rows(split) for split in ("train", "val", "test")]))
    loader = data.loader("train")

    def compute(some: np.ndarray) -> Iterator[tuple[np.ndarray, Activation]]:
        for batch in loader.over(np.array_split(some, -(-len(some) // FILLED_AT_ONCE)), 0):
            stopping.check()
            yield batch["row"].numpy(), stages(model.images({"image": batch["image"].to(device)}))

    weights = digest(network, network.stage_names)
    key = stages_key(stages, weights, data.preprocessing, data.contents_digest(rows))
    about = f"{len(rows)} images, {', '.join(stages.names)}"
    with measure("activations"):
        table = find_or_compute(key, about, rows, compute)
    assert table is not None  # as for several processes alone
    return Features(model, table)
