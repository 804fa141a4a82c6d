"""What to train in the time there is: from the measured speed and a probe to mode, image size and epochs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from resnet_tl.training.evidence.cost import LEAST, MOST, SECONDS, SECONDS_OF_IMAGE
from resnet_tl.training.evidence.cost import SHARE as EVIDENCE

SHARE = 0.92
"""Of the budget, which the plan fills: a fit that turns out slower is shortened, but none is made longer."""
PART = 0.1
"""Of an epoch, by which a plan may exceed that, for a whole epoch more."""
STEP = 32
"""Pixels between two image sizes: the last stage sees a 32nd of the side, rounded up, so that 80 cost what 96 do."""
SMALLEST = 96
"""Pixels; photos that are smaller than that lose what tells their classes apart."""
MOST_EPOCHS = 30
"""After which more of them gain nothing measurable."""
LEAST_STEPS = 100
"""With fewer a head on frozen features is better.

Ants and bees, ResNet-18: everything trained in 40 steps 93.5 %, the head 96.1 %; the sample, built-in ResNet-20:
everything in 100 steps 95.0 %, the head 87.5 % (docs/defaults.md, headers of the recipes).
"""
SURE, SURE_OF_FEW, FEW_IMAGES = 0.97, 0.9, 1000
"""Accuracies of the probe from which frozen features are good enough; the latter where few images train.

ResNet-18: cats and dogs, 2000 images, probe 97.4 %, last stage 97.8 %, everything 97.6 % (500 validation images); ants
and bees, 244 images, probe 94.1 %, head 96.1 %, everything 93.5 % (docs/defaults.md).
"""
LARGER = 2
"""A head that sees images so much larger is better than all stages, where frozen features are good.

Cats and dogs, ResNet-18: everything, 3 epochs at 96 px, 95.0 %; the head at 224 px 97.5 % (500 validation images).
"""
LAST_STAGES_EPOCHS, LAST_STAGES_VIEWS = 10, 4


@dataclass(frozen=True)
class Speed:
    """Seconds for an image, by the side of its square: as measured, and beyond that in proportion to the area.

    `fixed` seconds come on top, whatever the size.
    """

    measured: Mapping[int, float]
    fixed: float = 0.0

    def __call__(self, size: int) -> float:
        near = max((side for side in self.measured if side <= size), default=min(self.measured))
        return self.fixed + self.measured[near] * (size / near) ** 2

    def __truediv__(self, processes: int) -> Speed:
        return Speed({size: seconds / processes for size, seconds in self.measured.items()}, self.fixed / processes)


@dataclass(frozen=True)
class Facts:
    """What is known before a plan is made."""

    budget: float  # seconds, of which these were spent, and these will be from the last epoch on, besides evaluation
    spent: float
    end: float
    images: Mapping[str, int]  # split -> how many
    sizes: Sequence[int]  # sides of the network's input that may be chosen, rising
    step: Speed  # of a training image, where everything trains
    forward: Speed  # of an image through the frozen network
    last_stage: float  # its share of the network's multiply-adds
    batch_size: int = 32  # of all processes
    processes: int = 1
    probe: float | None = None  # accuracy on validation images of a head on frozen features; None: no time for one
    own_size: int | None = None  # the largest one that the network and the images allow; None: that of `sizes`
    is_any_size: bool = True  # whether the network sees images of other sizes too
    symmetry: tuple[str, str] | None = None  # what leaves a class unchanged, and why; None: what was given holds

    def left(self, size: int) -> float:
        """Seconds for training at a size, besides the evaluation of the best weights."""
        return (SHARE * self.budget - self.spent - self.after(size)) / (1 + EVIDENCE)

    def after(self, size: int) -> float:
        """Seconds from the last epoch on, but for what of the evidence is a share of the training."""
        images = self.images["val"] + self.images["test"] + min(LEAST, self.images["train"])
        evidence = SECONDS + SECONDS_OF_IMAGE * min(MOST, self.images["val"])
        return self.end + images * self.forward(size) + evidence

    def smaller(self, size: int) -> int | None:
        """Of the first epochs, where time is short."""
        return size - STEP if self.is_any_size else None

    def least_epochs(self, size: int) -> int:
        """Fewer of them are better spent at a smaller size; at the smallest, which may be the only one, on a head.

        Plant seedlings, ResNet-18, everything trained, in about as long: 4 epochs at 96 px 91.5 %, loss 0.225, 1 at 96
        and 2 at 128 px 91.4 %, 0.211; 2 at 96 and 5 at 128 px 92.8 %, 0.165, 3 at 128 and 3 at 160 px 94.1 %, 0.150.
        """
        of_size = size // STEP - 1 if size > self.sizes[0] else 1
        return max(of_size, -(-LEAST_STEPS * self.batch_size // max(1, self.images["train"])))

    @property
    def is_sure(self) -> bool:
        """Whether frozen features are so good that little is left to be learnt."""
        return (self.probe or 0.0) >= (SURE if self.images["train"] >= FEW_IMAGES else SURE_OF_FEW)

    @property
    def known(self) -> str:
        """What the probe has said, in words."""
        return (
            "" if self.probe is None else f"on frozen features a head has {100 * self.probe:.1f} % of validation right"
        )

    def epoch(self, size: int, test_size: int | None = None) -> float:
        """Seconds of an epoch in which everything trains, and its validation, perhaps at another size."""
        return self.images["train"] * self.step(size) + self.images["val"] * self.forward(test_size or size)


@dataclass(frozen=True)
class Plan:
    """An ordinary recipe's settings, each with the reason, and the seconds that they were chosen for."""

    settings: dict[str, tuple[Any, str]]
    epochs: list[float]  # planned seconds of each
    facts: dict[str, float]  # budget, spent, end

    @property
    def flags(self) -> list[str]:
        """As words of the command line."""
        values = {key: value for key, (value, _) in self.settings.items()}
        return [f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in values.items()]

    @property
    def lines(self) -> list[str]:
        """The plan as it is shown before it is carried out."""
        width = max(map(len, self.settings))
        return [f"{key:<{width}}  {value}: {why}" for key, (value, why) in self.settings.items()]

    @property
    def mode(self) -> str:
        return self.settings["model.mode"][0] if "model.mode" in self.settings else "all"

    @property
    def image_size(self) -> int:
        return self.settings["data.image_size"][0]

    @property
    def seconds(self) -> float:
        """Of the whole command."""
        return self.facts["spent"] + sum(self.epochs) + self.facts["end"]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """What `to_dict` gave, perhaps by way of JSON."""
        settings = {key: (value, why) for key, (value, why) in values["settings"].items()}
        return cls(settings, list(values["epochs"]), dict(values["facts"]))


