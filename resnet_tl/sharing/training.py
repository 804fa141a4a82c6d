"""How a model was trained, and the report's verdict on it, from the run around it; no folder of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from resnet_tl.bundle import Bundle
from resnet_tl.evaluation.metrics import confusion
from resnet_tl.evaluation.words import duration
from resnet_tl.notebook import DAMAGED
from resnet_tl.report.baselines import judges
from resnet_tl.report.evidence import Evidence
from resnet_tl.report.facts import findings_of, is_solved
from resnet_tl.report.probabilities import trust
from resnet_tl.report.verdict import Verdict, verdict
from resnet_tl.run import Run

SETTINGS = {
    "model": (
        "head_solver",
        "head_hidden",
        "head_dropout",
        "label_smoothing",
        "focal_gamma",
        "mixup",
        "cutmix",
        "class_weights",
        "ema",
    ),
    "data": ("augmentation", "symmetry", "random_erasing", "image_size", "batch_size", "sampler"),
    "trainer": ("max_epochs", "precision"),
}
"""Those of a recipe that are worth a row where they are set; none of them names a place."""


def training_rows(run: Run | None, bundle: Bundle) -> list[tuple[str, str]]:
    """Names and values, as texts."""
    rows = [("precision", bundle.precision), ("made by", bundle.made_by)]
    if run is None:
        return [("recipe", "not kept in a bundle; a card of the whole run has it"), *rows]
    recipe, found = run.recipe, list[tuple[str, str]]()
    model = recipe.get("model", {})
    phases = model.get("schedule") or [model]
    with suppress(*DAMAGED):
        found.append(("what trained", ", then ".join(_phase(phase) for phase in phases)))
    of_steps = ("batch_size", "max_epochs") if is_solved(run) else ()  # a head that is solved takes none
    for section, names in SETTINGS.items():
        values = recipe.get(section, {})
        found += [(name, _text(values[name])) for name in names if _is_set(values.get(name)) and name not in of_steps]
    for name in ("optimizer", "lr_scheduler"):
        if isinstance(of := recipe.get(name), Mapping):
            arguments = of.get("init_args") or {}
            said = [f"{key} {_text(value)}" for key, value in arguments.items() if type(value) in (int, float)]
            found.append((name, f"{str(of.get('class_path', '')).rpartition('.')[2]} {', '.join(said)}".strip()))
    found.append(("seed", _text(recipe.get("seed"))))
    with suppress(*DAMAGED):
        if run.summary["best_epoch"] is not None:
            chosen = "penalty chosen" if is_solved(run) else "best epoch"
            found.append((chosen, f"{run.summary['best_epoch']} of {len(run.history)}, by {run.summary['monitor']}"))
        made = run.environment
        found.append(("time", duration(sum(made.get("seconds", {}).values()))))
        found.append(("device", str(made.get("device", ""))))
        found.append(("versions", ", ".join(f"{name} {of}" for name, of in made.get("packages", {}).items())))
        found.append(("begun", str(made.get("started", ""))[:10]))
    return [(name, text) for name, text in (*found, rows[1]) if text]


def verdict_of(run: Run) -> Verdict | None:
    """What the report of the run says first; None where the run has lost what that needs."""
    with suppress(*DAMAGED):
        split = next((split for split in ("val", "test") if split in run.summary["metrics"]), "")
        if not split:  # none was judged, as of a run on all images
            return None
        table = run.predictions(split)
        compared = judges(table, Evidence.of(run, split))
        calibration = run.summary.get("calibration", {})
        trusted = trust(table, calibration.get("temperature", 1), is_fitted_to_them=split == "val")
        tested = run.accuracies.get("test") if split == "val" else None
        return verdict(run, compared, split, tested, trusted, findings_of(run), confusion(table))
    return None


def _phase(phase: Mapping[str, Any]) -> str:
    """`the last 2 stages and the head for 10 epochs`."""
    stages = phase.get("trainable_stages", 1)
    mode = {
        "all": "the whole network",
        "head": "the head alone",
        "last_stages": f"the last {'stage' if stages == 1 else f'{stages} stages'} and the head",
    }[phase["mode"]]
    epochs = phase.get("epochs")
    return f"{mode} for {epochs} epoch{'s' * (epochs != 1)}" if isinstance(epochs, int) else mode


def _is_set(value: Any) -> bool:
    return value not in (None, 0, "", "none", "equal", "shuffled", "optimizer", [])


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
