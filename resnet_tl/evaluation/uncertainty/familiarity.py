"""How familiar an image looks: the share of validation images that are at least as far from the training images.

The distance is that to the k-th nearest training image on the trained network's features (Sun et al. 2022,
Out-of-Distribution Detection with Deep Nearest Neighbors, arXiv 2204.06507). Its share among those of the validation
images, the image itself counted, is a conformal p-value (Vovk et al. 2005, Algorithmic Learning in a Random World): of
images that are drawn as the validation images were, at most 1 % are given 0.01 or less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from resnet_tl.evaluation.uncertainty.nearest import nearest, unit

STRANGE = 0.01
"""Familiarity up to which an image is said to look like nothing that a model was trained on."""
LEAST = 19
"""Validation images with which it is said at all: with fewer more than one in 20 would be called so by chance."""
ROUNDING = 1e-6
"""By which a distance may differ with the number of images in a batch; it is taken as no distance."""
KTH = 5
"""Whose distance counts; see docs/unfamiliar.md."""


@dataclass(frozen=True, eq=False)
class Reference:
    """What a model compares new images with.

    Args:
        features: of some training images, of length 1, (n, F) float16.
        labels: their class numbers, (n,) int64.
        rows: their rows in the run's `data/index.csv`, (n,) int64.
        distances: of the validation images to their k-th nearest, rising, (m,) float32.
        neighbours: k.

    Raises:
        ValueError: they do not fit together.
    """

    features: np.ndarray
    labels: np.ndarray
    rows: np.ndarray
    distances: np.ndarray
    neighbours: int

    def __post_init__(self) -> None:
        images, kinds = len(self.features), (np.float16, np.int64, np.int64, np.float32)
        arrays = (self.features, self.labels, self.rows, self.distances)
        for array, kind, ndim in zip(arrays, kinds, (2, 1, 1, 1), strict=True):
            if array.dtype != kind or array.ndim != ndim or not array.size or not np.isfinite(array).all():
                raise ValueError("its arrays are not the numbers that they should be")
        if self.labels.shape != (images,) or self.rows.shape != (images,) or (np.diff(self.distances) < 0).any():
            raise ValueError("its arrays do not fit together")
        if type(self.neighbours) is not int or not 1 <= self.neighbours <= images:
            raise ValueError(f"{self.neighbours!r} is no number of neighbours among {images} images")

    @classmethod
    def make(cls, features: np.ndarray, labels: np.ndarray, rows: np.ndarray, judged: np.ndarray) -> Reference:
        """Of training images' features (n, F), and those of the validation images, `judged` (m, F)."""
        kept = unit(features).astype(np.float16)
        neighbours = min(KTH, len(kept))
        distances = nearest(unit(judged), unit(kept), neighbours)[0][:, -1]
        return cls(kept, labels.astype(np.int64), rows.astype(np.int64), np.sort(distances), neighbours)

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, Any], neighbours: int) -> Reference:
        """What `arrays` gave; ValueError for other ones."""
        names = ("features", "labels", "rows", "distances")
        if set(arrays) != set(names):
            raise ValueError(f"it must hold {', '.join(names)}")
        return cls(**arrays, neighbours=neighbours)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """By name, as they are kept in a file."""
        return {name: getattr(self, name) for name in ("features", "labels", "rows", "distances")}

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Of images' features (n, F) to their k-th nearest training image, (n,) float32."""
        return self.nearest(features, self.neighbours)[0][:, -1]

    def nearest(self, features: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Distances (n, k), rising, to the nearest training images, and their places in `labels` and `rows` (n, k)."""
        return nearest(unit(features), self._gallery, count)

    @cached_property
    def _gallery(self) -> np.ndarray:
        return unit(self.features)  # whose length half precision has changed

    def familiarity(self, features: np.ndarray) -> np.ndarray:
        """Of images with features (n, F): (1 + validation images at least as far) / (1 + validation images), (n,)."""
        return p_values(self.distance(features), self.distances)


def p_values(distances: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The share of `reference` (m,), rising, that is at least as large as each distance, itself counted, (n,)."""
    as_far = len(reference) - np.searchsorted(reference, distances - ROUNDING, side="left")
    return (1 + as_far) / (1 + len(reference))


def strange_up_to(validation_images: Sequence[int]) -> float | None:
    """Up to which familiarity images are called strange; None where too few validation images tell.

    `validation_images` are those of each model that judges; all of them must find an image strange. With fewer than 99
    it is what an image has that is farther than all of them.
    """
    fewest = min(validation_images, default=0)
    return max(STRANGE, 1 / (1 + fewest)) if fewest >= LEAST else None
