"""Medians, ratios, table and plot of what `speed.py` measured."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from contestants import AGAIN, IMPORT, OURS


@dataclass(frozen=True)
class Measurement:
    """One process: see `processes.Cost` for its cost, and `peers/job.py` for its result."""

    contestant: str
    epochs: int
    repeat: int
    wall: float
    cpu: float
    memory: int
    load: float
    result: dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A contestant's medians.

    Args:
        wall, cpu: seconds of the whole process.
        walls: of each repeat; empty for an extrapolated row.
        accuracy: on the validation images after the last epoch that was run, 0 to 1; None without training.
        measured: the numbers of epochs that were run.
    """

    contestant: str
    wall: float
    cpu: float
    walls: list[float]
    memory: float
    images_per_second: float
    accuracy: float | None
    repeats: int
    measured: list[int]
    trained: str

    @property
    def is_extrapolated(self) -> bool:
        return len(self.measured) > 1


def read_measurements(file: Path) -> list[Measurement]:
    if not file.exists():
        return []
    return [Measurement(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]


def summarise(measurements: Sequence[Measurement], epochs: int, images: int) -> list[Row]:
    """A row for each contestant; where it ran for two other numbers of epochs, the line through both medians."""
    rows = []
    for contestant in dict.fromkeys(one.contestant for one in measurements):
        own = [one for one in measurements if one.contestant == contestant]
        lengths = sorted({one.epochs for one in own})
        longest = [one for one in own if one.epochs == lengths[-1]]
        wall, cpu = (
            _at(
                epochs,
                {length: median(getattr(one, name) for one in own if one.epochs == length) for length in lengths},
            )
            for name in ("wall", "cpu")
        )
        accuracies = [one.result["val_accuracy"] for one in longest if one.result]
        rows.append(
            Row(
                contestant=contestant,
                wall=wall,
                cpu=cpu,
                walls=[one.wall for one in longest] if len(lengths) == 1 else [],
                memory=median(one.memory for one in longest),
                images_per_second=epochs * images / wall if accuracies else 0.0,
                accuracy=median(accuracies) if accuracies else None,
                repeats=len(longest),
                measured=lengths,
                trained=describe(longest[0].result["trained"]) if accuracies else "",
            )
        )
    return rows


def _at(epochs: int, medians: Mapping[int, float]) -> float:
    if len(medians) == 1:
        return next(iter(medians.values()))
    (short, first), (long, second) = medians.items()
    return first + (epochs - short) * (second - first) / (long - short)


def describe(trained: Mapping[str, Any]) -> str:
    """`head; 537,984 parameters; BatchNorm below it: 20 of 20 trained, 20 of 20 counted`."""
    total = trained["batch_norms"]
    weights, statistics = trained["batch_norm_weights"], trained["batch_norm_statistics"]
    norms = f"{weights} of {total} trained, {statistics} counting" if weights or statistics else "untouched"
    return f"{' + '.join(trained['stages'])}; {trained['parameters']:,} parameters; BatchNorm {norms}"


HEADER = (
    "contestant",
    "wall s",
    "CPU s",
    "peak MiB",
    "images/s",
    "val accuracy",
    "wall × ours",
    "CPU × ours",
    "n",
    "what training changed",
)


def write_table(
    measurements: Sequence[Measurement], folder: Path, title: str, epochs: int, images: int, facts: Mapping[str, Any]
) -> list[Row]:
    """Writes table.md and table.csv, prints the former, and gives its rows."""
    rows = summarise(measurements, epochs, images)
    ours = next((row for row in rows if row.contestant == OURS), None)
    cells = [[str(cell) for cell in _cells(row, ours)] for row in rows]
    lines = [f"**{title}**", ""]
    lines += [f"- {name}: {_text(value)}" for name, value in facts.items()]
    lines += ["", f"| {' | '.join(HEADER)} |", "|" + "---|" * len(HEADER), *(f"| {' | '.join(row)} |" for row in cells)]
    lines += ["", *_notes(rows, measurements, epochs)]
    text = "\n".join(lines) + "\n"
    (folder / "table.md").write_text(text, encoding="utf-8")
    print(text)
    with (folder / "table.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([HEADER, *cells])
    return rows


def _cells(row: Row, ours: Row | None) -> list[object]:
    mark = "*" if row.is_extrapolated else ""
    spread = f" ({min(row.walls):.1f}–{max(row.walls):.1f})" if len(row.walls) > 1 else mark
    compared = ours is not None and row.trained
    return [
        row.contestant,
        f"{row.wall:.1f}{spread}",
        f"{row.cpu:.1f}{mark}",
        f"{row.memory / 2**20:.0f}",
        f"{row.images_per_second:.1f}{mark}" if row.images_per_second else "",
        "" if row.accuracy is None else f"{row.accuracy:.4f}{_after(row)}",
        f"{row.wall / ours.wall:.1f}{mark}" if ours and compared else "",
        f"{row.cpu / ours.cpu:.1f}{mark}" if ours and compared else "",
        row.repeats,
        row.trained,
    ]


def _after(row: Row) -> str:
    return f" after {row.measured[-1]}" if row.is_extrapolated else ""


def _notes(rows: Sequence[Row], measurements: Sequence[Measurement], epochs: int) -> list[str]:
    notes = [
        "Whole processes, start-up included; medians (range). Images/s: training images times epochs over wall time. "
        "Peak: the larger of the biggest process's peak and the highest proportional sum over the process tree."
    ]
    if extrapolated := next((row for row in rows if row.is_extrapolated), None):
        measured = " and ".join(map(str, extrapolated.measured))
        notes.append(f"\\* Extrapolated in a straight line to {epochs} epochs from runs of {measured} epochs.")
    by_name = {row.contestant: row for row in rows}
    if AGAIN in by_name and IMPORT in by_name:
        ratio = by_name[AGAIN].wall / by_name[IMPORT].wall
        notes.append(f"Another learning rate on the warm cache: {ratio:.2f} × `import lightning, torchvision`.")
    workers = sorted({one.result["workers"] for one in measurements if "workers" in one.result})
    threads = sorted({one.result["threads"] for one in measurements if "threads" in one.result})
    if workers:
        notes.append(f"Peers: {_text(threads)} torch threads, {_text(workers)} loader processes.")
    notes.append(f"Highest one-minute load before a run: {max(one.load for one in measurements):.2f}.")
    return notes


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def draw(rows: Sequence[Row], file: Path, title: str) -> None:
    """A bar of wall seconds for each contestant, the repeats as dots, on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = sorted(rows, key=lambda row: row.wall, reverse=True)
    figure, axes = plt.subplots(figsize=(8, 1.2 + 0.42 * len(rows)), layout="constrained")
    colours = ["tab:blue" if row.contestant in (OURS, AGAIN) else "lightgrey" for row in rows]
    names = [row.contestant + (" (extrapolated)" if row.is_extrapolated else "") for row in rows]
    axes.barh(names, [row.wall for row in rows], color=colours)
    for name, row in zip(names, rows, strict=True):
        axes.plot(row.walls, [name] * len(row.walls), "k.", markersize=4)
        behind = max([row.wall, *row.walls])  # the last dot
        axes.annotate(f"{row.wall:.1f} s", (behind, name), (6, 0), textcoords="offset points", va="center")
    axes.set_xscale("log")
    axes.set_xlim(1, max(row.wall for row in rows) * 3)
    axes.set_xlabel("wall time of the whole process [s]")
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=150)
    plt.close(figure)
