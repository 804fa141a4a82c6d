"""Which symmetry the images have, by a measurement: a probe that learns them as they are, judged on turned ones."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.stats import t as student
from torch import Tensor

from resnet_tl import __version__, cache, stopping
from resnet_tl.data.datamodule import CENTRES_AT_ONCE, ImageDataModule
from resnet_tl.data.draws import Purpose, uniform
from resnet_tl.data.index import ImageIndex
from resnet_tl.data.pixels.symmetry import MIRRORED, ORIENTATIONS, Symmetry, orient
from resnet_tl.finetuning.activation_cache import activation_key
from resnet_tl.finetuning.freezing import digest
from resnet_tl.finetuning.logistic import solve_path
from resnet_tl.networks.frozen import Activation, FrozenStages
from resnet_tl.networks.stages import StagedNetwork
from resnet_tl.terminal import counted
from resnet_tl.timing import measure

log = logging.getLogger(__name__)

PASSES, MULTIPLY_ADDS = 1200, 8e11
"""Images that the network sees for a measurement, and what it may compute: some seconds on two cores."""
SIDE = 128
"""In pixels: larger images say no more of it, and take longer."""
PIXELS = 16
"""Side of the small pictures whose pixels are features too: a network that has learnt from mirrored photos may be blind
to what mirroring does to a digit, and one without pretrained weights has learnt nothing."""
CLASSES = 50
"""So many of a data set's classes are looked at, the largest ones: others would have too few images to learn from."""
PENALTY = 0.1
FELT = 0.02
"""A drop of the true class's probability that is shown to be larger than this counts."""
LOST = 0.25
"""A share of what a probe knows beyond chance: turned images must be shown to lose no more."""
LEAST = 30
"""Judged images that it takes to show that a drop is small."""


@dataclass(frozen=True)
class Drop:
    """By how much a probe is less sure of the true class of changed images: the mean, and half its 95 % interval."""

    mean: float
    half: float

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half


@dataclass(frozen=True)
class Seen:
    """What a probe gives the true class of images that it has not learnt from: probabilities, means over them."""

    features: str  # that it looks at, in words
    judged: int  # images
    chance: float  # what it would give knowing nothing
    plain: float  # as they are
    mirrored: Drop
    turned: Drop  # the mean over several of the six other orientations
    accuracy: float  # of the images as they are


def look(
    network: StagedNetwork, data: ImageDataModule, multiply_adds: int, is_pretrained: bool, is_any_size: bool
) -> list[Seen]:
    """What probes see in a data set's images, for `judge`: the same whoever asks, and kept for the next one who does.

    Nothing where no validation image shows a class that is trained on.

    Args:
        network: on the CPU, with the weights that training begins with.
        data: in use, with its splits.
        multiply_adds: of the network for one image.
        is_pretrained: whether its features say anything; else there are the pixels alone.
        is_any_size: whether it takes smaller images than those of the preprocessing.
    """
    size = data.preprocessing.size
    side = min(size, SIDE) if is_any_size else size
    cost = multiply_adds * (side / size) ** 2 if is_pretrained else 0
    learnt, judged, turns = plan(data.index, int(min(PASSES, MULTIPLY_ADDS / max(cost, 1))))
    if not len(judged):
        return []
    stages = FrozenStages(network) if is_pretrained else None

    def measured() -> list[Seen]:
        with measure("activations"):
            return _measure(data, stages, side, learnt, judged, turns)

    key = _key(network, data, stages, side, learnt, judged, turns)
    return _kept(key, measured, f"{len(learnt) + len(judged)} images of {data.index.root}") if key else measured()


def judge(probes: Sequence[Seen]) -> tuple[Symmetry, str]:
    """What probes have seen, the best of them last, as the symmetry that the images have, and why.

    Most photos may be mirrored, so that a drop must be shown to refuse it, by any of the probes. Few may be turned, so
    that the best one must show that little is lost.
    """
    if not probes:
        return "mirror", "no validation image shows a class that is trained on, so that nothing could be measured"
    for seen in probes:
        if seen.mirrored.low > FELT:
            return "none", f"mirrored, they are harder to recognise: {_said(seen)}"
    for seen in probes:
        if seen.turned.low > FELT:
            return "mirror", f"turned, they are harder to recognise: {_said(seen)}"
    best = probes[-1]
    if best.judged < LEAST or best.turned.high > LOST * (best.plain - best.chance):
        return "mirror", f"turning may do harm: {_said(best)}"
    return "dihedral", f"turned, they are about as easy to recognise: {_said(best)}"


def _said(seen: Seen) -> str:
    """The true class's mean probability and, in points of it, what changing the images adds."""
    drops = (seen.mirrored, seen.turned)
    mirrored, turned = (f"{0 - round(100 * drop.mean, 1):+.1f} ± {100 * drop.half:.1f}" for drop in drops)
    return (
        f"a probe of {seen.features} gives the true class of {seen.judged:,} images {100 * seen.plain:.1f} %, "
        f"mirrored {mirrored}, turned {turned}"
    )


