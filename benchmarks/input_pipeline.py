"""How many training batches per second and core the input pipeline makes, beside PIL and torchvision's ImageFolder.

    python benchmarks/input_pipeline.py FOLDER

FOLDER holds one folder of photos per class. Both sides make batches of 32 network-ready images of 224 pixels: random
resized crop, flip, normalised float32. ImageFolder decodes its files each time; ours were decoded and resized once,
which is not counted, and come out of the pixel cache. One thread, CPU seconds, medians of interleaved rounds.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torchvision import transforms
from torchvision.datasets import ImageFolder

from resnet_tl.cli.keep_freed_memory import keep_freed_memory
from resnet_tl.data.content_hashes import hashes_and_headers
from resnet_tl.data.pixels.augmentation import CROP_SCALE, Augmentation
from resnet_tl.data.pixels.pixel_cache import PixelCache, keep_pixels
from resnet_tl.data.pixels.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from resnet_tl.data.reading.layouts import read_images
from resnet_tl.data.samples import ImageSamples

BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="one folder of photos per class")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as `resnet-tl fit` does; it serves both sides

    with TemporaryDirectory() as kept:
        ways = {"ImageFolder": image_folder(arguments.folder), "resnet-tl": from_cache(arguments.folder, Path(kept))}
        speeds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(arguments.rounds):
            for name, make_batch in ways.items():
                speeds[name].append(images_per_second(make_batch, batches=4 if name == "ImageFolder" else 40))
    print("| pipeline | images/s per core: median (range) |\n|---|---|")
    for name, measured in speeds.items():
        print(f"| {name} | {np.median(measured):,.0f} ({min(measured):,.0f}-{max(measured):,.0f}) |")
    print(f"\nratio of the medians: {np.median(speeds['resnet-tl']) / np.median(speeds['ImageFolder']):.1f}")


def image_folder(folder: Path) -> Callable[[int], torch.Tensor]:
    steps = [
        transforms.RandomResizedCrop(224, scale=CROP_SCALE),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
    ]
    images = ImageFolder(str(folder), transforms.Compose(steps))
    order = np.random.default_rng(0).permutation(len(images))
    return lambda number: torch.stack([images[row][0] for row in np.take(order, _places(number), mode="wrap")])


def from_cache(folder: Path, kept: Path) -> Callable[[int], torch.Tensor]:
    preprocessing = Preprocessing(size=224, storage_size=256, crop_size=224)
    index = read_images(folder)
    contents = hashes_and_headers(index)[0]
    os.environ["RESNET_TL_CACHE"] = str(kept)
    stored = keep_pixels(index, contents, preprocessing, np.zeros((len(index), 2), np.int32), contents)
    if stored is None:
        raise SystemExit(f"{kept} has no room for the decoded images.")
    cache = PixelCache(stored, contents, preprocessing.channels)
    samples = ImageSamples(index, preprocessing, Augmentation("light", preprocessing, seed=0), cache)
    order = np.random.default_rng(0).permutation(len(index))

    def make_batch(number: int) -> torch.Tensor:
        rows = np.take(order, _places(number), mode="wrap")
        return preprocessing.normalise(samples.batch(rows, view=number)["image"])

    return make_batch


def _places(number: int) -> np.ndarray:
    return np.arange(number * BATCH, (number + 1) * BATCH)


def images_per_second(make_batch: Callable[[int], torch.Tensor], batches: int) -> float:
    make_batch(0)
    started = time.process_time()
    for number in range(batches):
        assert make_batch(number).shape == (BATCH, 3, 224, 224)
    return BATCH * batches / (time.process_time() - started)


if __name__ == "__main__":
    main()
