"""What a peer of `time_to_accuracy.py` is given, and what it leaves: predictions, and what each part of it took."""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass
class Task:
    """What to train.

    Args:
        photos: folder with train/CLASS/ and val/CLASS/.
        weights: .safetensors file with torchvision's key names.
        network: resnet18 or resnet50.
        size: side of the network's input in pixels.
        symmetry: mirror, or dihedral: what leaves a class unchanged.
        workers: processes that load images.
        tuned: use whatever the toolkit's documentation offers for speed.
        predictions: the CSV file to write; the same name with .json takes the times.
    """

    photos: Path
    weights: Path
    network: str
    epochs: int
    size: int
    symmetry: str
    workers: int
    seed: int
    tuned: bool
    predictions: Path
    laps: list[tuple[str, float]] = field(default_factory=list, init=False)

    def begin(self) -> None:
        """Work begins that takes the longer, the more images there are."""
        self._since = time.perf_counter()

    def lap(self, kind: str) -> None:
        """Such work has ended, and more of it begins; laps of one kind take equally long."""
        self.laps.append((kind, time.perf_counter() - self._since))
        print(f"{kind}: {self.laps[-1][1]:.1f} s", flush=True)
        self.begin()

    def write(self, files: Sequence[str | Path], classes: Sequence[str], probabilities: Any) -> None:
        """Writes the predictions of the validation images, (N, C) for N files in val/CLASS/."""
        import torch

        with self.predictions.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "label", *(f"prob_{name}" for name in classes)])
            for path, row in zip(map(Path, files), probabilities.tolist(), strict=True):
                writer.writerow([f"{path.parent.name}/{path.name}", path.parent.name, *row])
        facts = {"laps": self.laps, "threads": torch.get_num_threads(), "bf16": self.bf16}
        self.predictions.with_suffix(".json").write_text(json.dumps(facts) + "\n", encoding="utf-8")

    @property
    def bf16(self) -> bool:
        """Whether bfloat16 is asked for, and faster than float32 on this machine."""
        if not hasattr(self, "_bf16"):
            self._bf16 = self.tuned and _bf16_is_faster()
        return self._bf16


def read_task(description: str | None) -> Task:
    """The task of the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--symmetry", choices=["mirror", "dihedral"], default="mirror")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tuned", action="store_true")
    parser.add_argument("--predictions", type=Path, default=Path("predictions.csv"))
    return Task(**vars(parser.parse_args()))


def _bf16_is_faster() -> bool:
    """By a convolution of a ResNet: many CPUs emulate bfloat16, and are slower with it."""
    import torch
    from torch.nn.functional import conv2d

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    seconds = {dtype: float("inf") for dtype in (torch.float32, torch.bfloat16)}
    with torch.inference_mode():
        for _ in range(12):
            for dtype in seconds:
                images = torch.ones(8, 64, 28, 28, dtype=dtype).to(memory_format=torch.channels_last)
                weight = torch.ones(64, 64, 3, 3, dtype=dtype).to(memory_format=torch.channels_last)
                started = time.perf_counter()
                conv2d(images, weight, padding=1)
                seconds[dtype] = min(seconds[dtype], time.perf_counter() - started)
    return seconds[torch.bfloat16] < seconds[torch.float32] / 1.2
