"""How fast ResNet-20 trains on CIFAR-10 with us and in a plain torch loop, in images/s.

    python benchmarks/cifar_training.py --photos cifar10 --output runs/speed/cifar

Both read the same small files in class folders, batch size 128, the same network, crop and flip, on all cores. The
plain loop is torch's tutorial (peers/cifar_loop.py) in fp32, decoding each time or with decoded images in memory, with
and without loader processes; ours is the recipe `cifar10_backbone`, augmented as theirs, in its own precision and in
fp32. Each runs in a fresh process, repeats are interleaved, and the seconds of the second epoch count: training alone,
start-up and the first decoding left out (the first epoch stands beside it). Our validation within an epoch is left with
20 images. Writes table.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median

from machine import machine
from photo_folders import link_photos
from processes import measure

OURS = "ours"
PLAIN = {
    "plain loop, JPEG folder, 0 workers": ["--workers", "0"],
    "plain loop, JPEG folder, 2 workers": ["--workers", "2"],
    "plain loop, images in memory, 0 workers": ["--workers", "0", "--from_memory"],
    "plain loop, images in memory, 2 workers": ["--workers", "2", "--from_memory"],
}
OURS_VARIANTS = {OURS: [], "ours, fp32": ["--trainer.precision", "32-true"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="train/CLASS and test/CLASS")
    parser.add_argument("--output", type=Path, required=True, help="folder for the table and logs")
    parser.add_argument("--images", type=int, default=10_000, help="training images (default: 10000)")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    output: Path = arguments.output.absolute()
    output.mkdir(parents=True, exist_ok=True)
    images = link_photos(arguments.photos, output / "photos", (), arguments.images, 20)["train"]
    epochs: dict[str, list[list[float]]] = defaultdict(list)
    for repeat in range(arguments.repeats):
        for name, options in {**OURS_VARIANTS, **PLAIN}.items():
            train = our_epochs if name in OURS_VARIANTS else plain_epochs
            seconds = train(output, options)
            epochs[name].append(seconds)
            print(f"{repeat + 1}: {name}: {', '.join(f'{one:.2f}' for one in seconds)} s", flush=True)
    text = table({name: [[images / one for one in run] for run in runs] for name, runs in epochs.items()}, images)
    (output / "table.md").write_text(text, encoding="utf-8")
    print(text)


def our_epochs(output: Path, options: list[str]) -> list[float]:
    """Seconds of each epoch of a short fit with an empty cache."""
    run, cache = output / "run", output / "cache"
    for folder in (run, cache):
        shutil.rmtree(folder, ignore_errors=True)
    command = [Path(sys.executable).parent / "resnet-tl", "fit", "--recipe", "cifar10_backbone.yaml", "--run", run]
    command += ["--data.augmentation", "shift"]
    command += ["--data.root", output / "photos", "--trainer.max_epochs", "2", *options]
    measure([str(part) for part in command], output / "ours.txt", {"RESNET_TL_CACHE": str(cache)})
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return [float(line["seconds"]) for line in csv.DictReader(file)]


def plain_epochs(output: Path, options: list[str]) -> list[float]:
    """Seconds of each epoch of the plain loop."""
    result = output / "plain.json"
    script = Path(__file__).parent / "peers" / "cifar_loop.py"
    command = [sys.executable, script, "--photos", output / "photos", "--result", result, *options]
    measure([str(part) for part in command], output / "plain.txt")
    return json.loads(result.read_text(encoding="utf-8"))


def table(rates: dict[str, list[list[float]]], images: int) -> str:
    """A row for each way to train, from images/s by run and epoch."""
    facts = machine()
    ours = median(run[1] for run in rates[OURS])
    lines = [
        f"{facts['processor']}, {facts['cores']} cores; {images} images, medians of {len(rates[OURS])}",
        "",
        "| | images/s, 2nd epoch (range) | 1st epoch | ours × |",
        "|---|---|---|---|",
    ]
    for name, runs in rates.items():
        second = [run[1] for run in runs]
        spread = f"{median(second):.0f} ({min(second):.0f}–{max(second):.0f})"
        lines.append(f"| {name} | {spread} | {median(run[0] for run in runs):.0f} | {ours / median(second):.2f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
