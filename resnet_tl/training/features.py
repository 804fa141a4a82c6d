"""What a pretrained network gives for each image of a data set, computed once and kept: the start of every probe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from resnet_tl import stopping
from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.errors import listed
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
    table: ActivationTable  # of all its stages
    dtype: torch.dtype  # in which they compute
    depths: tuple[str, ...] = ()  # earlier stages, whose maps were averaged over the image
    cuts: ActivationTable | None = None  # theirs, in that order

    def of(self, rows: np.ndarray, depth: str | None = None) -> Tensor:
        """Those of some rows of the index, (n, F) float32 on the CPU; `depth` is one of `depths`, None all stages."""
        if depth is not None:
            assert self.cuts is not None
            return self.cuts[rows][self.depths.index(depth)].float()
        found = self.table[rows]
        assert isinstance(found, Tensor)
        return found.flatten(1).float()


def frozen_features(
    data: ImageDataModule, model: ImageClassifier, device: str = "cpu", depths: Sequence[str] = ()
) -> Features:
    """Builds the model for the data and takes what all its stages give: the same entry of the cache as a frozen fit's.

    The model is one of mode `head`, such as `ImageClassifier("resnet18", mode="head")`. `depths` are stages before the
    last one: what they give, averaged over the image, is taken in the same pass and kept as well. UserError as of a fit
    that begins, and for a depth that the network does not have.
    """
    data.prepare_data()
    data.setup("fit")
    model.build(data)
    network = model.network.to(device)
    for name in depths:
        network.paths(name)
    kind = compute_type(choose_precision(torch.device(device).type)[0], torch.device(device).type)
    stages = FrozenStages(network, dtype=kind)
    rows = np.sort(np.concatenate([data.index.rows(split) for split in ("train", "val", "test")]))
    loader = data.loader("train")
    weights = digest(network, network.stage_names)

    contents = data.contents_digest(rows)

    def images(some: np.ndarray) -> Iterator[tuple[np.ndarray, Tensor]]:
        for batch in loader.over(np.array_split(some, -(-len(some) // FILLED_AT_ONCE)), 0):
            stopping.check()
            yield batch["row"].numpy(), model.images({"image": batch["image"].to(device)})

    def of_images(some: np.ndarray) -> Iterator[tuple[np.ndarray, Activation]]:
        yield from ((found, stages(x)) for found, x in images(some))

    def at_depths(some: np.ndarray) -> Iterator[tuple[np.ndarray, Activation]]:
        yield from ((found, stages.at_depths(x, depths)) for found, x in images(some))

    def of_depths(some: np.ndarray) -> Iterator[tuple[np.ndarray, Activation]]:
        assert cuts is not None
        yield from ((part, cuts[part][-1]) for part in np.array_split(some, -(-len(some) // FILLED_AT_ONCE)))

    def key(**further: object) -> str:
        return stages_key(stages, weights, data.preprocessing, contents, **further)

    about = f"{len(rows)} images, {', '.join(stages.names)}"
    with measure("activations"):
        cuts = None
        if depths:
            cuts = find_or_compute(key(averaged=[*depths]), f"{about}, averaged: {listed(depths)}", rows, at_depths)
        table = find_or_compute(key(), about, rows, of_depths if depths else of_images)
    assert table is not None  # as for several processes alone
    return Features(model, table, kind, tuple(depths), cuts)
