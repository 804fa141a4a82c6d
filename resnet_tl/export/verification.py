"""Whether an exported file says the same as the model that it was made of, in its own runtime, on real images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from resnet_tl.bundle import Bundle
from resnet_tl.data.pixels.decode import BadImage, decode
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.errors import UserError, listed
from resnet_tl.evaluation.comparing.comparison import paired_change
from resnet_tl.evaluation.intervals import Estimate
from resnet_tl.evaluation.predictions import softmax, table_of
from resnet_tl.evaluation.words import interval, percent
from resnet_tl.export.facts import InputKind
from resnet_tl.export.targets import RuntimeModel
from resnet_tl.export.verification_images import VerificationImages
from resnet_tl.networks.frozen import FrozenStages, head_logits
from resnet_tl.networks.stages import StagedNetwork
from resnet_tl.terminal import counted

LARGEST: Mapping[InputKind, float] = {"raw": 0.05, "tensor": 0.001}
"""By which a probability may differ at most: a raw graph's pixels differ by a level of 255 here and there."""
SHARE = 0.01
"""Of the images that may be given another class; and with 8 bits, of the labelled ones that may be lost."""
BATCH = 32

Judge = Callable[[torch.Tensor], np.ndarray]


class NotVerified(UserError):
    """An exported file that does not say what its model says; nothing of it is kept."""


@dataclass(frozen=True)
class Verification:
    """How an exported file compares with the model, both on the same images."""

    runtime: str  # name and version
    source: str  # what the images are
    images: int  # that were compared
    of: int  # images that there were
    bad: int  # of those drawn, which could not be decoded
    same: int  # images that both give the same class
    largest_difference: float  # of a probability
    mean_difference: float  # of the largest one of each image
    labelled: int
    correct_before: int
    correct_after: int
    change: Estimate | None  # of the accuracy; None without labels
    different: tuple[tuple[str, str, str], ...]  # id, class before and after, of the first ten

    @property
    def agreement(self) -> float:
        """Share of the images that both give the same class."""
        return self.same / self.images

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        values = {**vars(self), "agreement": self.agreement, "different": [list(one) for one in self.different]}
        return {**values, "change": None if self.change is None else self.change._asdict()}

    def lines(self) -> list[str]:
        """What is printed."""
        drawn = f" (drawn evenly from {self.of:,})" if self.of > self.images + self.bad else ""
        left_out = f"; {self.bad} that cannot be decoded are left out" if self.bad else ""
        lines = [
            f"verified by {self.runtime} on {self.images:,} {self.source}{drawn}{left_out}:",
            f"  same class as the model: {self.same:,} of {self.images:,} ({percent(self.agreement)})",
            f"  largest difference of a probability: {self.largest_difference:.2g}",
        ]
        if self.change is not None:
            before, after = (percent(correct / self.labelled) for correct in (self.correct_before, self.correct_after))
            changed = interval(*self.change, unit=" points")
            lines.append(f"  accuracy on {self.labelled:,} labelled images: {after}, before {before}, change {changed}")
        else:
            lines.append("  accuracy: unknown, since no image is labelled with a class of the model")
        return lines

    def fault(self, kind: InputKind, int8: bool) -> str:
        """What is too different for the file to be kept, as a clause; "" where nothing is.

        One image in a hundred may be given another class, and a probability may differ by `LARGEST`. With 8 bits, where
        every probability differs, one labelled image in a hundred may be lost instead. One image is always allowed, for
        it may lie on the border.
        """
        allowed = max(1, int(SHARE * self.images))
        lost = self.correct_before - self.correct_after
        if int8 and self.labelled:
            allowed = max(1, int(SHARE * self.labelled))
            if lost > allowed:
                return f"of {self.labelled:,} labelled images it knows {lost} fewer; at most {allowed} may be lost"
            return ""
        if (others := self.images - self.same) > allowed:
            such = listed(name for name, *_ in self.different[:3])
            return (
                f"{others} of {self.images:,} images are given another class, such as {such}; at most {allowed} may be"
            )
        if not int8 and not self.largest_difference <= LARGEST[kind]:
            return f"a probability differs by {self.largest_difference:.2g}; by at most {LARGEST[kind]:g} it may"
        return ""


