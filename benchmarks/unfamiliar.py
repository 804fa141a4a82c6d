"""How well the distance to the nearest training images tells strange images from ordinary ones, beside the probability.

    resnet-tl embed resnet18 plant_seedlings/train -o plants.npz --weights resnet18.safetensors
    resnet-tl embed resnet18 cats_dogs/val -o cats_dogs.npz --weights resnet18.safetensors
    python benchmarks/unfamiliar.py plants.npz --far cats_dogs.npz

The model is a head that is solved on 60 % of the images of a set; 20 % choose its penalty and its temperature, and are
what new images are compared with; 20 % are new, ordinary ones. Strange ones are near, the images of a class that the
head has not seen, each class in turn, or far, those of another set. Printed is the area under the ROC curve (0.5 is
chance, 1 perfect), with 95 % intervals over images; of near ones the mean over the classes with the lowest and highest;
and the share of images that `predict` would mark.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from resnet_tl.evaluation.intervals import bootstrap_interval, wilson
from resnet_tl.evaluation.predictions import softmax
from resnet_tl.evaluation.uncertainty.calibration import at_temperature, fit_temperature
from resnet_tl.evaluation.uncertainty.familiarity import Reference, p_values, strange_up_to
from resnet_tl.evaluation.uncertainty.nearest import drawn, nearest, unit
from resnet_tl.finetuning.defaults import PENALTIES
from resnet_tl.finetuning.logistic import penalty_path, solve_path

KTHS = (1, 5, 10, 20, 50)
RESAMPLES = 500


class Model:
    """A head on frozen features, and what it compares new images with."""

    def __init__(self, features: np.ndarray, labels: np.ndarray, seed: int) -> None:
        order = np.random.default_rng(seed).permutation(len(labels))
        self.train, self.val, self.new = np.split(order, [len(order) * 3 // 5, len(order) * 4 // 5])
        x, y = torch.from_numpy(features), torch.from_numpy(labels)
        best = float("inf")
        for found in solve_path(x[self.train], y[self.train], penalty_path(PENALTIES), classes=int(y.max()) + 1):
            logits = x[self.val] @ found.weight.T + found.bias
            loss = float(cross_entropy(logits, y[self.val]))
            if loss >= best:
                break
            best, self.head, shares = loss, found, softmax(logits.numpy())
        self.temperature = fit_temperature(labels[self.val], shares)
        few = self.train[drawn(labels[self.train], 2000)]
        self.reference = Reference.make(features[few], labels[few], few, features[self.val])
        self.gallery = unit(self.reference.features)
        self.judged = nearest(unit(features[self.val]), self.gallery, max(KTHS))[0]

    def scores(self, features: np.ndarray) -> dict[str, np.ndarray]:
        """How strange each image looks, by each measure."""
        logits = torch.from_numpy(features) @ self.head.weight.T + self.head.bias
        shares = softmax(logits.numpy())
        distances = nearest(unit(features), self.gallery, max(KTHS))[0]
        return {
            "probability": 1 - shares.max(axis=1),
            "calibrated": 1 - at_temperature(shares, self.temperature).max(axis=1),
            **{f"k = {k}": distances[:, k - 1] for k in KTHS if k <= distances.shape[1]},
        }

    def marked(self, features: np.ndarray) -> np.ndarray:
        """Which images `predict` would mark."""
        limit = strange_up_to([len(self.reference.distances)])
        assert limit is not None
        return p_values(self.reference.distance(features), self.reference.distances) <= limit


def area(ordinary: np.ndarray, strange: np.ndarray) -> float:
    """The share of pairs in which the strange image has the larger score; a tie counts half."""
    ordered = np.sort(ordinary)
    below, up_to = np.searchsorted(ordered, strange, "left"), np.searchsorted(ordered, strange, "right")
    return float((below + up_to).mean() / 2 / len(ordinary))


def area_interval(ordinary: np.ndarray, strange: np.ndarray) -> tuple[float, float]:
    """Over resamples of both."""
    generator = np.random.default_rng(0)
    resampled = [
        area(generator.choice(ordinary, len(ordinary)), generator.choice(strange, len(strange)))
        for _ in range(RESAMPLES)
    ]
    return bootstrap_interval(area(ordinary, strange), np.array(resampled))


def read(path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Features and labels of a file that `resnet-tl embed` wrote."""
    content = np.load(path)
    classes, labels = np.unique(content["label"], return_inverse=True)
    return content["features"], labels.astype(np.int64), classes.tolist()


def print_far(model: Model, features: np.ndarray, name: str, strange: np.ndarray) -> None:
    ordinary, others = model.scores(features[model.new]), model.scores(strange)
    cells = []
    for measure, values in ordinary.items():
        low, high = area_interval(values, others[measure])
        cells.append(f"{area(values, others[measure]):.3f} [{low:.3f}, {high:.3f}]")
    marked, alarms = model.marked(strange), model.marked(features[model.new])
    low, high = wilson(int(marked.sum()), len(marked))
    cells += [f"{marked.mean():.1%} [{low:.1%}, {high:.1%}] of {len(marked)}", f"{alarms.mean():.2%} of {len(alarms)}"]
    print(f"| {name} | {' | '.join(cells)} |")


def print_near(features: np.ndarray, labels: np.ndarray, classes: Sequence[str], seeds: int) -> None:
    areas: dict[str, list[float]] = {}
    shares: list[np.ndarray] = []
    for held_out in range(len(classes)):
        is_known = labels != held_out
        known = np.unique(labels[is_known], return_inverse=True)[1].astype(np.int64)
        of_seeds: dict[str, list[float]] = {}
        for seed in range(seeds):
            model = Model(features[is_known], known, seed)
            ordinary, others = (
                model.scores(part) for part in (features[is_known][model.new], features[labels == held_out])
            )
            for measure, values in ordinary.items():
                of_seeds.setdefault(measure, []).append(area(values, others[measure]))
            shares.append(
                np.array(
                    [
                        model.marked(part).mean()
                        for part in (features[labels == held_out], features[is_known][model.new])
                    ]
                )
            )
        for measure, found in of_seeds.items():
            areas.setdefault(measure, []).append(float(np.mean(found)))
    cells = [f"{np.mean(found):.3f} ({min(found):.3f} to {max(found):.3f})" for found in areas.values()]
    marked, alarms = np.mean(shares, axis=0)
    print(f"| a class of its own | {' | '.join(cells)} | {marked:.1%} | {alarms:.2%} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path, help="features of labelled images, by `resnet-tl embed`")
    parser.add_argument("--far", type=Path, nargs="*", default=[], help="those of other images, by the same network")
    parser.add_argument("--seeds", type=int, default=3, help="divisions of the images for near ones; default: 3")
    arguments = parser.parse_args()
    features, labels, classes = read(arguments.images)
    model = Model(features, labels, seed=0)
    names = list(model.scores(features[:1]))
    print(f"{arguments.images.stem}: {len(labels)} images of {len(classes)} classes, seeds: {arguments.seeds}\n")
    print(f"| strange | {' | '.join(names)} | marked | false alarms |\n|---{'|---' * (len(names) + 2)}|")
    if len(classes) > 2:
        print_near(features, labels, classes, arguments.seeds)
    for path in arguments.far:
        print_far(model, features, path.stem, read(path)[0])


if __name__ == "__main__":
    main()
