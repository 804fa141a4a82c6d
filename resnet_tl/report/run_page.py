"""`report.html` of a run: everything that it holds on one page that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from resnet_tl.errors import UserError
from resnet_tl.files import write_text
from resnet_tl.report import facts
from resnet_tl.report.baselines import judges
from resnet_tl.report.charts import (
    bar_chart,
    heat_map,
    interval_chart,
    mark_of,
    point_map,
    reliability_diagram,
    write_svg,
)
from resnet_tl.report.evidence import Evidence
from resnet_tl.report.facts import Table
from resnet_tl.report.history import curves_of
from resnet_tl.report.images import MANY, Judged, lists_of, write_lists
from resnet_tl.report.pictures import Pictures
from resnet_tl.report.probabilities import trust
from resnet_tl.report.rendering import render
from resnet_tl.report.tables import bins_table, class_rows, numbers_table, parent_table
from resnet_tl.report.verdict import verdict
from resnet_tl.run import Run

MOST_POINTS = 2000


def write_report(run: Run, path: str | Path | None = None, shown: str | None = None) -> Path:
    """Writes the page of a finished run, in the run with its charts as SVG and lists of mistakes; gives where it is.

    Args:
        run: finished; what it lacks, such as validation images, the page lacks too, and says so.
        path: of the page, which alone is written then; default: `report.html` in the run.
        shown: how commands on the page name the run; default: its folder.

    Raises:
        UserError: the run is not finished or damaged, or the page cannot be written.
    """
    split = next((split for split in ("val", "test") if split in run.summary["metrics"]), None)
    page = {"run": run, "shown": shown or str(run.path), "split": split, **_facts(run, shown or str(run.path))}
    charts: dict[str, Markup] = {}
    if page["curves"]:
        charts |= page["curves"].charts
    pictures = Pictures([])
    if split:
        measured, pictures = _measured(run, split, page["findings"])
        page |= measured
        charts |= {f"{name}_{split}": chart for name, chart in measured["charts"].items()}
        if not path:
            write_lists(run, split, measured["judged"])
    for name, chart in charts.items() if not path else ():
        write_svg(chart, run.path / "figures" / f"{name}.svg")
    target = Path(path or run.report_file)
    write_text(target, render("run.html", pictures.css, pictures=pictures, **page) + "\n")
    return target


def _facts(run: Run, shown: str) -> dict[str, Any]:
    """What is known without a prediction."""
    seconds = facts.seconds_of(run)
    counted = facts.class_counts(run)
    return {
        "parent": run.final_of,
        "parent_numbers": parent_table(run.final_of),
        "folds": len(run.folds),
        "curves": curves_of(run),
        "data": facts.data_table(run),
        "counted": counted,
        "findings": facts.findings_of(run),
        "skipped": facts.skipped_of(run),
        "network": facts.network_table(run),
        "frozen": facts.frozen_table(run),
        "time": bar_chart("Time", seconds) if seconds else None,
        "time_table": Table(["what", "time"], [[name, text] for name, _, text in seconds]),
        "advice": run.environment.get("advice", ""),
        "environment": facts.environment_table(run),
        "recipe": run.recipe_file.read_text(encoding="utf-8"),
        "reproduce": facts.reproduce(run, shown),
        "commands": facts.commands(run, shown),
    }


def _measured(run: Run, split: str, findings: list[facts.Found]) -> tuple[dict[str, Any], Pictures]:
    """What the predictions of a split say, and the pictures of their images."""
    table = run.predictions(split)
    if not (table["label"] != "").any():
        raise UserError(f"{run.predictions_file(split)} has no labelled image, so that there is nothing to report.")
    evidence = Evidence.of(run, split)
    judged = Judged(table, evidence)
    compared = judges(table, evidence)
    calibration = run.summary.get("calibration", {})
    temperature = 1 if run.folds else calibration.get("temperature", 1)  # each fold has its own
    trusted = trust(table, temperature, is_fitted_to_them=split == "val")
    tested = run.accuracies.get("test") if split == "val" else None
    close = [compared[0], *compared[2:]] if len(compared) > 2 else compared  # the most common class is far off
    charts = {"accuracy": interval_chart("Accuracy", [(judge.title, judge.estimate) for judge in close])}
    charts["confusion"] = heat_map(
        judged.counts, judged.classes, lambda i, j: f"cell-{i}-{j}" if (i, j) in judged.listed else ""
    )
    if trusted:
        charts["reliability"] = reliability_diagram([(one.name, one.bins) for one in trusted])
    placed = _placed(table, evidence)
    if placed is not None:
        charts["map"] = _map(placed, judged.classes)
    pictures = Pictures(list(judged.wanted()), facts.bundle_of(run))
    page = {
        "verdict": verdict(run, compared, split, tested, trusted, findings, judged.counts),
        "accuracy": compared[0].accuracy,
        "numbers": numbers_table(run, split, compared),
        "compared": compared,
        "judged": judged,
        "evidence": evidence,
        "charts": charts,
        "placed": charts.get("map"),
        "marks": [mark_of(number) for number in range(len(judged.classes))] if placed is not None else [],
        "matrix": _matrix(judged) if len(judged.classes) <= MANY else None,
        "per_class": class_rows(table),
        "trust": trusted,
        "trust_table": Table(["", "loss", "Brier score", "calibration error"], [[t.name, *t.cells()] for t in trusted]),
        "bins": [bins_table(one) for one in trusted],
        "temperature": temperature,
        "has_calibration": bool(calibration),
        "lists": {name: file.relative_to(run.path).as_posix() for name, file in lists_of(run, split).items()},
        "places": None if placed is None else _places_table(placed),
    }
    return page, pictures


def _matrix(judged: Judged) -> list[tuple[str, list[tuple[int, int, str]]]]:
    """For each label its cells: count, shade from 0 to 10, anchor of the images behind it."""
    counts, rows = judged.counts, []
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for row, name in enumerate(judged.classes):
        cells = []
        for column, count in enumerate(counts[row].tolist()):
            shade = 0 if not count else max(1, round(10 * float(shares[row, column])))
            cells.append((count, shade, f"cell-{row}-{column}" if (row, column) in judged.listed else ""))
        rows.append((name, cells))
    return rows


def _map(placed: pd.DataFrame, classes: Sequence[str]) -> Markup:
    labels = np.array([classes.index(name) for name in placed["label"]])
    wrong = (placed["label"] != placed["predicted"]).to_numpy()
    names = [
        f"{row.id}: {row.label}" + (f", taken for {row.predicted}" if bad else "")
        for row, bad in zip(placed.itertuples(index=False), wrong, strict=True)
    ]
    return point_map(placed["x"].to_numpy(float), placed["y"].to_numpy(float), labels, classes, names, wrong)


def _placed(table: pd.DataFrame, evidence: Evidence) -> pd.DataFrame | None:
    """The labelled images of the table that have a place on the map."""
    if evidence.map is None or not evidence.map["id"].is_unique:
        return None
    columns = table.loc[table["label"] != "", ["id", "label", "predicted"]]
    placed = columns.merge(evidence.map, on="id").head(MOST_POINTS)
    return placed if len(placed) else None


def _places_table(placed: pd.DataFrame) -> Table:
    cells = placed.assign(x=placed["x"].map("{:.2f}".format), y=placed["y"].map("{:.2f}".format))
    rows = cells[["id", "label", "predicted", "x", "y"]].to_numpy(object).tolist()
    return Table(["image", "label", "predicted", "x", "y"], rows, has_numbers=False)
