"""A comparison in words and tables: plain sentences, Markdown to paste into a report, CSV."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from resnet_tl.evaluation.comparing.comparison import METRICS, Comparison, Group, Pair
from resnet_tl.evaluation.intervals import RESAMPLES, Estimate
from resnet_tl.evaluation.words import SPLITS, duration, interval, points
from resnet_tl.files import as_cell, replacing, write_text


def cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of groups; a column of which no run knows anything is left out."""
    texts: dict[str, Callable[[float], str]] = {"epochs": "{:g}".format, "training_seconds": duration}
    titles = {"multiply_adds": "multiply-adds", "training_seconds": "training", "images_per_second": "images/s"}
    rows = []
    for group in comparison.groups:
        row = {
            "run": group.name,
            "accuracy, %": interval(*group.accuracy, unit=""),
            "of the seeds, %": _seeds(group),
            "macro F1, %": interval(*group.macro_f1, unit=""),
            "loss": "{:.3f} [{:.3f}, {:.3f}]".format(*group.loss),
        }
        for name, value in group.costs.items():
            row[titles.get(name, name)] = "" if value is None else texts.get(name, _short)(value)
        rows.append(row)
    known = [name for name in rows[0] if any(row[name] for row in rows)]
    return known, [[row[name] for name in known] for row in rows]


def sentences(comparison: Comparison) -> list[str]:
    """What the images say about each pair."""
    return [_sentence(pair, comparison.images) for pair in comparison.pairs]


def method(comparison: Comparison, has_p: bool = True) -> str:
    """What the intervals and p-values are, and the word better; `has_p`: a p-value is shown with them."""
    several, pairs = comparison.has_seeds, comparison.pairs
    has_times = any(group.costs["training_seconds"] is not None for group in comparison.groups)
    parts = (
        f"{comparison.images:,} {SPLITS[comparison.split]} images of {len(comparison.classes)} classes.",
        "Metrics are means over the seeds." if several else "",
        "In brackets 95 % intervals: Wilson's for the accuracy of a single run, else a bias-corrected percentile "
        f"bootstrap of {RESAMPLES:,} resamples, paired by image"
        f"{', which draws the seeds again too' if several else ''}.",
        f"{'p' if has_p else 'Better'}: {'' if has_p else 'by '}McNemar's exact test, two-sided"
        f"{', of runs with the same seed, the largest' if several else ''}"
        f"{f', adjusted by Holm for {len(pairs)} pairs' if len(pairs) > 1 else ''}.",
        "Training time includes the validation after each epoch." if has_times else "",
        "Images needed: for a power of 80 % (Connor 1987)." if any(map(_tells_needed, pairs)) else "",
    )
    return " ".join(filter(None, parts))


def notes(comparison: Comparison) -> list[str]:
    """What the numbers do not cover."""
    found = [f"Careful: {warning}" for warning in comparison.warnings]
    first, *rest = [run for group in comparison.groups for run in group.runs]
    fingerprint = first.data_facts.get("fingerprint")
    others = [str(run.path) for run in rest if run.data_facts.get("fingerprint") != fingerprint]
    if others:
        found.append(
            f"The runs did not train on the same files, although they were judged on the same images: the data of "
            f"{', '.join(others)} differ from those of {first.path}."
        )
    if any(len(group.runs) == 1 for group in comparison.groups):
        found.append("The interval of a single run covers the choice of images, not what another seed would give.")
    if comparison.split == "val":
        found.append("The validation images also chose each run's best epoch, which flatters all runs a little.")
    return found


def markdown(comparison: Comparison) -> str:
    """Tables, sentences and notes for a report."""
    header, rows = cells(comparison)
    lines = [*_table(header, rows), "", *(f"- {sentence}" for sentence in sentences(comparison)), ""]
    if len(comparison.pairs) > 1:
        lines += [*_table(["pair", "difference, points", "p", "p (Holm)"], map(_pair_cells, comparison.pairs)), ""]
    has_p = len(comparison.pairs) > 1 or not comparison.pairs[0].is_decided
    text = "\n".join([*lines, method(comparison, has_p), *notes(comparison)]) + "\n"
    return re.sub(r"<(?=[a-zA-Z/!?])", "&lt;", text)  # Markdown takes HTML, and a run may be called like a tag


