"""Parity, size, start-up and speed of every export of some runs, beside `Predictor`, in one go.

    python benchmarks/export.py runs/freeze_backbone-1 [RUN ...] [--verify 2000] [--images 64] [--rounds 5]

Each run is exported in every way, and verified on its validation images as `resnet-tl export` does, but kept whatever
is found. Then all take turns: in each round each classifies the same images once, and a fresh process answers for one
image file by the consumer that lies beside each file. Medians over the rounds; "times ours" is the median of the ratios
within a round. All of it on one core, in seconds of the processor, so that what else the machine does changes little.

Raw rows begin with decoded images of their own sizes, tensor rows with the network's inputs in batches of 32.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

WAYS = (  # name, target, input, 8 bits, suffix
    ("onnxruntime", "onnx", "raw", False, ".onnx"),
    ("onnxruntime, 8 bits", "onnx", "raw", True, ".onnx"),
    ("torch.export", "torch_export", "raw", False, ".pt2"),
    ("onnxruntime", "onnx", "tensor", False, ".onnx"),
    ("torch.export", "torch_export", "tensor", False, ".pt2"),
    ("OpenVINO", "openvino", "tensor", False, ".xml"),
)
HEADER = (
    "| network | runtime | input | MB | same class | largest difference | accuracy | change in points "
    "| fresh process, s | images/s | times ours |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass
class Contestant:
    """One way to classify, and what was measured of it."""

    name: str
    kind: str  # of its input
    classify: Callable[[], Any]  # all the images
    command: list[str]  # a fresh process that classifies one file
    megabytes: float
    verification: Any = None
    seconds: list[float] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)


def timed(work: Callable[[], Any]) -> float:
    """Seconds of the processor that something takes, in this process and those that it starts."""

    def used() -> float:
        found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in found)

    before = used()
    work()
    return used() - before


def contestants(run: Path, verify_on: int, number: int, folder: Path) -> tuple[str, list[Contestant]]:
    """The name of a run's network, and all that classify its first images, once each has been verified."""
    import numpy as np
    import torch

    from resnet_tl.export.deployed import Deployed
    from resnet_tl.export.exporting import CALIBRATION_IMAGES
    from resnet_tl.export.facts import Facts
    from resnet_tl.export.targets import TARGETS, Order
    from resnet_tl.export.verification import decoded, judge_of, network_inputs, verify
    from resnet_tl.export.verification_images import VerificationImages, images_for, scaling_images
    from resnet_tl.inference.ensemble import open_model
    from resnet_tl.inference.predictor import Predictor
    from resnet_tl.notebook import network_name

    bundle, network = open_model(run)
    images = images_for(run, [], bundle.classes)
    scaling, _ = scaling_images(run, images, CALIBRATION_IMAGES)
    images = VerificationImages(images.index, *images.drawn(verify_on), images.source)
    paths = [images.index.path(int(row)) for row in images.drawn(number)[0]]
    planned = bundle.preprocessing
    photos = [decoded(path, planned) for path in paths]
    inputs = [planned.centre(planned.store(pixels)) for pixels in photos]
    batches = [torch.stack(inputs[start : start + 32]) for start in range(0, len(inputs), 32)]
    pixels = np.stack([image.permute(1, 2, 0).numpy() for image in inputs])
    predictor, judge = Predictor(run, device="cpu"), judge_of(bundle, network)
    command = ["-m", "resnet_tl", "predict", str(run.absolute()), str(paths[0]), "--output", str(folder / "ours.csv")]
    size = bundle.weights_file.stat().st_size / 1e6
    found = [
        Contestant("Predictor (ours)", "raw", lambda: predictor.predict(photos), command, size),
        Contestant("Predictor (ours)", "tensor", lambda: [judge(batch) for batch in batches], [], size),
    ]
    for place, (name, to, kind, int8, suffix) in enumerate(WAYS):
        target, file = TARGETS[to], folder / f"way{place}{suffix}"
        facts = Facts.of(bundle, kind, int8)  # type: ignore[arg-type]
        scaling_pixels = network_inputs(scaling, planned) if int8 else None
        for note in target.write(Order(Deployed(bundle, network), facts, scaling_pixels), file):
            print(f"{run.name}: {name}, {kind}: {note}")
        model = target.open(file)
        verification = verify(model, judge, images)
        print(f"{run.name}: {name}, {kind}: {verification.fault(kind, int8) or 'verified'}", flush=True)  # type: ignore[arg-type]
        consumer = file.with_suffix(".py")
        consumer.write_text(next(iter(target.consumers.values()))(facts, file.name), encoding="utf-8")
        size = sum(path.stat().st_size for path in (file, *map(file.with_suffix, target.parts))) / 1e6
        given = photos if kind == "raw" else pixels
        classify = partial(model.probabilities, given)
        found.append(Contestant(name, kind, classify, [str(consumer), str(paths[0])], size, verification))
    return network_name(bundle.network), found


def measure(found: list[Contestant], rounds: int) -> None:
    """Lets all take turns; the first turn, which warms up, does not count."""
    for number in range(rounds + 1):
        for one in found:
            seconds = timed(one.classify)
            one.seconds += [seconds] if number else []
        for one in found if number else ():
            if one.command:
                command = [sys.executable, *one.command]
                one.cold.append(timed(partial(subprocess.run, command, check=True, capture_output=True)))


def rows(network: str, found: list[Contestant], images: int) -> list[str]:
    """The table's rows of one network."""
    lines = []
    for one in found:
        ours = next(other for other in found if other.kind == one.kind)
        ratio = median(base / own for base, own in zip(ours.seconds, one.seconds, strict=True))
        parity = ["", "", "", ""]
        if one.verification:
            v = one.verification
            change = f"{100 * v.change.value:+.2f} [{100 * v.change.low:.2f}, {100 * v.change.high:.2f}]"
            accuracy = f"{v.correct_after / v.labelled:.4f}"
            parity = [f"{v.same} of {v.images}", f"{v.largest_difference:.1e}", accuracy, change]
        cells = [network, one.name, one.kind, f"{one.megabytes:.1f}", *parity]
        cells += [f"{median(one.cold):.2f}" if one.cold else "", f"{images / median(one.seconds):.0f}", f"{ratio:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Measures, and prints a table as it stands in docs/export_targets.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="runs whose images are at hand")
    parser.add_argument("--verify", type=int, default=2000, help="images that verify, at most; default: 2000")
    parser.add_argument("--images", type=int, default=64, help="that are timed; default: 64")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    if hasattr(os, "sched_setaffinity"):  # of what runtimes take for the number of cores
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

    from machine import machine

    lines = []
    for run in arguments.runs:
        with tempfile.TemporaryDirectory() as folder:
            network, found = contestants(run, arguments.verify, arguments.images, Path(folder))
            measure(found, arguments.rounds)
            lines += rows(network, found, arguments.images)
            print("\n".join([HEADER, *lines]), flush=True)
    facts, load = machine(), os.getloadavg()[0]
    print(f"\n1 of {facts['cores']} cores of {facts['processor']}, Python {facts['python']}; load {load:.1f}")


if __name__ == "__main__":
    main()
