"""What every peer is asked to train, and how it reports what came of it."""

from __future__ import annotations

import argparse
import json
import math
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LAYERS = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")
"""Of a ResNet, in order and by torchvision's and timm's names; the head follows."""

FROZEN = {"head": LAYERS, "stage4": LAYERS[:5], "stages34": LAYERS[:4], "all": ()}
"""The layers that each work leaves alone."""

# The same layers by their place in nn.Sequential(*resnet.children()), where 2 and 3 are the ReLU and the max pool.
_STAGES = {"conv1": "stem", "bn1": "stem", "0": "stem", "1": "stem"}
_STAGES |= {f"layer{i}": f"stage {i}" for i in range(1, 5)} | {str(i + 3): f"stage {i}" for i in range(1, 5)}


@dataclass(frozen=True)
class Job:
    """What to train.

    Args:
        photos: folder with train/CLASS/ and val/CLASS/.
        weights: .safetensors file with torchvision's key names.
        network: resnet18 or resnet50.
        work: a key of FROZEN.
        workers: processes that load images.
        tuned: use whatever the toolkit's documentation offers for speed.
        result: the JSON file to write.
    """

    photos: Path
    weights: Path
    network: str
    work: str
    epochs: int
    batch_size: int
    workers: int
    tuned: bool
    result: Path

    def report(self, val_accuracy: float, before: dict[str, int], after: Mapping[str, Any], body: str = "") -> None:
        """Writes the result: accuracy of the last epoch (0 to 1) and what changed since `before` (see `checksums`)."""
        import torch

        result = {
            "val_accuracy": float(val_accuracy),
            "trained": changes(before, after, body),
            "threads": torch.get_num_threads(),
            "workers": self.workers,
        }
        self.result.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def read_job(description: str | None) -> Job:
    """The job of the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--work", choices=list(FROZEN), default="head")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--tuned", action="store_true")
    parser.add_argument("--result", type=Path, default=Path("result.json"))
    return Job(**vars(parser.parse_args()))


def checksums(tensors: Mapping[str, Any]) -> dict[str, int]:
    """A checksum of each tensor of a state dict, so that a peer need not keep a second copy of its network."""
    import numpy as np

    return {name: zlib.crc32(np.ascontiguousarray(tensor)) for name, tensor in tensors.items()}


def changes(before: Mapping[str, int], after: Mapping[str, Any], body: str = "") -> dict[str, Any]:
    """What training changed, in numbers; a tensor that `before` lacks (a new head) counts as changed.

    Args:
        before: checksums of the pretrained network.
        after: the trained network's state dict, under the same names.
        body: what the names of the backbone begin with where the head lies beside it, such as `backbone.`.
    """
    checks = checksums(after)
    changed = {name for name in after if checks[name] != before.get(name)}
    norms = {name.removesuffix(".running_mean") for name in after if name.endswith(".running_mean")}
    in_body = {norm for norm in norms if _stage(norm, body) != "head"}
    learnt = {name for name in changed if name.endswith((".weight", ".bias"))}
    return {
        "parameters": sum(math.prod(after[name].shape) for name in learnt),
        "stages": sorted({_stage(name, body) for name in learnt if name.rpartition(".")[0] not in in_body}, key=_order),
        "batch_norms": len(in_body),
        "batch_norm_weights": sum(f"{norm}.weight" in changed for norm in in_body),
        "batch_norm_statistics": sum(f"{norm}.running_mean" in changed for norm in in_body),
    }


def _stage(name: str, body: str) -> str:
    if not name.startswith(body):
        return "head"
    return _STAGES.get(name.removeprefix(body).split(".")[0], "head")


def _order(stage: str) -> tuple[bool, str]:
    return (stage == "head", "" if stage == "stem" else stage)