def plan(index: ImageIndex, passes: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Rows to learn from and to judge by, and in how many turned versions the latter are looked at."""
    counts = np.bincount(index.labels[index.rows("train")], minlength=len(index.classes))
    classes = np.argsort(-counts, kind="stable")[: min(CLASSES, np.count_nonzero(counts))]
    learnt = _sample(index.rows("train"), index.labels, classes, passes // 3)
    judged = _sample(index.rows("val"), index.labels, np.unique(index.labels[learnt]), (passes - len(learnt)) // 3)
    left = (passes - len(learnt)) // max(1, len(judged)) - 2
    return learnt, judged, min(max(left, 1), ORIENTATIONS - 2)


def _sample(rows: np.ndarray, labels: np.ndarray, classes: np.ndarray, count: int) -> np.ndarray:
    """`count` rows of some classes, of each its share, or all where there are fewer."""
    rows = rows[np.isin(labels[rows], classes)]
    rows = rows[np.argsort(uniform(0, 0, rows, Purpose.PROBE, 1)[:, 0])]
    of_class = pd.Series(labels[rows]).groupby(labels[rows])
    place = (of_class.cumcount() + 0.5) / of_class.transform("size")
    return rows[np.argsort(place.to_numpy(), kind="stable")[:count]]


def _measure(
    data: ImageDataModule, stages: FrozenStages | None, side: int, learnt: np.ndarray, judged: np.ndarray, turns: int
) -> list[Seen]:
    preprocessing, index = data.preprocessing, data.index
    features: dict[str, Callable[[Tensor], Tensor]] = {
        "their pixels": lambda images: F.adaptive_avg_pool2d(images.float() / 255, PIXELS).flatten(1)
    }
    if stages is not None:
        features["the network's features"] = lambda images: _flat(stages(preprocessing.normalise(images)))

    def seen(rows: np.ndarray, orientations: np.ndarray) -> list[Tensor]:
        """Each kind of features (versions, rows, F) of the rows in their orientations (versions, rows)."""
        found: list[list[Tensor]] = [[] for _ in features]
        for images, versions in zip(
            data.centres(rows), np.array_split(orientations, -(-len(rows) // CENTRES_AT_ONCE), axis=1), strict=True
        ):
            stopping.check()
            small = torch.empty((len(images), side, side, images.shape[1]), dtype=torch.uint8).permute(0, 3, 1, 2)
            for image, target in zip(images, small, strict=True):
                target.copy_(preprocessing.resize(image, side, side))
            turned = [small.clone() for _ in versions]
            for batch, each in zip(turned, versions, strict=True):
                orient(batch, each)
            for kind, made in zip(features.values(), found, strict=True):
                made.append(torch.stack([kind(batch) for batch in turned]))
            advance(versions.size)
        return [torch.cat(made, dim=1) for made in found]

    # Of the six orientations that are no mirror image each is looked at as often as another.
    others = np.array([one for one in range(1, ORIENTATIONS) if one != MIRRORED])
    versions = np.zeros((2 + turns, len(judged)), np.int64)
    versions[1] = MIRRORED
    versions[2:] = others[(np.arange(turns)[:, None] + turns * np.arange(len(judged))) % len(others)]
    with counted("which symmetry the images have", len(learnt) + versions.size) as advance:
        known, asked = seen(learnt, np.zeros((1, len(learnt)), np.int64)), seen(judged, versions)
    numbers, labels = np.unique(index.labels[learnt], return_inverse=True)
    target = np.searchsorted(numbers, index.labels[judged])
    chance = float((np.bincount(labels) / len(labels))[target].mean())
    found = []
    for name, of_learnt, of_judged in zip(features, known, asked, strict=True):
        (head,) = solve_path(of_learnt[0], torch.from_numpy(labels), [PENALTY], classes=len(numbers))
        given = F.linear(of_judged, head.weight, head.bias).softmax(dim=2).double().numpy()
        true = given[:, np.arange(len(judged)), target]
        drops = _drop(true[0] - true[1]), _drop(true[0] - true[2:].mean(axis=0))
        accuracy = float((given[0].argmax(axis=1) == target).mean())
        found.append(Seen(name, len(judged), chance, float(true[0].mean()), *drops, accuracy))
    return found


def _flat(activation: Activation) -> Tensor:
    parts = (activation,) if isinstance(activation, Tensor) else activation
    return torch.cat([part.flatten(1).float() for part in parts], dim=1)


def _drop(differences: np.ndarray) -> Drop:
    """Of the same images, so that what makes an image hard stands in no interval."""
    count, mean = len(differences), float(differences.mean())
    if count < 2:
        return Drop(mean, 1.0)
    return Drop(mean, float(student.ppf(0.975, count - 1) * differences.std(ddof=1) / count**0.5))


def _key(
    network: StagedNetwork,
    data: ImageDataModule,
    stages: FrozenStages | None,
    side: int,
    learnt: np.ndarray,
    judged: np.ndarray,
    turns: int,
) -> str | None:
    """Of all that a measurement depends on; None where the network's code cannot be known again."""
    if stages and stages.code is None:
        return None
    rows = np.concatenate([learnt, judged])
    return activation_key(
        weights=digest(network, network.stage_names) if stages else None,
        network={key: value for key, value in network.description.items() if not key.startswith("head_")},
        code=stages.code if stages else None,
        preprocessing=data.preprocessing.to_dict(),
        side=side,
        contents=data.contents_digest(rows),
        labels=data.index.labels[rows].tolist(),
        learnt=len(learnt),
        turns=turns,
        versions={name: version(name) for name in ("torch", "torchvision", "timm", "numpy")}
        | {"resnet_tl": __version__},
    )


def _kept(key: str, measured: Callable[[], list[Seen]], about: str) -> list[Seen]:
    """From the cache folder, or measured and put there."""
    made: list[list[Seen]] = []

    def write(folder: Path) -> None:
        made.append(measured())
        (folder / "seen.json").write_text(json.dumps([asdict(seen) for seen in made[0]]), encoding="utf-8")

    folder = cache.entry("symmetries", key, 4096, about, write)
    if made:
        return made[0]
    try:
        kept: Any = json.loads((folder / "seen.json").read_text(encoding="utf-8")) if folder else None
        return [Seen(**one | {name: Drop(**one[name]) for name in ("mirrored", "turned")}) for one in kept]
    except (OSError, ValueError, TypeError, KeyError):  # not kept, just removed by another run, or damaged
        return measured()
