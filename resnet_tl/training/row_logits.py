"""What an evaluation has found so far: the logits of each row, gathered from all processes in the order of the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


class RowLogits:
    """Collects (row, logits), in which no row is lost, counted twice or mistaken for another.

    Args:
        classes: width of the logits.
    """

    def __init__(self, classes: int = 0) -> None:
        self.rows = [np.empty(0, np.int64)]
        self.logits = [np.empty((0, classes), np.float32)]

    def add(self, rows: Tensor, logits: Tensor) -> None:
        """Those of a batch: (N,) int64 and (N, classes) float32."""
        self.rows.append(rows.cpu().numpy())
        self.logits.append(logits.cpu().numpy())

    def gathered(self, processes: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """The rows (n,) of all processes in ascending order, and their logits (n, classes)."""
        own = np.concatenate(self.rows), np.concatenate(self.logits)
        parts: list[Any] = [own]
        if processes > 1:
            parts = [None] * processes
            torch.distributed.all_gather_object(parts, own)
        rows = np.concatenate([rows for rows, _ in parts])
        order = np.argsort(rows)
        return rows[order], np.concatenate([logits for _, logits in parts])[order]
