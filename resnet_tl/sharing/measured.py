"""What labelled images say of a model, from what its bundle keeps of them: numbers with intervals, classes, mix-ups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from resnet_tl.evaluation.intervals import bootstrap_interval, image_resamples, macro_f1, wilson
from resnet_tl.evaluation.uncertainty.judged import Judged
from resnet_tl.evaluation.words import interval, metric_value, percent

LEAST = 5
"""Images of a class below which its recall is not called weak."""
ROUNDING = 1e-9


@dataclass(frozen=True)
class Number:
    """One number, its 95 % interval if it has one, and the id that the hub knows it by, if it has one."""

    name: str
    value: float
    text: str
    hub: str = ""


@dataclass(frozen=True)
class OfClass:
    """How the images of one class were judged."""

    name: str
    images: int
    correct: int
    taken_for: str  # the class that most of those judged wrongly were taken for; "" for none

    @property
    def recall(self) -> float:
        """The share that was judged correctly."""
        return self.correct / self.images

    @property
    def text(self) -> str:
        """`82.1 % [75.0, 87.5]`."""
        return interval(self.recall, *wilson(self.correct, self.images)) if self.images else "–"


def numbers_of(judged: Judged, classes: int, metrics: Mapping[str, float], temperature: float) -> list[Number]:
    """Accuracy, macro F1, balanced accuracy and loss with intervals over the images, then what else was measured.

    `metrics` are those of the same images, of the network's own probabilities; the loss of `judged` is that of the
    calibrated ones.
    """
    images, correct = len(judged), int(judged.is_correct.sum())
    losses = -np.log(np.maximum(judged.label_probability, np.finfo(np.float64).tiny))

    def measured(weights: np.ndarray) -> np.ndarray:  # (B, N) to (3, B)
        f1 = macro_f1(weights, judged.labels, judged.predicted, classes)
        return np.stack([f1, _balanced(weights, judged, classes), weights @ losses / images])

    f1, balanced, loss = measured(np.ones((1, images)))[:, 0].tolist()
    resampled = np.concatenate([measured(weights) for weights in image_resamples(images)], axis=1)
    of_f1, of_balanced, (low, high) = map(bootstrap_interval, (f1, balanced, loss), resampled)

    def share(value: float, bounds: tuple[float, float]) -> str:
        """Without the interval where all resamples are alike, as of images without a mistake: that is no certainty."""
        return interval(value, *bounds) if bounds[1] - bounds[0] > ROUNDING else percent(value)

    of_loss = f" [{low:.3f}, {high:.3f}]" if high - low > ROUNDING else ""
    numbers = [
        Number("accuracy", correct / images, interval(correct / images, *wilson(correct, images)), "accuracy"),
        Number("macro F1", f1, share(f1, of_f1), "f1"),
        Number("balanced accuracy", balanced, share(balanced, of_balanced)),
        Number("loss" if temperature == 1 else "loss, calibrated", loss, metric_value("loss", loss) + of_loss),
    ]
    if "top5_accuracy" in metrics:
        among = round(metrics["top5_accuracy"] * images)
        numbers.append(Number("top-5 accuracy", among / images, interval(among / images, *wilson(among, images))))
    if np.isfinite(metrics.get("auroc", np.nan)):
        numbers.append(Number("AUROC", metrics["auroc"], metric_value("auroc", metrics["auroc"]), "roc_auc"))
    return numbers


def per_class(judged: Judged, classes: Sequence[str]) -> list[OfClass]:
    """How the images of each class were judged, in the order of the classes."""
    rightly = judged.labels[judged.is_correct]
    images, correct = (np.bincount(labels, minlength=len(classes)).tolist() for labels in (judged.labels, rightly))
    # The last one of a label counts: that of most images, of equal ones the first class.
    ordered = sorted(_mistakes(judged).items(), key=lambda item: (item[1], -item[0][1]))
    taken_for = {label: classes[predicted] for (label, predicted), _ in ordered}
    return [OfClass(name, images[n], correct[n], taken_for.get(n, "")) for n, name in enumerate(classes)]


def weakest(found: Sequence[OfClass], most: int = 3) -> list[OfClass]:
    """The classes that are judged worst, of those with some images and a mistake."""
    weak = [one for one in found if one.images >= LEAST and one.correct < one.images]
    return sorted(weak, key=lambda one: (one.recall, one.name))[:most]


def confused(judged: Judged, classes: Sequence[str], most: int = 3) -> list[str]:
    """`Fat Hen and Sugar beet (12 of 146 images)`: the pairs of classes that are mixed up most, either way."""
    images, both = np.bincount(judged.labels, minlength=len(classes)), Counter[tuple[int, int]]()
    for pair, count in _mistakes(judged).items():
        both[min(pair), max(pair)] += count
    return [
        f"{classes[first]} and {classes[second]} ({count} of {images[first] + images[second]} images)"
        for (first, second), count in sorted(both.items(), key=lambda item: (-item[1], item[0]))[:most]
        if count > 1
    ]


def sureness(judged: Judged) -> str:
    """How sure the model is and how often it is right then, in a sentence."""
    sure, right = float(judged.probability.mean()), float(judged.is_correct.mean())
    return (
        f"Its probabilities promise {percent(sure)} on average, and {percent(right)} of these images are judged "
        "correctly."
    )


def _mistakes(judged: Judged) -> Counter[tuple[int, int]]:
    """How many images of one class, the first, were taken for another; no matrix, which many classes would fill."""
    is_wrong = ~judged.is_correct
    return Counter(zip(judged.labels[is_wrong].tolist(), judged.predicted[is_wrong].tolist(), strict=True))


def _balanced(weights: np.ndarray, judged: Judged, classes: int) -> np.ndarray:
    """The mean recall of each resample (B,), for weights (B, N), over the classes present in it."""
    from scipy.sparse import csr_array

    rows, shape = np.arange(len(judged)), (len(judged), classes)
    images = weights @ csr_array((np.ones(len(judged)), (rows, judged.labels)), shape=shape)
    correct = weights @ csr_array((judged.is_correct.astype(np.float64), (rows, judged.labels)), shape=shape)
    return (correct / np.maximum(images, 1)).sum(axis=1) / (images > 0).sum(axis=1)