def group_table(comparison: Comparison) -> pd.DataFrame:
    """One row for each group, plain numbers: shares from 0 to 1, nats, seconds."""
    return pd.DataFrame(
        {
            "group": group.name,
            "runs": len(group.runs),
            "split": comparison.split,
            "images": comparison.images,
            **_columns(**{metric: getattr(group, metric) for metric in METRICS}),
            "accuracy_min": min(group.accuracies),
            "accuracy_max": max(group.accuracies),
            **group.costs,
        }
        for group in comparison.groups
    )


def pair_table(comparison: Comparison) -> pd.DataFrame:
    """One row for each pair of groups; the difference is a share, first minus second."""
    return pd.DataFrame(
        {
            "first": pair.first,
            "second": pair.second,
            **_columns(difference=pair.difference),
            "p_value": pair.p_value,
            "adjusted_p": pair.adjusted_p,
            "is_decided": pair.is_decided,
            "images_needed": pair.images_needed,
        }
        for pair in comparison.pairs
    ).astype({"images_needed": "Int64"})


def _columns(**estimates: Estimate) -> dict[str, float]:
    """`accuracy`, `accuracy_low`, `accuracy_high`, and so on."""
    return {
        f"{name}{end}": number
        for name, estimate in estimates.items()
        for end, number in zip(("", "_low", "_high"), estimate, strict=True)
    }


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Writes `comparison.csv`, `comparison_pairs.csv` and `comparison.md`, each whole or not at all."""
    for name, table in (("comparison", group_table(comparison)), ("comparison_pairs", pair_table(comparison))):
        with replacing(folder / f"{name}.csv") as file:
            table.map(as_cell).to_csv(file, index=False, lineterminator="\n", encoding="utf-8")
    write_text(folder / "comparison.md", markdown(comparison))


def p_text(p_value: float) -> str:
    """`p = 0.031`, `p < 0.001`."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"


def _sentence(pair: Pair, images: int) -> str:
    difference = interval(*pair.difference, unit=" points")
    if pair.is_decided:
        return f"{pair.first} is better than {pair.second} by {difference}."
    told = (
        f"{images:,} images cannot tell {pair.first} and {pair.second} apart: {difference}, {p_text(pair.adjusted_p)}"
    )
    if not _tells_needed(pair) or pair.images_needed is None:
        return f"{told}."
    needed = int(float(f"{pair.images_needed:.2g}"))  # 1,372 -> 1,400: the formula promises no more
    return f"{told}; it would take roughly {needed:,} images to see a difference of this size."


def _tells_needed(pair: Pair) -> bool:
    """Whether its sentence says how many images it would take."""
    return not pair.is_decided and pair.images_needed is not None


def _pair_cells(pair: Pair) -> list[str]:
    p_values = [p_text(p).removeprefix("p ").removeprefix("= ") for p in (pair.p_value, pair.adjusted_p)]
    return [f"{pair.first} − {pair.second}", interval(*pair.difference, unit=""), *p_values]


def _table(header: list[str], rows: Iterable[list[str]]) -> list[str]:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]


def _seeds(group: Group) -> str:
    """How far the seeds lie apart in accuracy: "3: 96.4 to 97.2"."""
    low, high = points(min(group.accuracies)), points(max(group.accuracies))
    return "" if len(group.runs) == 1 else f"{len(group.runs)}: {low} to {high}"


def _short(number: float) -> str:
    """62.0 k, 11.2 M, 1.81 G: three digits are enough to compare by."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:#.3g}".rstrip(".") + letter
    return f"{number:.3g}"
