"""What is kept of labelled images once they are judged: enough for prediction sets, abstentions and their worth."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from resnet_tl.evaluation.calibration import held_out
from resnet_tl.evaluation.predictions import label_numbers
from resnet_tl.evaluation.predictions import probabilities as probabilities_of


@dataclass(frozen=True, eq=False)
class Judged:
    """Labelled images, each with two class numbers and two probabilities; the arrays are (n,)."""

    labels: np.ndarray  # int64
    predicted: np.ndarray  # int64
    probability: np.ndarray  # float64, of what was predicted: the largest one
    label_probability: np.ndarray  # float64

    @classmethod
    def of(cls, labels: np.ndarray, probabilities: np.ndarray) -> Judged:
        """Those that have a label (not negative) and finite probabilities (n, C)."""
        is_known = (labels >= 0) & np.isfinite(probabilities).all(axis=1)
        labels, probabilities = labels[is_known], probabilities[is_known]
        rows, predicted = np.arange(len(labels)), probabilities.argmax(axis=1)
        return cls(labels, predicted, probabilities[rows, predicted], probabilities[rows, labels])

    @classmethod
    def of_validation(cls, table: pd.DataFrame, temperature: float = 1.0) -> Judged:
        """The images of a prediction table, whose own temperature this is, each by one that it had no part in."""
        labels, probabilities = label_numbers(table), probabilities_of(table)
        return cls.of(labels, held_out(labels, probabilities, temperature))

    def arrays(self) -> dict[str, np.ndarray]:
        """Them by name, as a bundle keeps them."""
        return asdict(self)

    @property
    def is_correct(self) -> np.ndarray:
        """(n,) bool."""
        return self.labels == self.predicted

    def __len__(self) -> int:
        return len(self.labels)
