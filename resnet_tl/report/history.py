"""The learning curves of a run: its epochs as charts and as a table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup

from resnet_tl.evaluation.words import metric_name, metric_value
from resnet_tl.report.charts import Line, line_chart
from resnet_tl.report.facts import Table, is_solved
from resnet_tl.run import Run

PANELS = {"Loss": ("train_loss", "val_loss"), "Accuracy, %": ("train_accuracy", "val_accuracy")}
MOST_ROWS = 200


@dataclass(frozen=True)
class Curves:
    """Loss and accuracy over the epochs."""

    charts: dict[str, Markup]  # by the name of a file
    note: str
    table: Table
    of_table: str  # what its rows are


def curves_of(run: Run) -> Curves | None:
    """None where no epoch was written."""
    if not (run.path / "metrics.csv").is_file() or run.history.empty:
        return None
    history, best = run.history, run.summary["best_epoch"]
    solved, charts = is_solved(run), {}
    x_title = "penalty, from strong to weak" if solved else "epoch"
    for title, columns in PANELS.items():
        scale = 100 if title.startswith("Accuracy") else 1
        lines = []
        for column in columns:
            if column not in history:
                continue
            known = history.loc[np.isfinite(history[column]), ["epoch", column]]  # all but those of a fit that diverged
            if len(known):
                points = zip(known["epoch"].astype(float), known[column].astype(float) * scale, strict=True)
                lines.append(Line(metric_name(column).split()[0], tuple(points), column.startswith("val_")))
        if lines:
            marked = (float(best), f"kept: {best}") if best else None
            chart = line_chart(title, lines, "{:g}".format, x_title=x_title, marked=marked, phases=_phases(history))
            charts[f"{title.split(',')[0].lower()}_curve"] = chart
    if not charts:
        return None
    note = ""
    if solved:
        note = f"The head was solved for one penalty after another; the {'best' if best else 'last'} of them was kept."
    if run.folds:
        note = f"Means over the folds. {note}".strip()
    shown = [name for name in history.columns if name != "step"]
    last = history[shown].tail(MOST_ROWS).to_numpy(object).tolist()
    rows = [[_cell(name, value) for name, value in zip(shown, row, strict=True)] for row in last]
    what = "penalty" if solved else "epoch"
    of_table = f"Every {what}" if len(rows) == len(history) else f"The last {len(rows)} of {len(history):,} {what}s"
    return Curves(charts, note, Table([metric_name(name).replace("_", " ") for name in shown], rows), of_table)


def _phases(history: pd.DataFrame) -> list[tuple[float, str]]:
    """The first epoch of each phase, where there are several."""
    if "phase" not in history or history["phase"].nunique() < 2:
        return []
    starts = history[history["phase"] != history["phase"].shift()]
    return [(float(epoch), str(name)) for epoch, name in zip(starts["epoch"], starts["phase"], strict=True)]


def _cell(name: str, value: object) -> str:
    if isinstance(value, float):
        return metric_value(name, value) if name.startswith(("train_", "val_")) else f"{value:.4g}"
    return str(value)
