"""What the frozen features of a network are worth on a data set, before anything is trained."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.data.splits import assign_fold
from resnet_tl.errors import UserError
from resnet_tl.evaluation.comparing.probing import Probe
from resnet_tl.evaluation.uncertainty.nearest import knn_shares
from resnet_tl.finetuning.probes import choose_penalty, linear_logits
from resnet_tl.networks.frozen import FrozenStages
from resnet_tl.networks.stages import StagedNetwork
from resnet_tl.training.classifier import ImageClassifier
from resnet_tl.training.probing.features import Features, frozen_features

FIRST_DEPTH = 2
"""The stages before hold edges and colours, of which no class can be told."""
TIMED = 16
"""Images in the batch on which the stages are timed."""
Part = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Learned:
    """A linear probe's answers to some images that it has not learned from, and the neighbours'."""

    penalty: float
    logits: Tensor  # (m, classes)
    votes: np.ndarray  # (m, classes)


def probe_network(
    data: ImageDataModule,
    model: ImageClassifier,
    depths: Sequence[str] | None = (),
    folds: int | None = None,
    device: str = "cpu",
) -> list[Probe]:
    """Probes a network at its end and at earlier stages; the rows of all probes of a data module are the same.

    Args:
        data: made without folds of its own.
        model: one of mode `head`, such as `ImageClassifier("resnet18", mode="head")`.
        depths: stages before the last one; None: all from the second stage behind the stem on.
        folds: judge every image but those of the test by what is learned from the other folds; default: judge the
            validation images.
        device: that computes the features.

    Raises:
        UserError: as of a fit that begins; a depth that the network does not have; nothing to judge by.
    """
    features = frozen_features(data, model, device, cuts_of(data, model, depths))
    parts = parts_of(data, folds)
    return [_probe(data, features, depth, parts, device) for depth in (*features.depths, None)]


def cuts_of(data: ImageDataModule, model: ImageClassifier, depths: Sequence[str] | None) -> tuple[str, ...]:
    """The stages before the last one at which a network is cut; builds the model. UserError for one it lacks."""
    data.prepare_data()
    data.setup("fit")
    model.build(data)
    network = model.network
    if depths is None:
        return tuple(name for name in network.stage_names[:-1] if network.stage_names.index(name) >= FIRST_DEPTH)
    for name in depths:
        network.paths(name)
    return tuple(name for name in network.stage_names[:-1] if name in depths)


def parts_of(data: ImageDataModule, folds: int | None = None) -> list[Part]:
    """The rows to learn from and those to judge by: the training and validation images, or those of each fold.

    UserError where no class can be told from another, or there is nothing to judge by.
    """
    index = data.index
    if folds is None:
        parts = [(index.rows("train"), index.rows("val"))]
    else:
        seed = data.seed if data.split_seed is None else data.split_seed
        dealt = (assign_fold(index, fold, folds, seed, data.dataset.clusters) for fold in range(1, folds + 1))
        parts = [(one.rows("train"), one.rows("val")) for one in dealt]
    for train, val in parts:
        if not len(val):
            raise UserError(f"{index.root} has no validation images to judge a probe by: give --folds 5.")
        if len(np.unique(index.labels[train])) < 2:
            raise UserError(f"{index.root} has training images of one class alone: nothing can be told apart.")
    return parts


def groups_of(data: ImageDataModule) -> np.ndarray:
    """A number for each row of the index, (N,): equal for what belongs together, by a group column or as copies."""
    names = data.index.table["group"]
    return pd.factorize(names.where(names != "", pd.Series(data.dataset.clusters).map("\0{}".format)))[0]


def learn(features: Features, depth: str | None, part: Part, labels: np.ndarray, groups: np.ndarray) -> Learned:
    """Learns both probes from the first rows of a part, and judges the others; `labels`, `groups` of all rows."""
    train, judged = part
    x, y, z = features.of(train, depth), torch.from_numpy(labels[train]), features.of(judged, depth)
    classes = len(features.model.classes)
    penalty = choose_penalty(x, y, classes, groups[train])
    votes = knn_shares(z.numpy(), x.numpy(), labels[train], classes)
    return Learned(penalty, linear_logits(x, y, penalty, classes, z), votes)


def _probe(data: ImageDataModule, features: Features, depth: str | None, parts: list[Part], device: str) -> Probe:
    network, labels, groups = features.model.network, data.index.labels, groups_of(data)
    started = time.perf_counter()
    learned = [learn(features, depth, part, labels, groups) for part in parts]
    seconds = time.perf_counter() - started
    judged = np.concatenate([rows for _, rows in parts])
    order = torch.from_numpy(np.argsort(judged))
    truth = torch.from_numpy(labels[np.sort(judged)])
    logits = torch.cat([one.logits for one in learned])[order]
    votes = np.concatenate([one.votes for one in learned])[np.argsort(judged)]
    rate = images_per_second(network, depth, features, device)
    assert features.model.origin is not None
    return Probe(
        network=network.name,
        weights=features.model.origin.source,
        depth=depth or network.stage_names[-1],
        is_cut=depth is not None,
        features=features.of(judged[:1], depth).shape[1],
        penalty=float(np.median([one.penalty for one in learned])),
        is_correct=(logits.argmax(dim=1) == truth).numpy(),
        losses=F.cross_entropy(logits.double(), truth, reduction="none").numpy(),
        neighbours_correct=votes.argmax(axis=1) == truth.numpy(),
        images_per_second=rate,
        seconds=seconds + len(data.index) / rate,
    )


def images_per_second(network: StagedNetwork, depth: str | None, features: Features, device: str) -> float:
    """That the frozen stages up to a depth take in on this machine; the best of four batches, behind a first one."""
    stop = None if depth is None else network.stage_names.index(depth) + 1
    stages, seen = FrozenStages(network, stop=stop, dtype=features.dtype), features.model.preprocessing
    assert seen is not None
    zeros = torch.zeros(TIMED, seen.channels, seen.size, seen.size, dtype=torch.uint8, device=device)
    images, best = seen.normalise(zeros), float("inf")
    for number in range(5):
        started = time.perf_counter()
        stages(images)
        if images.is_cuda:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started) if number else best
    return TIMED / best
