"""How many wrong labels are found: some of a data set's are flipped, and `data suspects` is to say which.

    python benchmarks/label_noise.py /data/cats_dogs /data/plant_seedlings --weights resnet18.safetensors

Labels are flipped in memory, to any other class or between the two classes that are confused most; then all is done on
the same features and folds. Beside ours stand a label that is not the most probable class, and cleanlab's
`find_label_issues` with its defaults; both have the probabilities of plain logistic regression, the penalty chosen by
the held-out loss, and, as a second row, ours. A ranking has its found labels first, each by self-confidence. The labels
that come with the data count as right, so that their own errors, where they are found, count as false. Means over the
seeds; intervals by a bootstrap over the images.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from cleanlab.filter import find_label_issues
from torch import Tensor

from resnet_tl import ImageClassifier, ImageDataModule
from resnet_tl.data.splits import deal
from resnet_tl.evaluation.intervals import image_resamples
from resnet_tl.evaluation.labels.label_errors import prune_by_both, self_confidence
from resnet_tl.evaluation.labels.label_noise import rate_interval
from resnet_tl.evaluation.labels.suspects import LIKELY
from resnet_tl.finetuning.logistic import penalty_path, solve_path
from resnet_tl.training.probing.features import frozen_features
from resnet_tl.training.probing.out_of_fold import PENALTIES, out_of_fold

FOLDS, RESAMPLES = 5, 400
OURS, THEIRS = "`data suspects`", "cleanlab"


class Found(NamedTuple):
    """What a method says of each image (N,): its place, from the most suspicious, and whether it is suspect."""

    order: np.ndarray
    suspect: np.ndarray


def found(confidence: np.ndarray, suspect: np.ndarray) -> Found:
    """Suspects first, both parts by self-confidence."""
    return Found(np.lexsort((confidence, ~suspect)), suspect)


def plain(features: Tensor, labels: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Out-of-fold probabilities of logistic regression, under the penalty with the smallest held-out loss."""
    classes, given = int(labels.max()) + 1, torch.from_numpy(labels)
    held = {part: torch.from_numpy(parts == part) for part in range(FOLDS)}
    penalties = penalty_path(PENALTIES)
    paths = {part: solve_path(features[~rows], given[~rows], penalties, classes=classes) for part, rows in held.items()}
    best, least = np.empty(0), np.inf
    for _ in penalties:
        logits = torch.zeros(len(labels), classes)
        for part, rows in held.items():
            solution = next(paths[part])
            logits[rows] = F.linear(features[rows], solution.weight, solution.bias)
        if (loss := float(F.cross_entropy(logits, given))) >= least:
            break
        best, least = torch.softmax(logits.double(), dim=1).numpy(), loss
    return best


