"""How far the probabilities can be trusted: loss, Brier score and calibration error, without and with a temperature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from resnet_tl.evaluation.intervals import Estimate
from resnet_tl.evaluation.metrics import image_losses
from resnet_tl.evaluation.predictions import label_numbers
from resnet_tl.evaluation.predictions import probabilities as probabilities_of
from resnet_tl.evaluation.uncertainty.calibration import (
    LEAST,
    at_temperature,
    brier,
    calibration_error,
    held_out,
    reliability,
)
from resnet_tl.evaluation.words import interval, metric_value, percent

NOTICEABLE = 0.02
"""Calibration error from which it is said."""


@dataclass(frozen=True)
class Trust:
    """What some probabilities are worth on labelled images."""

    name: str
    loss: float
    brier: float
    error: Estimate  # root mean square distance from how often the model is right
    bins: np.ndarray  # of `evaluation.uncertainty.calibration.reliability`
    sure: float  # mean largest probability
    right: float  # share of the images judged correctly

    @classmethod
    def of(cls, name: str, labels: np.ndarray, shares: np.ndarray) -> Trust:
        """That of probabilities (N, C) of labelled images."""
        return cls(
            name,
            float(image_losses(labels, shares).mean()),
            brier(labels, shares),
            calibration_error(labels, shares),
            reliability(labels, shares),
            float(shares.max(axis=1).mean()),
            float((shares.argmax(axis=1) == labels).mean()),
        )

    def cells(self) -> list[str]:
        """Loss, Brier score and calibration error as texts."""
        return [metric_value("loss", self.loss), f"{self.brier:.3f}", interval(*self.error)]

    def caution(self) -> str:
        """A sentence where the model is noticeably too sure or not sure enough, else ""."""
        if self.error.low < NOTICEABLE:
            return ""
        what = "too sure" if self.sure > self.right else "less sure than it could be"
        return (
            f"the model is {what}: its probabilities promise {percent(self.sure)} on average, and "
            f"{percent(self.right)} of the images are judged correctly"
        )


def trust(table: pd.DataFrame, temperature: float = 1, is_fitted_to_them: bool = True) -> list[Trust]:
    """Of what predict gives first, then, where a temperature was fitted, of the network's own probabilities.

    Where the temperature was fitted to these very images, the calibrated ones are cross-fitted: each image has the
    temperature of images that it is not among. Empty for fewer images than say anything.
    """
    labels, shares = label_numbers(table), probabilities_of(table)
    is_known = (labels >= 0) & np.isfinite(shares).all(axis=1)
    labels, shares = labels[is_known], shares[is_known]
    if len(labels) < LEAST:
        return []
    plain = Trust.of("as the network says", labels, shares)
    if temperature == 1:
        return [plain]
    calibrated = held_out(labels, shares, temperature) if is_fitted_to_them else at_temperature(shares, temperature)
    return [Trust.of("calibrated, as predict says", labels, calibrated), plain]