def make_plan(facts: Facts) -> Plan:
    """The mode, image size and epochs that promise most for the time that is left."""
    everything = largest_for_everything(facts)
    if everything is None:
        return _head(facts, "there is no time to train more than that")
    if facts.is_sure:
        sure = f"{facts.known}: little is left to be learnt"
        return _last_stages(facts, sure) or _head(facts, sure)
    if (facts.probe or 0.0) >= SURE_OF_FEW and _size_of_head(facts) >= LARGER * everything:
        size = _size_of_head(facts)
        return _head(facts, f"{facts.known}, and sees images of {size} px where all could train at {everything}")
    return _everything(facts, everything)


def largest_for_everything(facts: Facts) -> int | None:
    """The largest size at which the epochs fit that it needs to be better than a smaller one; None: not even one."""

    def fits(size: int) -> bool:
        least, smaller = facts.least_epochs(size), facts.smaller(size)
        if size == facts.sizes[0] or smaller is None:
            return (least - PART) * facts.epoch(size) <= facts.left(size)
        begun = least // 2
        return begun * facts.epoch(smaller, size) + (least - begun) * facts.epoch(size) <= facts.left(size)

    return max(filter(fits, facts.sizes), default=None)


def _everything(facts: Facts, size: int) -> Plan:
    epoch, left, smaller = facts.epoch(size), facts.left(size), facts.smaller(size)
    least = facts.least_epochs(size)
    of_epochs = f"the largest one with time for {least} epochs; with fewer a smaller one is better"
    if size == facts.sizes[0]:
        of_epochs = "there is no time for enough epochs at a larger one"
    most = max(MOST_EPOCHS, least)
    number = min(most, int(left / epoch + PART))
    more = max(number + 1, least)
    why = "; ".join(filter(None, (f"an epoch at {size} px takes {epoch:.1f} s", facts.known)))
    settings: dict[str, tuple[Any, str]] = {
        "model.mode": ("all", why),
        "trainer.max_epochs": (number, f"as many as fit into {left:.0f} s"),
        "data.image_size": (size, _why_size(size, facts, of_epochs)),
    }
    epochs = [epoch] * number
    if number == most:
        settings["trainer.max_epochs"] = number, "more gain nothing; there may be time for a larger --model.network"
    elif smaller and (size > SMALLEST or number == 1) and (begun := _first_epochs(facts, more, size, smaller)):
        # At 64 px before four epochs at 96 px one more brings nothing (91.5 %, 0.266, see `least_epochs`).
        epochs = [facts.epoch(smaller, size)] * begun + [epoch] * (more - begun)
        phases = [{"mode": "all", "epochs": begun, "image_size": smaller}, {"mode": "all", "epochs": more - begun}]
        del settings["model.mode"]
        settings["model.schedule"] = phases, f"{why}; the first at {smaller} px, so that more of them fit into the time"
        settings["trainer.max_epochs"] = more, f"as many as fit into {left:.0f} s"
    if facts.symmetry:
        settings["data.symmetry"] = _symmetry(*facts.symmetry, len(epochs))
    return _plan(settings, epochs, facts)


