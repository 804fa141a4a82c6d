"""What a run's files say of its images, of what trained, of the time and of the machine, as tables and sentences."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import join, quote
from typing import Any

import pandas as pd

from resnet_tl.bundle import Bundle
from resnet_tl.data.quality.findings import KINDS, Kind, counts
from resnet_tl.errors import UserError, listed
from resnet_tl.evaluation.words import SPLITS, duration
from resnet_tl.files import from_cell
from resnet_tl.run import Run
from resnet_tl.timing import NAMES

LEAKS = ("leak", "near_leak", "group_in_two_splits")
"""Kinds of findings that make a validation look better than it is."""
MOST_ROWS = 20


@dataclass(frozen=True)
class Table:
    """A table of texts; all columns but the first hold numbers unless it says otherwise."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    has_numbers: bool = True


@dataclass(frozen=True)
class Found:
    """One kind of finding in the images."""

    kind: Kind
    number: int
    table: Table  # the first ones


def data_table(run: Run) -> Table:
    """Where the images came from and what they are."""
    facts, seen = run.data_facts, run.recipe.get("data", {})
    images = {split: sum(of.values()) for split, of in facts["counts"].items()}
    rows = [
        ["folder", facts["root"]],
        ["layout", facts["layout"]],
        ["images", ", ".join(f"{number:,} {SPLITS.get(split, split)}" for split, number in images.items())],
        ["classes", f"{len(facts['classes'])}"],
        ["short side, median", f"{facts['short_side_median']} px" if facts.get("short_side_median") else ""],
        ["the network's input", f"{seen['image_size']} px" if isinstance(seen.get("image_size"), int) else ""],
        ["left out as unusable", f"{facts['skipped']:,}" if facts.get("skipped") else ""],
        ["fingerprint of the files", facts.get("fingerprint", "")],
    ]
    return Table((), [row for row in rows if row[1]], has_numbers=False)


def class_counts(run: Run) -> Table:
    """Images of each class in each split."""
    of = run.data_facts["counts"]
    rows = [[name, *(f"{of[split].get(name, 0):,}" for split in of)] for name in run.data_facts["classes"]]
    return Table(["class", *(SPLITS.get(split, split) for split in of)], rows)


def findings_of(run: Run) -> list[Found]:
    """What `data check` found, the gravest first."""
    file = run.path / "data" / "findings.csv"
    if not file.is_file():
        return []
    table = _texts(file, ("path", "finding", "detail", "partner"))
    table = table[table["finding"].isin(list(KINDS))]
    found = []
    for kind, number in counts(table).items():
        rows = table.loc[table["finding"] == kind, ["path", "detail", "partner"]].head(MOST_ROWS).to_numpy().tolist()
        found.append(Found(KINDS[kind], number, Table(["image", "what", "other image"], rows, has_numbers=False)))
    return found


def leaks_of(found: Sequence[Found]) -> int:
    """Findings that make a validation look better than it is."""
    return sum(one.number for one in found if any(KINDS[name] is one.kind for name in LEAKS))


def skipped_of(run: Run) -> tuple[int, Table] | None:
    """How many images were left out, and the first ones with the reason."""
    file = run.path / "data" / "skipped.csv"
    if not file.is_file():
        return None
    table = _texts(file, ("path", "reason")).map(from_cell)
    rows = table[["path", "reason"]].head(MOST_ROWS).to_numpy().tolist()
    return len(table), Table(["image", "why"], rows, has_numbers=False)


def network_table(run: Run) -> Table:
    """The network, and the weights that training began with."""
    model, network = run.recipe.get("model", {}), run.summary["network"]
    bundle = bundle_of(run)
    weights = bundle.weights if bundle else {}
    rows = [
        ["network", str(network["name"])],
        ["parameters", f"{network['parameters']:,}"],
        ["multiply-adds of an image", f"{network['multiply_adds']:,}"],
        ["weights at the start", str(weights.get("source") or "random") if bundle else "not known: the model is gone"],
        ["their licence", str(weights.get("licence") or "")],
        ["optimizer", _class_path(run.recipe.get("optimizer"))],
        ["augmentation", str(run.recipe.get("data", {}).get("augmentation") or "")],
        ["head", "solved, not trained by steps" if is_solved(run) else ""],
        ["monitored", str(model.get("monitor") or "")],
    ]
    return Table((), [row for row in rows if row[1]], has_numbers=False)


