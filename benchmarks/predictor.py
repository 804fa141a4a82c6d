"""How long `Predictor` takes for one image in memory or on disk, and what a cold `resnet-tl predict` costs.

    python benchmarks/predictor.py runs/freeze_backbone-1 photo.jpg

Prints, for one image at a time, the median and the 90th percentile of `--calls` calls of each way, in turn, beside the
bare network on the same tensor and beside decoding alone; then for a batch of 32; then the wall and CPU seconds of
whole processes, in turn, beside those of `import torch, torchvision`. Needs nothing but the run or bundle and an image.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image
from processes import Cost, measure

BATCH = 32


def main() -> None:
    """Measures one model on this machine's CPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--processes", type=int, default=7, help="cold processes of each kind; 0: none")
    arguments = parser.parse_args()
    print_times("one image", one_image(arguments.run, arguments.image), arguments.calls, 1)
    print_times(f"a batch of {BATCH}", a_batch(arguments.run, arguments.image), max(3, arguments.calls // 20), BATCH)
    if arguments.processes:
        print_cold(arguments.run, arguments.image, arguments.processes)


def one_image(run: Path, file: Path) -> dict[str, Callable[[], Any]]:
    """What is measured for a single image."""
    import torch

    from resnet_tl import Predictor
    from resnet_tl.data.pixels.decode import decode

    predictor = Predictor(run, device="cpu")
    member, content = predictor.ensemble.members[0], file.read_bytes()
    planned = member.bundle.preprocessing
    pixels, opened, prepared = decode(content, planned.channels), Image.open(file), predictor.prepare(file)
    network = member.bundle.load_network().to(memory_format=torch.channels_last)
    x = planned.normalise(prepared.seen[0])

    def bare() -> None:
        with torch.inference_mode():
            network(x)

    return {
        "the bare network, one image": bare,
        "decoding alone": lambda: decode(content, planned.channels, planned.storage_size),
        "prepare(path)": lambda: predictor.prepare(file),
        "judge": lambda: predictor.judge([prepared]),
        "prepare(bytes) and judge": lambda: predictor.judge([predictor.prepare(content)]),
        "predict(path)": lambda: predictor.predict(file),
        "predict(bytes)": lambda: predictor.predict(content),
        "predict(PIL image)": lambda: predictor.predict(opened),
        "predict(array)": lambda: predictor.predict(pixels),
    }


def a_batch(run: Path, file: Path) -> dict[str, Callable[[], Any]]:
    """What is measured for several images, the same one each time."""
    import torch

    from resnet_tl import Predictor
    from resnet_tl.data.pixels.decode import decode

    predictor = Predictor(run, device="cpu")
    member, content = predictor.ensemble.members[0], file.read_bytes()
    planned = member.bundle.preprocessing
    pixels = decode(content, planned.channels)
    network = member.bundle.load_network().to(memory_format=torch.channels_last)
    x = planned.normalise(predictor.prepare(file).seen[0]).repeat(BATCH, 1, 1, 1)

    def bare() -> None:
        with torch.inference_mode():
            network(x.contiguous(memory_format=torch.channels_last))

    return {
        "the bare network": bare,
        "predict(list of bytes)": lambda: predictor.predict([content] * BATCH),
        "predict(list of PIL images)": lambda: predictor.predict([Image.open(file) for _ in range(BATCH)]),
        "predict(list of arrays)": lambda: predictor.predict([pixels] * BATCH),
    }


def print_times(title: str, ways: Mapping[str, Callable[[], Any]], calls: int, images: int) -> None:
    """Each way in turn, so that a change of the machine's load meets all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for call in range(calls + 3):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if call >= 3:  # the first ones choose kernels
                seconds[name].append(time.perf_counter() - start)
    print(f"| {title}, {calls} calls | median, ms an image | 90th percentile |\n|---|---|---|")
    for name, found in seconds.items():
        high = sorted(found)[int(0.9 * len(found))]
        print(f"| {name} | {1000 * median(found) / images:.2f} | {1000 * high / images:.2f} |", flush=True)
    print()


def print_cold(run: Path, image: Path, processes: int) -> None:
    """Whole processes: medians of wall and CPU seconds, and their ratio to the first one's."""
    commands = {
        "import torch, torchvision": [sys.executable, "-c", "import torch, torchvision"],
        "resnet-tl predict": [sys.executable, "-m", "resnet_tl", "predict", str(run), str(image), "--device", "cpu"],
    }
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    with TemporaryDirectory() as folder:
        for _ in range(processes):
            for name, words in commands.items():
                costs[name].append(measure(words, Path(folder) / "log.txt"))
    print(f"| a cold process, {processes} of each | wall, s | CPU, s | of the first |\n|---|---|---|---|")
    first = median(cost.cpu for cost in costs["import torch, torchvision"])
    for name, found in costs.items():
        cpu = median(cost.cpu for cost in found)
        print(f"| {name} | {median(cost.wall for cost in found):.2f} | {cpu:.2f} | {cpu / first:.2f} |")


if __name__ == "__main__":
    main()