def _first_epochs(facts: Facts, number: int, size: int, smaller: int) -> int | None:
    """How many epochs must be at a smaller size so that `number` of them fit; None where those were more than half."""
    epoch = facts.epoch(size)
    saved = epoch - facts.epoch(smaller, size)
    begun = math.ceil((number * epoch - facts.left(size)) / saved - 1e-9) if saved > 0 else number
    return begun if begun <= number / 2 else None


def _why_size(size: int, facts: Facts, otherwise: str = "the largest one for which there is time") -> str:
    return "the largest for this network" if size == (facts.own_size or facts.sizes[-1]) else otherwise


def _symmetry(holds: str, why: str, epochs: int) -> tuple[str, str]:
    """What there is time to make use of.

    Plant seedlings: in 4 epochs at 96 px mirroring has 89.8 %, all eight flips and turns 88.0 %; in 8 at 160 px the
    eight have 94.9 % (one seed, hidden test).
    """
    if holds == "dihedral" and epochs < 6:
        return "mirror", f"{epochs} epochs are too few for all flips and turns, though these change nothing ({why})"
    return holds, why


def _last_stages(facts: Facts, why: str) -> Plan | None:
    """None where the head alone could see larger images in the time."""

    def epochs(size: int) -> list[float]:
        training = facts.images["train"] * facts.step(size) * facts.last_stage
        frozen = facts.forward(size) * (1 - facts.last_stage)
        views = [facts.images["train"] * frozen] * LAST_STAGES_VIEWS + [0.0] * (LAST_STAGES_EPOCHS - LAST_STAGES_VIEWS)
        validation = facts.images["val"] * facts.forward(size) * facts.last_stage
        return [training + view + validation for view in views]

    fits = [size for size in facts.sizes if sum(epochs(size)) <= facts.left(size)]
    if not fits or fits[-1] < _size_of_head(facts):
        return None
    size = fits[-1]
    settings = {
        "model.mode": ("last_stages", why),
        "trainer.max_epochs": (LAST_STAGES_EPOCHS, "what that mode needs"),
        "data.image_size": (size, _why_size(size, facts)),
        "data.views": (LAST_STAGES_VIEWS, "what the frozen stages give for them is computed once"),
    }
    if facts.symmetry:
        settings["data.symmetry"] = facts.symmetry
    return _plan(settings, epochs(size), facts)


def _head(facts: Facts, why: str) -> Plan:
    size = _size_of_head(facts)
    settings = {
        "model.mode": ("head", why),
        "data.symmetry": ("none", "the head sees each image as it is"),
        "data.image_size": (size, _why_size(size, facts)),
    }
    if facts.processes > 1:
        settings["trainer.devices"] = 1, "a head is solved in one process"
    return _plan(settings, [_seconds_of_head(facts, size)], facts)


def _size_of_head(facts: Facts) -> int:
    fits = [size for size in facts.sizes if _seconds_of_head(facts, size) <= facts.left(size)]
    return max(fits, default=facts.sizes[0])


def _seconds_of_head(facts: Facts, size: int) -> float:
    """The features of all images, once, and a millisecond for each of those by which the head is solved."""
    return sum(facts.images.values()) * facts.forward(size) + 1e-3 * facts.images["train"]


def _plan(settings: dict[str, tuple[Any, str]], epochs: list[float], facts: Facts) -> Plan:
    size = settings["data.image_size"][0]
    end = facts.after(size) + EVIDENCE * sum(epochs)
    return Plan(settings, epochs, {"budget": facts.budget, "spent": facts.spent, "end": end})