def flipped(labels: np.ndarray, share: float, pair: tuple[int, int] | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The labels, some of them another class's, and which (N,) bool; of a pair the share of their images alone."""
    generator, classes = np.random.default_rng(seed), int(labels.max()) + 1
    pool = np.arange(len(labels)) if pair is None else np.flatnonzero(np.isin(labels, pair))
    rows = generator.choice(pool, round(share * len(pool)), replace=False)
    noisy = labels.copy()
    noisy[rows] = (labels[rows] + generator.integers(1, classes, len(rows))) % classes
    if pair is not None:
        noisy[rows] = np.where(labels[rows] == pair[0], pair[1], pair[0])
    return noisy, noisy != labels


def average_precision(order: np.ndarray, is_wrong: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The area under precision over recall of each resample, (B,), for weights (B, N)."""
    weights = weights[:, order]
    hits = weights * is_wrong[order]
    precision = np.cumsum(hits, axis=1) / np.maximum(np.cumsum(weights, axis=1), 1)
    return (precision * hits).sum(axis=1) / np.maximum(hits.sum(axis=1), 1)


def most_confused(labels: np.ndarray, probabilities: np.ndarray) -> tuple[int, int]:
    """Two classes, by the number of images of one that are taken for the other."""
    classes = probabilities.shape[1]
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (labels, probabilities.argmax(axis=1)), 1)
    both = np.triu(counts + counts.T, 1)
    one, other = np.unravel_index(both.argmax(), both.shape)
    return int(one), int(other)


def measure(root: str, network: str, weights: str, size: int | None, seeds: int, say: Callable[[str], None]) -> None:
    """A table for one data set."""
    data = ImageDataModule(root=root, on_bad_image="skip", image_size=size)
    features = frozen_features(data, ImageClassifier(network, weights=weights, mode="head"))
    index = data.index
    rows = np.sort(np.concatenate([index.rows(split) for split in ("train", "val", "test")]))
    labels, x = index.labels[rows], features.of(rows)
    started = time.perf_counter()
    parts = [deal(index, rows, FOLDS, seed, data.dataset.clusters) for seed in range(seeds)]
    noise = out_of_fold(x, labels, parts[0])
    seconds = time.perf_counter() - started
    low, high = rate_interval(labels, noise.probabilities)
    pair = most_confused(labels, noise.probabilities)
    names = [index.classes[number] for number in pair]
    accuracy = (noise.probabilities.argmax(axis=1) == labels).mean()
    say(f"\n{index.root.name}, {network}, {data.preprocessing.size} px: {len(rows)} images")
    say(f"out-of-fold accuracy {accuracy:.1%}, {seconds:.1f} s on kept features")
    say(f"labels as they come: {(noise.wrong > LIKELY).sum()} suspects, rate {noise.rate:.1%} [{low:.1%}, {high:.1%}]")
    say("\n| flipped | method | area under PR | P = R at k | P, own cut | R, own cut | rate found |")
    say("|---|---|---|---|---|---|---|")
    for share in (0.05, 0.2):
        for of in (None, pair) if len(index.classes) > 2 else (None,):
            where = "uniformly" if of is None else f"{names[0]} / {names[1]}"
            of_seeds = [judge(x, labels, parts[seed], share, of, seed) for seed in range(seeds)]
            for line in lines(f"{share:.0%} {where}", of_seeds):
                say(line)


class Outcome(NamedTuple):
    """What a method found of the labels that were flipped with one seed."""

    areas: np.ndarray  # under precision over recall, (1 + RESAMPLES,), the first of the images as they are
    at_k: float
    precision: float  # of its own cut
    recall: float


def judge(
    x: Tensor, labels: np.ndarray, parts: np.ndarray, share: float, pair: tuple[int, int] | None, seed: int
) -> tuple[dict[str, Outcome], tuple[float, float, float, float]]:
    """The outcome of each method, and of the share of wrong labels: ours, its interval, and the true one."""
    noisy, is_wrong = flipped(labels, share, pair, seed)
    noise, simple = out_of_fold(x, noisy, parts), plain(x, noisy, parts)
    own, confidence = self_confidence(noisy, noise.probabilities), self_confidence(noisy, simple)
    methods = {
        OURS: found(own, noise.wrong > LIKELY),
        THEIRS: found(confidence, find_label_issues(noisy, simple, n_jobs=1)),
        "cleanlab, our probabilities": found(own, find_label_issues(noisy, noise.probabilities, n_jobs=1)),
        "the same, pruned by both": found(own, prune_by_both(noisy, noise.probabilities)),
        "argmax is not the label": found(confidence, simple.argmax(axis=1) != noisy),
    }
    resamples = np.concatenate([np.ones((1, len(labels))), *image_resamples(len(labels), RESAMPLES, seed)])
    outcomes = {}
    for name, method in methods.items():
        hits, at_k = (is_wrong & method.suspect).sum(), is_wrong[method.order[: is_wrong.sum()]].mean()
        areas = average_precision(method.order, is_wrong, resamples)
        outcomes[name] = Outcome(areas, at_k, hits / max(1, method.suspect.sum()), hits / is_wrong.sum())
    return outcomes, (noise.rate, *rate_interval(noisy, noise.probabilities), float(is_wrong.mean()))


def lines(title: str, of_seeds: list[tuple[dict[str, Outcome], tuple[float, float, float, float]]]) -> list[str]:
    """The lines of one kind of noise, means over the seeds."""
    found = []
    areas = {name: np.mean([outcomes[name].areas for outcomes, _ in of_seeds], axis=0) for name in of_seeds[0][0]}
    rates = [rates for _, rates in of_seeds]
    for name, area in areas.items():
        low, high = np.quantile(area[1:], [0.025, 0.975])
        text = f"{area[0]:.3f} [{low:.3f}, {high:.3f}]"
        if name == THEIRS:
            low, high = np.quantile((areas[OURS] - area)[1:], [0.025, 0.975])
            text += f"; ours {areas[OURS][0] - area[0]:+.3f} [{low:+.3f}, {high:+.3f}]"
        at_k, precision, recall = np.mean([outcomes[name][1:] for outcomes, _ in of_seeds], axis=0)
        rate = ""
        if name == OURS:
            held = sum(low <= true <= high for _, low, high, true in rates)
            mean, *_, true = np.mean(rates, axis=0)
            rate = f"{mean:.1%} of {true:.1%}, in {held} of {len(rates)} intervals"
        found.append(f"| {title} | {name} | {text} | {at_k:.2f} | {precision:.2f} | {recall:.2f} | {rate} |")
    return found


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roots", nargs="+")
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--image_size", type=int)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    for root in arguments.roots:
        measure(
            root,
            arguments.network,
            arguments.weights,
            arguments.image_size,
            arguments.seeds,
            lambda line: print(line, flush=True),
        )


if __name__ == "__main__":
    main()
