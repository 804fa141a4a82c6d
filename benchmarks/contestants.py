"""The toolkits that `speed.py` compares: where each is installed, how it is started, what it reports."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PEERS = {
    "fastai": "fastai_learner.py",
    "timm": "timm_loop.py",
    "torchvision": "torchvision_loop.py",
    "lightning": "lightning_module.py",
}
OURS = "ours"
AGAIN = "ours again"
"""Ours once more with another learning rate, on the caches of the run before it."""
IMPORT = "import"
"""`import lightning, torchvision`, against which a run on warm caches is judged."""
IMPORT_COMMAND = "import lightning, torchvision"

PACKAGES = ("fastai", "timm", "lightning", "torchvision", "safetensors")
_MODES = {
    "head": ("head",),
    "stage4": ("last_stages", "--model.trainable_stages", "1"),
    "stages34": ("last_stages", "--model.trainable_stages", "2"),
    "all": ("all",),
}


@dataclass(frozen=True)
class Work:
    """What all contestants are given.

    Args:
        photos: folder with train/CLASS/ and val/CLASS/.
        weights: ImageNet weights of `network`, a .safetensors file with torchvision's key names.
        kind: head, stage4, stages34 or all.
        workers: processes that load images, of each peer; of ours by its own default.
        lr: the learning rate of `ours again`.
        options: further ones for ours.
    """

    photos: Path
    weights: Path
    network: str
    kind: str
    batch_size: int
    workers: int
    lr: float
    options: tuple[str, ...] = field(default=())


def peer_python(folder: Path) -> Path:
    """The Python of the peers' environment, which is made where it does not exist."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (folder / "complete").is_file():
        print(f"installing {', '.join(PACKAGES)} into {folder}: some minutes and 5 GB", flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        (folder / "complete").touch()
    return python


def peer_command(python: Path, peer: str, tuned: bool, work: Work, epochs: int, result: Path) -> list[str]:
    """Trains by a peer's script."""
    script = Path(__file__).parent / "peers" / PEERS[peer]
    command = [python, script, "--photos", work.photos, "--weights", work.weights, "--network", work.network]
    command += ["--work", work.kind, "--epochs", epochs, "--batch_size", work.batch_size, "--workers", work.workers]
    command += ["--result", result, *(["--tuned"] if tuned else [])]
    return [str(part) for part in command]


def our_command(python: Path, work: Work, epochs: int, run: Path, again: bool = False) -> list[str]:
    """Trains by `resnet-tl fit`, as a user does: no script in between."""
    command = [python.parent / "resnet-tl", "fit", "--run", run, "--data.root", work.photos]
    command += ["--data.batch_size", work.batch_size, "--model.network", work.network, "--model.weights", work.weights]
    command += ["--trainer.max_epochs", epochs, "--model.mode", *_MODES[work.kind], *work.options]
    command += ["--optimizer.lr", work.lr] if again else []
    return [str(part) for part in command]


def our_result(run: Path, weights: Path) -> dict[str, Any]:
    """What a peer's script reports, read from our run, which is then deleted: accuracy of the last epoch."""
    from peers.job import changes, checksums
    from safetensors.numpy import load_file

    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        last = list(csv.DictReader(file))[-1]
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    after = load_file(run / "model" / "weights.safetensors")
    after = {name.removeprefix("body."): tensor for name, tensor in after.items()}
    before = {name: tensor for name, tensor in load_file(weights).items() if not name.startswith("fc.")}
    result = {
        "val_accuracy": float(last["val_accuracy"]),
        "best_val_accuracy": summary["metrics"]["val"]["accuracy"],
        "trained": changes(checksums(before), after),
    }
    shutil.rmtree(run)
    return result


def versions(python: Path, packages: Sequence[str]) -> dict[str, str]:
    """Versions of the packages that are installed for this Python."""
    code = (
        "import importlib.metadata as m, json, sys\n"
        "print(json.dumps({d.name: d.version for d in m.distributions() if d.name in sys.argv[1:]}))"
    )
    return json.loads(subprocess.run([python, "-c", code, *packages], check=True, capture_output=True).stdout)
