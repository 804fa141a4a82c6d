"""How often prediction sets hold the class, how large they are, and what a temperature does to them and to the loss.

    python benchmarks/coverage.py cats_dogs --network resnet18 --weights resnet18.safetensors
    python benchmarks/coverage.py --source seedlings_sample

Features are computed once. `--heads` times half of the images train a head; the others are divided `--divisions` times:
half of them validate, which chooses the penalty, the temperature and the thresholds, as a fit does, and half test.
Printed are means over all divisions and, in brackets, where 95 % of them lie; `expected` is k / (n + 1), the mean of
the Beta law, which bare sets would have on average if the validation had chosen nothing else.
"""

from __future__ import annotations

import argparse
from collections import defaultdict

import numpy as np
import torch
import torch.nn.functional as F

from resnet_tl import ImageClassifier, ImageDataModule
from resnet_tl.evaluation.calibration import at_temperature, calibrate
from resnet_tl.evaluation.conformal import images_for_coverage, prediction_sets, rank, thresholds
from resnet_tl.evaluation.judged import Judged
from resnet_tl.evaluation.metrics import image_losses
from resnet_tl.evaluation.predictions import prediction_table, softmax
from resnet_tl.finetuning.defaults import PENALTIES
from resnet_tl.finetuning.logistic import penalty_path, solve_path
from resnet_tl.training.features import frozen_features

COVERAGES = (0.9, 0.95, 0.99)
WAYS = ("before", "temperature", "per class")


def logits_of_heads(x: torch.Tensor, y: torch.Tensor, order: np.ndarray, classes: int) -> np.ndarray:
    """Those of the half that trains no head, for each penalty: (penalties, images, classes)."""
    train, rest = np.array_split(order, 2)
    path = solve_path(x[train], y[train], penalty_path(PENALTIES), classes=classes)
    return np.stack([F.linear(x[rest], found.weight, found.bias).numpy() for found in path])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", help="a folder of images")
    parser.add_argument("--source", help="a known data set in its place")
    parser.add_argument("--network", default="auto")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--heads", type=int, default=20)
    parser.add_argument("--divisions", type=int, default=5)
    weakest = "take the weakest penalty and not the best one: a network that is too sure"
    parser.add_argument("--weakest", action="store_true", help=weakest)
    options = parser.parse_args()
    data = ImageDataModule(options.root, source=options.source, augmentation="none", on_bad_image="skip", workers=0)
    model = ImageClassifier(options.network, weights=options.weights, mode="head")
    features = frozen_features(data, model)
    rows = np.sort(np.concatenate([data.index.rows(split) for split in ("train", "val")]))
    x, y = features.of(rows), torch.from_numpy(data.index.labels[rows])
    classes = list(data.index.classes)
    values, worst = defaultdict[tuple, list](list), defaultdict[tuple, list](list)
    for head in range(options.heads):
        order = np.random.default_rng(head).permutation(len(y))
        logits, labels = logits_of_heads(x, y, order, len(classes)), y[np.array_split(order, 2)[1]].numpy()
        logits = logits[-1:] if options.weakest else logits
        for division in range(options.divisions):
            shuffled = np.random.default_rng([head, division]).permutation(len(labels))
            one_division(logits, labels, *np.array_split(shuffled, 2), classes, values, worst)
    report(len(y), x.shape[1], len(classes), values, worst)


def one_division(
    logits: np.ndarray,
    labels: np.ndarray,
    validates: np.ndarray,
    tests: np.ndarray,
    classes: list[str],
    values: dict[tuple, list],
    worst: dict[tuple, list],
) -> None:
    """Adds what this division gives to `values`, and the coverage of each class to `worst`."""
    losses = [image_losses(labels[validates], softmax(found[validates])).mean() for found in logits]
    chosen = logits[int(np.argmin(losses))]
    names = [str(row) for row in validates]
    table = prediction_table(names, names, labels[validates], chosen[validates], classes)
    facts = calibrate(table)
    shares = softmax(chosen[tests])
    hot = at_temperature(shares, facts["temperature"])
    before, after = (image_losses(labels[tests], found).mean() for found in (shares, hot))
    values["accuracy"].append((shares.argmax(axis=1) == labels[tests]).mean())
    values["temperature"].append(facts["temperature"])
    values["told"].append((facts["loss_before"], facts["loss"]))
    values["loss"].append((before, after))
    values["images"].append((len(validates), len(tests)))
    known = {"before": Judged.of_validation(table)}
    known["temperature"] = known["per class"] = Judged.of_validation(table, facts["temperature"])
    for coverage in COVERAGES:
        for way in WAYS:
            judged = known[way]
            few = np.bincount(judged.labels, minlength=len(classes)).min() if way == "per class" else len(judged)
            if few < images_for_coverage(coverage):
                continue
            limits = thresholds(judged, classes, coverage, per_class=way == "per class")
            sets = prediction_sets(shares if way == "before" else hot, limits)
            is_in = sets[np.arange(len(tests)), labels[tests]]
            shown = np.bincount(judged.labels) if way == "per class" else np.array([len(judged)])
            expected = np.mean([rank(images, coverage) / (images + 1) for images in shown])
            sizes = sets.sum(axis=1)
            values[coverage, way].append((expected, is_in.mean(), sizes.mean(), (sizes == 1).mean()))
            counts = np.bincount(labels[tests], minlength=len(classes))
            covered = np.bincount(labels[tests], weights=is_in, minlength=len(classes))
            worst[coverage, way].append(np.stack([covered, counts]))


def report(images: int, width: int, classes: int, values: dict[tuple, list], worst: dict[tuple, list]) -> None:
    """Prints tables that can be pasted into a page."""
    told, loss = np.array(values["told"]), np.array(values["loss"])
    change, is_applied = loss[:, 1] - loss[:, 0], np.array(values["temperature"]) != 1
    print(f"{images} images, {classes} classes, {width} features; {values['images'][0]} validate and test")
    print(f"{len(loss)} divisions, accuracy {np.mean(values['accuracy']):.4f}")
    print(f"temperature applied in {is_applied.mean():.1%}, median {np.median(values['temperature']):.3f}")
    print(f"told by validation: loss {told[:, 0].mean():.4f} -> {told[:, 1].mean():.4f}")
    print(f"on test: loss {loss[:, 0].mean():.4f} -> {loss[:, 1].mean():.4f}; change {change.mean():+.4f}, ", end="")
    low, high = np.quantile(change, [0.025, 0.975])
    print(f"of 95 % [{low:+.4f}, {high:+.4f}]; larger in {(change > 0).mean():.1%} of the divisions\n")
    print("| coverage | sets | expected | measured | classes | of one class | worst class |")
    print("|---|---|---|---|---|---|---|")
    for coverage in COVERAGES:
        for way in WAYS:
            if not (found := np.array(values[coverage, way])).size:
                continue
            expected, measured, size, single = found.mean(axis=0)
            low, high = np.quantile(found[:, 1], [0.025, 0.975])
            covered, counts = np.sum(worst[coverage, way], axis=0)
            print(f"| {coverage:g} | {way} | {expected:.1%} | {measured:.1%} [{low:.1%}, {high:.1%}] ", end="")
            print(f"| {size:.2f} | {single:.1%} | {(covered / counts).min():.1%} |")


if __name__ == "__main__":
    main()
