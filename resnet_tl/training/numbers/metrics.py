"""Metrics of torchmetrics, computed once on the gathered predictions: equal on any number of processes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from resnet_tl.errors import UserError
from resnet_tl.training.numbers.predictions import Predictions
from resnet_tl.user_code import attempt, object_at, split

if TYPE_CHECKING:
    from torchmetrics import Metric

MetricSpecs = str | list[Any] | None


def named(specs: MetricSpecs) -> dict[str, Any]:
    """Each metric by its name in snake case, as it is logged behind `val_`; a second of the same name gets a number.

    They are `module.Name`, `{class_path, init_args}` or torchmetrics' own objects; UserError for anything else.
    """
    found: dict[str, Any] = {}
    for spec in specs if isinstance(specs, Sequence) and not isinstance(specs, str) else [specs] if specs else []:
        kind = split(spec, "model.metrics")[0] if isinstance(spec, str | dict) else type(spec).__name__
        name = snake_case(kind.rpartition(".")[2])
        found[name if name not in found else f"{name}_{sum(key.startswith(name) for key in found) + 1}"] = spec
    return found


def make_metric(spec: Any, classes: int) -> Metric:
    """One metric for so many classes, on the CPU; UserError where there is none, or it refuses its arguments.

    `num_classes` and `task` are passed where its signature has them and the recipe does not give them. The predictions
    are gathered already: it must not wait for other processes.
    """
    from torchmetrics import Metric

    if isinstance(spec, Metric):
        return spec
    if not isinstance(spec, str | dict):
        raise UserError(f"model.metrics has {spec!r}; it must be a metric of torchmetrics, or its dotted name.")
    path, arguments = split(spec, "model.metrics")
    kind = object_at(path, "model.metrics")
    takes = inspect.signature(kind).parameters if callable(kind) else {}
    known = {"num_classes": classes, "task": "multiclass", "sync_on_compute": False}
    has_options = any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values())
    given = {key: value for key, value in known.items() if key in takes or (key == "sync_on_compute" and has_options)}
    with torch.device("cpu"):
        metric = attempt(f"model.metrics: {path} cannot be made", lambda: kind(**{**given, **arguments}))
    if not isinstance(metric, Metric):
        raise UserError(f"model.metrics: {path} is no metric of torchmetrics.")
    return metric


def is_better_when_higher(specs: MetricSpecs, name: str) -> bool | None:
    """The metric's own `higher_is_better`; None where it has no such order."""
    return make_metric(named(specs)[name], classes=3).higher_is_better


def compute(specs: MetricSpecs, predictions: Predictions) -> dict[str, float]:
    """The numbers of all metrics on the labelled of some predictions; UserError where one gives no single number."""
    is_known = predictions.labels >= 0
    labels = torch.from_numpy(predictions.labels[is_known])
    probabilities = torch.from_numpy(predictions.probabilities[is_known]).float()
    return {
        name: _value(name, make_metric(spec, probabilities.shape[1]), probabilities, labels)
        for name, spec in named(specs).items()
    }


def snake_case(name: str) -> str:
    """`multiclass_cohen_kappa` for MulticlassCohenKappa, `f1_score` for F1Score, `auroc` for AUROC."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _value(name: str, metric: Metric, probabilities: Tensor, labels: Tensor) -> float:
    def compute() -> Any:
        metric.reset()
        is_binary = type(metric).__name__.startswith("Binary")
        return metric.cpu()(probabilities[:, 1] if is_binary else probabilities, labels)

    value = attempt(f"model.metrics: {name} cannot be computed", compute)
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise UserError(
            f"model.metrics: {name} gives no single number; take one that does, such as the average over the classes."
        )
    return float(value)