def bundle_of(run: Run) -> Bundle | None:
    """The model, of a run of folds the first one; None where it is gone or cannot be read."""
    try:
        return (run.folds or [run])[0].bundle
    except UserError:
        return None


def frozen_table(run: Run) -> Table | None:
    """For each phase what trained and what was frozen, with the digest that proves it; of folds the first one's."""
    file = (run.folds or [run])[0].path / "freezing.json"
    if not file.is_file():
        return None
    rows = []
    try:
        for proof in json.loads(file.read_text(encoding="utf-8")):
            frozen = sorted(proof["frozen"], key=lambda stage: (stage != "stem", stage))
            digest = f"the same before and after: SHA-256 {proof['sha256'][:12]}…" if frozen else ""
            rows.append([f"{proof['phase'] + 1}", proof["mode"], listed(frozen) or "nothing", digest])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged: {error}.") from None
    return Table(["phase", "what trained (mode)", "what was frozen", "proof"], rows, has_numbers=False)


def is_solved(run: Run) -> bool:
    """Whether the head was solved: its epochs are penalties, from the strongest to the weakest, and not rounds."""
    solver = run.recipe.get("model", {}).get("head_solver")
    history = (run.folds or [run])[0].history
    return solver == "lbfgs" and "learning_rate" in history and not history["learning_rate"].any()


def seconds_of(run: Run) -> list[tuple[str, float, str]]:
    """What the time went into, the largest part first, without what is next to nothing: name, seconds, text."""
    spent: Mapping[str, float] = run.environment.get("seconds", {})
    total = sum(spent.values()) or 1
    rows = sorted(((part, value) for part, value in spent.items() if value > 0.005 * total), key=lambda part: -part[1])
    names = {str(part): name for part, name in NAMES.items()}
    return [(names.get(part, part), value, duration(value)) for part, value in rows]


def environment_table(run: Run) -> Table:
    """The machine, the versions, and the command."""
    facts = run.environment
    packages = ", ".join(f"{name} {version}" for name, version in facts.get("packages", {}).items())
    rows = [
        ["begun", facts.get("started", "")],
        ["command", join(map(str, facts.get("command", [])))],
        ["device", facts.get("device", "")],
        ["precision", facts.get("precision", "")],
        ["processes", f"{facts.get('processes', 1)}"],
        ["platform", facts.get("platform", "")],
        ["Python", facts.get("python", "")],
        ["resnet-tl", facts.get("resnet_tl", "")],
        ["packages", packages],
    ]
    return Table((), [row for row in rows if row[1]], has_numbers=False)


def commands(run: Run, shown: str) -> list[tuple[str, str]]:
    """What one may type next, and what it does."""
    run_name, recipe = quote(shown), run.recipe.get("data", {})
    found = [(f"resnet-tl predict {run_name} IMAGES", "classify images of your own")]
    if not run.final_of and run.summary["metrics"]:
        found.append((f"resnet-tl validate {run_name} --tta mirror", "see whether averaging over mirror images helps"))
    if not recipe.get("final") and not recipe.get("fold") and "val" in run.summary["metrics"]:
        found.append((f"resnet-tl fit --final {run_name}", "train once more, on train and validation images together"))
    sample = f"resnet-tl submit {run_name} --images FOLDER --sample SAMPLE.csv -o submission.csv"
    return [*found, (sample, "write a Kaggle submission that fits its sample file")]


def reproduce(run: Run, shown: str) -> str:
    """The command that repeats the run."""
    return f"resnet-tl fit --recipe {quote(str(Path(shown) / 'recipe.yaml'))}"


def _texts(file: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Columns of a CSV file of texts; UserError where it is damaged."""
    try:
        return pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8")[list(columns)]
    except KeyError as error:
        raise UserError(f"{file} is damaged: it has no column {error}.") from None
    except ValueError as error:
        raise UserError(f"{file} is damaged: {error}.") from None


def _class_path(setting: Any) -> str:
    if not isinstance(setting, dict):
        return ""
    values = setting.get("init_args", {})
    rate = f", learning rate {values['lr']:g}" if isinstance(values.get("lr"), int | float) else ""
    return str(setting.get("class_path", "")).rpartition(".")[2] + rate