def verify(model: RuntimeModel, judge: Judge, images: VerificationImages) -> Verification:
    """Compares an exported file with the model on at most `MOST` images, each decoded as the consumer decodes it.

    `judge` gives the model's probabilities, as `judge_of` makes it. UserError where no image can be decoded.
    """
    planned, classes = model.facts.preprocessing, model.facts.classes
    rows, labels = images.drawn()
    good: list[int] = []
    before, after = [np.empty((0, len(classes)))], [np.empty((0, len(classes)))]
    reason = ""
    with counted("verifying", len(rows)) as advance:
        for start in range(0, len(rows), BATCH):
            seen: list[torch.Tensor] = []
            for place in range(start, min(start + BATCH, len(rows))):
                path = images.index.path(int(rows[place]))
                try:
                    pixels = decode(path, planned.channels, planned.storage_size, planned.value_range)
                except BadImage as error:
                    reason = str(error)
                    continue
                good.append(place)
                seen.append(planned.centre(planned.store(pixels)))
                if model.facts.input == "raw":  # one at a time, since photos are large
                    after.append(model.probabilities([pixels]))
            if seen:
                batch = torch.stack(seen)
                before.append(judge(batch))
                if model.facts.input == "tensor":
                    after.append(model.probabilities(batch.permute(0, 2, 3, 1).contiguous().numpy()))
            advance(min(BATCH, len(rows) - start))
    if not good:
        raise UserError(f"None of the {len(rows)} images can be decoded to verify the file by: {reason}")
    ids = [images.index.id(int(row)) for row in rows[good]]
    return compared(model, images, ids, labels[good], np.concatenate(before), np.concatenate(after))


def compared(
    model: RuntimeModel,
    images: VerificationImages,
    ids: list[str],
    labels: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
) -> Verification:
    """The verification by probabilities (n, classes) of the model, and of the exported file."""
    classes = model.facts.classes
    first, second = before.argmax(axis=1), after.argmax(axis=1)
    is_labelled = labels >= 0
    change = None
    if is_labelled.any():
        tables = (table_of(ids, ids, labels, shares, classes) for shares in (after, before))
        change, _ = paired_change(*tables)
    differences = np.abs(after - before).max(axis=1)
    others = [(ids[row], classes[first[row]], classes[second[row]]) for row in np.flatnonzero(first != second)[:10]]
    return Verification(
        runtime=model.runtime,
        source=images.source,
        images=len(ids),
        of=images.total,
        bad=len(images.drawn()[0]) - len(ids),
        same=int((first == second).sum()),
        largest_difference=float(differences.max()),
        mean_difference=float(differences.mean()),
        labelled=int(is_labelled.sum()),
        correct_before=int((first == labels).sum()),
        correct_after=int((second == labels).sum()),
        change=change,
        different=tuple(others),
    )


def judge_of(bundle: Bundle, network: StagedNetwork) -> Judge:
    """The calibrated probabilities (N, classes) float64 as `predict` gives them on a CPU in float32."""
    stages, planned = FrozenStages(network), bundle.preprocessing

    def judge(images: torch.Tensor) -> np.ndarray:
        features = stages(planned.normalise(images))
        assert isinstance(features, torch.Tensor)
        return softmax(head_logits(network.head, features).numpy().astype(np.float64) / bundle.temperature)

    return judge


def network_inputs(images: VerificationImages, planned: Preprocessing) -> np.ndarray:
    """What a network sees of images, (n, size, size, C) uint8; those that cannot be decoded are left out."""
    seen = []
    for row in images.rows.tolist():
        try:
            pixels = decode(images.index.path(row), planned.channels, planned.storage_size, planned.value_range)
        except BadImage:
            continue
        seen.append(planned.centre(planned.store(pixels)).permute(1, 2, 0).numpy())
    if not seen:
        raise UserError(f"None of the {len(images.rows)} {images.source} can be decoded, which --int8 needs.")
    return np.stack(seen)
