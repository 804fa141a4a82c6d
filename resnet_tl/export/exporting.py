"""An export from beginning to end: written, run in its own runtime, compared, and only then put in its place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from resnet_tl.bundle import Bundle
from resnet_tl.errors import UserError, nearest
from resnet_tl.export.consumers.texts import MARK
from resnet_tl.export.deployed import Deployed
from resnet_tl.export.extras import check_extra
from resnet_tl.export.facts import Facts, InputKind
from resnet_tl.export.targets import TARGETS, Order, Target
from resnet_tl.export.verification import NotVerified, Verification, judge_of, network_inputs, verify
from resnet_tl.export.verification_images import images_for, scaling_images
from resnet_tl.files import check_target, file_digest, replacing, write_text
from resnet_tl.inference.ensemble import open_model
from resnet_tl.networks.frozen import compute_type

CALIBRATION_IMAGES = 300
"""Training images by which the scales of whole numbers are chosen, and the better way of two."""


@dataclass(frozen=True)
class Exported:
    """What an export has written."""

    file: Path
    facts: Facts
    outputs: tuple[str, ...]
    verification: Verification
    beside: tuple[Path, ...]  # consumers and the verification
    notes: tuple[str, ...]  # sentences


def export(
    model: Path,
    file: Path,
    to: str = "onnx",
    kind: InputKind | None = None,
    with_features: bool = False,
    int8: bool = False,
    images: Sequence[str] = (),
) -> Exported:
    """Exports a run, a model bundle or a checkpoint to `file`, and verifies it on `images`, or on those of its run.

    Beside the file are written `FILE.verification.json` and the programs that use it without resnet-tl. A file that is
    there already is replaced when the new one is verified, and not before.

    Raises:
        NotVerified: the file does not say what the model says; nothing is left of it.
        UserError: it cannot be written, there is no such target, or nothing to verify it by.
    """
    target = target_of(to)
    check_target(file, target.suffix)
    kind = kind or target.inputs[0]
    if kind not in target.inputs:
        why = target.why_tensor or f"it must be {' or '.join(target.inputs)}."
        raise UserError(f"--input {kind} cannot be had with --to {to}: {why}")
    if int8 and not target.has_int8:
        able = " or ".join(name for name, one in TARGETS.items() if one.has_int8) or "none of them"
        raise UserError(f"--int8 cannot be had with --to {to}; those that can are {able}.")
    if target.extra:
        check_extra(target.extra, f"--to {to}")
    beside = {file.stem + ending: text for ending, text in target.consumers.items()}
    for name in beside:
        _check_consumer(file.with_name(name))
    for suffix in target.parts:
        if (part := file.with_suffix(suffix)).exists() and not file.exists():
            raise UserError(f"{part} is to be a part of {file}, but belongs to something else; rename one.")
    bundle, network = open_model(model)
    found = images_for(model, images, bundle.classes)
    scaling = None
    if int8:
        scaling, found = scaling_images(model, found, CALIBRATION_IMAGES)
    facts = Facts.of(bundle, kind, int8)
    deployed = Deployed(bundle, network, with_features)
    pixels = None if scaling is None else partial(network_inputs, scaling, bundle.preprocessing)
    order = Order(deployed, facts, pixels)
    with _folder_beside(file) as folder:
        notes = target.write(order, folder / file.name)
        verification = verify(target.open(folder / file.name), judge_of(bundle, network), found)
        if fault := verification.fault(kind, int8):
            is_raw = kind == "raw" and "tensor" in target.inputs and not int8
            way_out = "; --input tensor leaves resizing to the host" if is_raw else ""
            way_out = "; leave out --int8" if int8 else way_out
            raise NotVerified(
                f"{file} is not written, for {verification.runtime} does not say what the model says: {fault}{way_out}."
            )
        for name, text in beside.items():
            if content := text(facts, file.name):
                write_text(folder / name, content)
        report = f"{file.name}.verification.json"
        write_text(folder / report, _report(folder / file.name, facts, verification))
        others = sorted(path.name for path in folder.iterdir() if path.name != file.name)
        for name in (*others, file.name):  # the model last: where it is, all is
            with replacing(file.with_name(name)) as temporary:
                (folder / name).replace(temporary)
        for name in beside.keys() - set(others):  # of an earlier export, to which it belonged
            file.with_name(name).unlink(missing_ok=True)
    written = tuple(file.with_name(name) for name in others)
    return Exported(file, facts, deployed.output_names, verification, written, notes + _notes(target, bundle, kind))


def target_of(name: str) -> Target:
    """The target of a name; UserError for none."""
    if name not in TARGETS:
        raise UserError(f"--to is '{name}'; it must be {' or '.join(TARGETS)}.{nearest(name, TARGETS)}")
    return TARGETS[name]


@contextmanager
def _folder_beside(file: Path) -> Iterator[Path]:
    """An empty folder on the disk of `file`, which is gone at the end; a full disk is a UserError."""
    parent = next(folder for folder in file.absolute().parents if folder.exists())
    try:
        with TemporaryDirectory(dir=parent, prefix=f".{file.name}.") as folder:
            yield Path(folder)
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}; make room, or choose another place.") from error


def _check_consumer(path: Path) -> None:
    """Raises UserError for a file of the user's own where a consumer is to be."""
    if path.exists() and not (path.is_file() and MARK.encode() in path.read_bytes()[:200]):
        raise UserError(f"{path} is to be a program that uses the model, but is a file of another kind; rename one.")


def _report(file: Path, facts: Facts, verification: Verification) -> str:
    """What is kept of the verification."""
    size = {"bytes": file.stat().st_size, "sha256": file_digest(file)}
    known = {"input": facts.input, "int8": facts.int8, "bundle": facts.digest, "made_by": facts.made_by}
    return (
        json.dumps({"file": file.name, **size, **known, **verification.to_dict()}, indent=2, ensure_ascii=False) + "\n"
    )


def _notes(target: Target, bundle: Bundle, kind: InputKind) -> tuple[str, ...]:
    notes = []
    if kind == "tensor" and target.why_tensor:
        notes.append(target.why_tensor)
    if compute_type(bundle.precision, "cpu") != torch.float32:
        notes.append(
            f"`predict` computes this model in {bundle.precision.removesuffix('-mixed')}; the exported file, and what "
            "it was compared with, compute in 32 bits."
        )
    return tuple(notes)
