"""How often the interval of `resnet-tl probe --learning_curve` holds what twice the training images bring.

    python benchmarks/learning_curve.py cats=/data/cats_dogs ants=/data/ants_bees --network resnet18 \\
        --weights resnet18.safetensors --sizes 60 120 400
    python benchmarks/learning_curve.py mnist=/data/mnist10k.zip cifar=/data/cifar10.zip --network resnet20

In each trial a curve is fitted to N training images and a few hundred that judge, all of them drawn; then a probe
learns from 2 N, and the images that are left over, 5,000 at most, judge how much better than that of N it is. Where the
interval holds this gain, the trial counts. The gain itself is known no better than the images that are left can tell:
the last column adds that error, as squares, to the width of the interval.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from resnet_tl import ImageClassifier, ImageDataModule
from resnet_tl.evaluation.learning_curve import fewest_images, fit_curve
from resnet_tl.finetuning.probes import choose_penalty, linear_logits
from resnet_tl.training.features import frozen_features
from resnet_tl.training.learning_curve import measure_errors, nested_order

JUDGES, MOST_LEFT = 300, 5000


def labelled_features(root: str, network: str, weights: str) -> tuple[Tensor, np.ndarray]:
    """Of all labelled images."""
    data = ImageDataModule(root=root, on_bad_image="skip")
    found = frozen_features(data, ImageClassifier(network, weights=weights, mode="head"))
    rows = np.sort(np.concatenate([data.index.rows("train"), data.index.rows("val")]))
    return found.of(rows), data.index.labels[rows]


def trial(x: Tensor, y: np.ndarray, size: int, seed: int) -> tuple[list[int], list[np.ndarray], float, float]:
    """What a curve is fitted to, the gain that twice the images bring, and its standard error."""
    order = nested_order(y, 1000 + seed)
    classes, judges = int(y.max()) + 1, min(JUDGES, (len(y) - 2 * size) // 2)
    pool, judge, left = np.split(order[: 2 * size + judges + MOST_LEFT], [2 * size, 2 * size + judges])
    half = pool[nested_order(y[pool], 2000 + seed)][:size]
    sizes, wrong = measure_errors(x[half], y[half], x[judge], y[judge], classes, np.arange(size))
    errors = []
    for rows in (half, pool):
        labels = torch.from_numpy(y[rows])
        penalty = choose_penalty(x[rows], labels, classes, np.arange(len(rows)))
        logits = linear_logits(x[rows], labels, penalty, classes, x[left])
        errors.append((logits.argmax(dim=1).numpy() != y[left]).astype(float))
    gain = errors[0] - errors[1]
    return sizes, wrong, float(gain.mean()), float(gain.std() / np.sqrt(len(gain)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", metavar="NAME=ROOT")
    parser.add_argument("--network", default="resnet20")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--sizes", nargs="+", type=int, default=[60, 120, 400, 1000])
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--keep", type=Path, help="folder for what was measured, from which a curve can be fitted")
    arguments = parser.parse_args()
    print("| images | N | trials | gain | expected | width of the interval | it held | counting the gain's error |")
    print("|---|---|---|---|---|---|---|---|")
    for given in arguments.data:
        name, _, root = given.partition("=")
        x, y = labelled_features(root, arguments.network, arguments.weights)
        for size in arguments.sizes:
            if 2 * size + 200 > len(y) or size < fewest_images(int(y.max()) + 1):
                continue
            gains, expected, widths, held, held_within_error = [], [], [], 0, 0
            for seed in range(arguments.trials):
                sizes, wrong, gain, error = trial(x, y, size, seed)
                if arguments.keep:
                    arguments.keep.mkdir(parents=True, exist_ok=True)
                    parts = {f"wrong{place}": one for place, one in enumerate(wrong)}
                    file = arguments.keep / f"{name}-{arguments.network}-{size}-{seed}.npz"
                    np.savez(file, sizes=sizes, gain=gain, error=error, **parts)
                value, low, high = fit_curve(sizes, wrong).gain()
                gains.append(gain)
                expected.append(value)
                widths.append(high - low)
                held += low <= gain <= high
                half = value - low if gain < value else high - value
                held_within_error += abs(gain - value) <= np.hypot(half, 1.96 * error)
            row = [name, f"{size:,}", str(arguments.trials)]
            row += [f"{100 * float(np.mean(values)):+.1f}" for values in (gains, expected)]
            row += [f"{100 * float(np.mean(widths)):.1f}", str(held), str(held_within_error)]
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
