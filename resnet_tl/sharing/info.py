"""What a model says of itself: a run, a bundle, a zip of one, or an exported ONNX file, without loading it.

`model_facts` are for programs, plain values; `lines_of` are the same for people.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from resnet_tl.bundle import Bundle
from resnet_tl.bundle_zip import is_bundle_zip
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.errors import UserError, listed
from resnet_tl.evaluation.accuracy import Accuracy
from resnet_tl.evaluation.words import NAMES, SPLITS, counted, metric_name, metric_value
from resnet_tl.files import file_digest
from resnet_tl.notebook import DAMAGED, kept_accuracies, network_name
from resnet_tl.run import Run

COLOURS = {1: "a grey image", 3: "a colour image", 4: "a colour image with transparency"}
MOST_CLASSES = 20
"""That are named in a line."""


def model_facts(path: str | Path) -> dict[str, Any]:
    """All that is known of a model, as plain values; `damaged` are sentences on files that are not what they should be.

    UserError where there is no model, or what it says of itself cannot be read.
    """
    path = Path(path)
    if path.suffix.lower() == ".onnx":
        return _of_onnx(path)
    if path.suffix == ".ckpt":
        raise UserError(f"{path} is a checkpoint, which only torch can read: give the run that it belongs to.")
    bundle = Bundle.open(path)
    files, damaged = _files(bundle)
    known = ("classes", "network", "precision", "weights", "metrics", "calibration", "validation", "data", "reference")
    accuracies = accuracies_of(bundle)
    return {
        "name": name_of(path),
        "kind": "zip" if is_bundle_zip(path) else "bundle" if bundle.path == path else "run",
        "path": str(path),
        **{name: getattr(bundle, name) for name in known},
        "preprocessing": bundle.preprocessing.to_dict(),
        "accuracy": {split: accuracy.facts() for split, accuracy in accuracies.items()},
        "files": files,
        "damaged": damaged,
        "checked": "all files are those that model.json was written with",
        "made_by": bundle.made_by,
        **_of_run(run_around(path, bundle)),
    }


def damages(bundle: Bundle) -> list[str]:
    """What of a bundle is missing, or is not the file that `model.json` was written with, as clauses."""
    return _files(bundle)[1]


def name_of(path: Path) -> str:
    """What a model is called: its run, its folder, or its file without the suffix."""
    place = path.absolute()
    if place.is_file():
        return place.stem
    place = place.parent if place.name == "model" else place
    part = {"folds": "fold", "trials": "trial"}.get(place.parent.name)  # whose own name is a number alone
    return f"{place.parent.parent.name}-{part}-{place.name}" if part else place.name


def accuracies_of(bundle: Bundle) -> dict[str, Accuracy]:
    """The accuracy of a bundle on each split; on `val` that of the run which it repeats, where it has none itself."""
    found: dict[str, Accuracy] = {}
    with suppress(*DAMAGED):
        found = kept_accuracies(bundle)
    if "val" not in found:
        with suppress(*DAMAGED):
            judged = bundle.load_validation()
            found = {"val": Accuracy.of_numbers(judged["labels"], judged["predicted"], bundle.classes), **found}
    return found


def run_around(path: Path, bundle: Bundle) -> Run | None:
    """The complete run that a bundle was opened by, or that its file or folder lies in; None where there is none."""
    run = Run(path if bundle.path != path else path.parent)
    with suppress(*DAMAGED):
        return run if run.is_complete and run.bundle.digest == bundle.digest else None
    return None


def _of_run(run: Run | None) -> dict[str, Any]:
    """What the run around a bundle knows besides: when and by which versions it was made, parameters."""
    with suppress(*DAMAGED):
        if run:
            made = {name: run.environment.get(name) for name in ("started", "device", "packages", "python")}
            return {"parameters": run.summary["network"]["parameters"], "trained": made}
    return {}


def _files(bundle: Bundle) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Bytes and SHA-256 of each file; and what is missing, or is not what `model.json` says, as clauses."""
    written = {bundle.weights_file.name: bundle.digest}
    for file, of in ((bundle.validation_file, bundle.validation), (bundle.reference_file, bundle.reference)):
        written |= {file.name: of.get("digest", "")} if of else {}
    found = {}
    for name, size in bundle.sizes().items():
        found[name] = {"bytes": size, "sha256": hashlib.sha256(bundle.read(name)).hexdigest()}
    wrong = [name for name, digest in written.items() if name in found and found[name]["sha256"] != digest]
    missing = [f"{name} is missing" for name in written if name not in found]
    return found, [f"{name} is not the file that model.json was written with" for name in wrong] + missing


