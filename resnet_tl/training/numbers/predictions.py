"""What an evaluation finds: the logits of each row, gathered from all processes in the order of the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from resnet_tl.data.index import ImageIndex
from resnet_tl.evaluation.predictions import prediction_table, softmax


@dataclass(frozen=True, eq=False)
class Predictions:
    """Every image of a split once, from which each number is computed."""

    rows: np.ndarray  # in ascending order, (n,) int64
    labels: np.ndarray  # class numbers, (n,) int64; -1 where unknown
    logits: np.ndarray  # (n, classes) float32
    features: np.ndarray | None = None  # what the head was given, (n, F) float32, where that was asked for

    @cached_property
    def probabilities(self) -> np.ndarray:
        """(n, classes) float64."""
        return softmax(self.logits)

    def table(self, index: ImageIndex, classes: tuple[str, ...]) -> pd.DataFrame:
        """The prediction table: `id, path, label, predicted, prob_<class>...`."""
        return prediction_table(
            ids=[index.id(row) for row in self.rows],
            paths=[str(index.path(row)) for row in self.rows],
            labels=self.labels,
            logits=self.logits,
            classes=classes,
        )


def to_plain(predictions: Mapping[str, Predictions]) -> dict[str, dict[str, Tensor]]:
    """Those of each split as tensors, which a checkpoint gives back without running code."""
    return {
        split: {name: torch.from_numpy(getattr(found, name)) for name in ("rows", "labels", "logits")}
        for split, found in predictions.items()
    }


def from_plain(saved: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Predictions]:
    """What `to_plain` was given."""
    return {split: Predictions(**{name: one.numpy() for name, one in of.items()}) for split, of in saved.items()}


class RowLogits:
    """Collects (row, logits (classes,)), in which no row is lost, counted twice or mistaken for another.

    With a `width` above 0 each row's features (width,) come with them.
    """

    def __init__(self, classes: int, width: int = 0) -> None:
        self.rows = [torch.empty(0, dtype=torch.int64)]
        self.logits = [torch.empty(0, classes)]
        self.features = [torch.empty(0, width)]

    def add(self, rows: Tensor, logits: Tensor, features: Tensor) -> None:
        """Those of a batch: (N,) int64 and (N, classes); they stay on a GPU, which is not waited for in each batch.

        Features do not: a GPU that training has filled has no room for those of all images.
        """
        self.rows.append(rows)
        self.logits.append(logits.float())
        if self.features[0].shape[1]:
            self.features.append(features.float().cpu())

    def gathered(self, labels: np.ndarray, processes: int = 1) -> Predictions | None:
        """What all processes found, on the first, else None; `labels` of all rows of the index. A collective."""
        lists = (self.rows, self.logits, self.features)
        own = tuple(torch.cat([part.cpu() for part in parts]).numpy() for parts in lists)
        parts: list[Any] = [own]
        if processes > 1:
            parts = [None] * processes
            torch.distributed.all_gather_object(parts, own)
            if torch.distributed.get_rank():
                return None
        rows, logits, features = (np.concatenate(of_all) for of_all in zip(*parts, strict=True))
        order = np.argsort(rows)
        kept = features[order] if features.shape[1] else None
        return Predictions(rows[order], labels[rows[order]], logits[order], kept)
