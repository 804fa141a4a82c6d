"""The model beside simple ones on the same images, so that training that did not help is said to be just that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from resnet_tl.evaluation.accuracy import Accuracy
from resnet_tl.evaluation.comparison import paired_change
from resnet_tl.evaluation.folds import intervals
from resnet_tl.evaluation.intervals import Estimate
from resnet_tl.evaluation.metrics import compute_metrics
from resnet_tl.evaluation.predictions import classes_of, probabilities, table_of
from resnet_tl.evaluation.words import interval, percent
from resnet_tl.report.evidence import BASELINES, Evidence

TITLES = {"majority": "most common class", "knn": "nearest neighbours", "probe": "linear probe"}
"""At the head of a column."""


@dataclass(frozen=True)
class Judge:
    """A model, or what it is compared with, on the labelled images of a split."""

    title: str  # at the head of a column
    said: str  # in a sentence
    accuracy: Accuracy
    metrics: dict[str, float]
    intervals: dict[str, list[float]]  # of loss and macro F1
    lead: Estimate | None = None  # of the model over this one, in accuracy, paired by image

    @property
    def estimate(self) -> Estimate:
        """The accuracy."""
        return Estimate(self.accuracy.share, self.accuracy.low, self.accuracy.high)


def judges(table: pd.DataFrame, evidence: Evidence) -> list[Judge]:
    """The model of a prediction table first, then its baselines on the same images; the table has labelled images."""
    labelled = table[table["label"] != ""]
    own = Accuracy.of(labelled)
    found = [Judge("this model", "this model", own, compute_metrics(labelled), intervals(labelled))]
    others = {"majority": _majority(labelled, own.most_common)}
    others |= {name: same for name in BASELINES if (same := _same(evidence.baselines.get(name), labelled)) is not None}
    for name, other in others.items():
        lead, _ = paired_change(labelled, other)
        said = BASELINES.get(name, f"always saying {own.most_common}")
        metrics = {} if name == "majority" else compute_metrics(other)
        bounds = {} if name == "majority" else intervals(other)
        found.append(Judge(TITLES[name], said, Accuracy.of(other), metrics, bounds, lead))
    return found


def beside_the_best(found: Sequence[Judge], is_head: bool) -> str:
    """A clause on the model and the best of its baselines: better, worse, or not told apart."""
    best = max(found[1:], key=lambda judge: judge.accuracy.share)
    assert best.lead is not None
    than, points = f"{best.said} ({percent(best.accuracy.share)})", " points"
    can_help = not is_head and best.said in BASELINES.values()  # beside what the network knew before
    if best.lead.low > 0:
        return f"better than {than} by {interval(*best.lead, unit=points)}"
    if best.lead.high < 0:
        behind = interval(-best.lead.value, -best.lead.high, -best.lead.low, unit=points)
        return f"worse than {than} by {behind}" + (": fine-tuning did not help" if can_help else "")
    if best.lead == (0, 0, 0):
        return f"the same as {than}"
    told = f"not told apart from {than}: {interval(*best.lead, unit=points)}"
    return told + (", so that fine-tuning is not shown to help" if can_help else "")


def _majority(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """What one who always says the most common class would predict."""
    classes = classes_of(table)
    shares = np.zeros((len(table), len(classes)))
    shares[:, classes.index(name)] = 1
    return table_of(table["id"].tolist(), table["path"].tolist(), None, shares, classes).assign(
        label=table["label"].to_numpy(object)
    )


def _same(table: pd.DataFrame | None, labelled: pd.DataFrame) -> pd.DataFrame | None:
    """A baseline's table of the very same images, labels and classes; None of any other, which compares nothing."""
    if table is None or set(classes_of(table)) != set(classes_of(labelled)) or not table["id"].is_unique:
        return None
    if not set(labelled["id"]) <= set(table["id"]) or not np.isfinite(probabilities(table)).all():
        return None
    same = table.set_index("id").loc[labelled["id"]].reset_index()
    return same if (same["label"].to_numpy() == labelled["label"].to_numpy()).all() else None