def _of_onnx(path: Path) -> dict[str, Any]:
    """What an exported file says; its graph is passed over."""
    from resnet_tl.export.facts import KEY, Facts
    from resnet_tl.sharing.onnx_metadata import onnx_metadata

    if not path.is_file():
        raise UserError(f"{path} does not exist; give a run, a model bundle, or an ONNX file that export has written.")
    metadata = onnx_metadata(path)
    if KEY not in metadata:
        raise UserError(f"{path} says nothing of its classes: it was not written by `resnet-tl export`.")
    facts = Facts.from_json(metadata[KEY], path)
    digest, beside, written = file_digest(path), path.with_name(f"{path.name}.verification.json"), ""
    with suppress(OSError, *DAMAGED):
        written = json.loads(beside.read_bytes())["sha256"]
    checked = f"it is the file that {beside.name} was written with"
    if not written:
        checked = f"nothing says whether it is whole: beside it lies no {beside.name} with its digest"
    return {
        "name": path.stem,
        "kind": "onnx",
        "path": str(path),
        **vars(facts),
        "preprocessing": facts.preprocessing.to_dict(),
        "files": {path.name: {"bytes": path.stat().st_size, "sha256": digest}},
        "damaged": [f"it is not the file that {beside.name} was written with"] * (written not in ("", digest)),
        "checked": checked,
    }


def lines_of(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The facts as pairs of a name and a text."""
    classes, weights = facts["classes"], facts["weights"]
    parameters = f", {facts['parameters']:,} parameters" if facts.get("parameters") else ""
    found = [
        ("model", f"{facts['name']}, {_kind(facts)}"),
        ("network", f"{network_name(facts['network'])}{parameters}"),
        ("classes", f"{len(classes):,}: {listed(classes, MOST_CLASSES)}"),
        ("sees", preprocessing_words(Preprocessing.from_dict(facts["preprocessing"]))),
        ("began with", f"{weights.get('source') or 'unknown weights'}, licence: {weights.get('licence') or 'none'}"),
        ("trained on", _trained_on(facts)),
    ]
    for split, kept in facts.get("accuracy", {}).items():
        found.append((SPLITS.get(split, split), _measured(kept, facts["metrics"].get(split, {}), facts["validation"])))
    found.append(("calibration", calibration_words(facts["calibration"])))
    if facts.get("reference"):
        found.append(("unfamiliar", "images that look like no training image are told apart"))
    made = facts.get("trained", {})
    when, where = made.get("started"), ", ".join(f"{name} {of}" for name, of in (made.get("packages") or {}).items())
    found.append(("made by", ", ".join(filter(None, [facts["made_by"], when and f"begun {when}", where]))))
    sizes = [f"{name} {size_words(file['bytes'])}" for name, file in facts["files"].items()]
    found.append(("files", ", ".join(sizes)))
    found.append(("checked", "; ".join(facts["damaged"]) or facts["checked"]))
    return [(name, text) for name, text in found if text]


def preprocessing_words(seen: Preprocessing) -> str:
    """`the middle 224 × 224 pixels of a colour image whose short side is made 256 pixels (bilinear)`."""
    side, crop = seen.storage_size, seen.crop_size
    whole = seen.resize_rule == "squash"
    image = f"{COLOURS[seen.channels]} {'stretched to' if whole else 'whose short side is made'} "
    image += f"{side} × {side} pixels" if whole else f"{side} pixels"
    part = image if whole and crop == side else f"the middle {crop} × {crop} pixels of {image}"
    return f"{part}{f', made {seen.size} × {seen.size}' if crop != seen.size else ''} ({seen.interpolation})"


def calibration_words(calibration: Mapping[str, Any]) -> str:
    """How the probabilities were made as often right as they say."""
    if not calibration:
        return "none: the probabilities are the network's own"
    loss, images = metric_value("loss", calibration["loss"]), counted(calibration["images"], "validation image")
    if calibration["temperature"] == 1:
        return f"none needed: by {images} no temperature was better (loss {loss})"
    before = metric_value("loss", calibration["loss_before"])
    return (
        f"logits are divided by {calibration['temperature']:.2f}; by that the loss of {images} is "
        f"{loss} instead of {before}"
    )


def size_words(size: int) -> str:
    """`44.8 MB`."""
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"


def _kind(facts: Mapping[str, Any]) -> str:
    if facts["kind"] == "onnx":
        pixels = "images of any size" if facts["input"] == "raw" else "images as its consumer resizes them"
        return f"an ONNX file for {pixels}{', in 8 bits' if facts['int8'] else ''}"
    return {"run": "a run", "zip": "a model bundle in one zip", "bundle": "a model bundle"}[facts["kind"]]


def _trained_on(facts: Mapping[str, Any]) -> str:
    data, text = facts["data"], ""
    with suppress(*DAMAGED):
        text = f"{counted(sum(data['counts']['train'].values()), 'image')} of {data['root']}"
        text += f", fingerprint {data['fingerprint'][:16]}" if data.get("fingerprint") else ""
    return text


def _measured(kept: Mapping[str, Any], metrics: Mapping[str, float], validation: Mapping[str, Any]) -> str:
    accuracy = Accuracy.from_facts(kept)
    others = [name for name in NAMES if name in metrics and name != "accuracy"]
    said = "".join(f", {metric_name(name)} {metric_value(name, metrics[name])}" for name in others)
    repeats = "; by the run that this one repeats" if not metrics and validation.get("repeats") else ""
    return f"accuracy {accuracy} of {counted(accuracy.images, 'image')}{said}{repeats}"
