"""What is right for most people, per mode: measured, see the table in docs/defaults.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resnet_tl.data.pixels.augmentation import Policy


@dataclass(frozen=True)
class ModeDefaults:
    """What is not given, by mode."""

    lr: float  # of the head, for AdamW with a batch of 32
    backbone_lr_factor: float  # the pretrained stages learn at `lr` times this
    weight_decay: float  # of all weights but biases and norms
    epochs: int  # of a whole run
    augmentation: Policy  # of training images
    views: int | None  # how many versions of an image there are; None: a new one in each epoch
    ema: float | None = None  # decay of the average of the weights that is kept; None: the newest ones are


DEFAULTS = {
    "head": ModeDefaults(lr=3e-3, backbone_lr_factor=1.0, weight_decay=1e-2, epochs=20, augmentation="none", views=8),
    "last_stages": ModeDefaults(
        lr=3e-3, backbone_lr_factor=0.1, weight_decay=5e-2, epochs=10, augmentation="light", views=4
    ),
    "all": ModeDefaults(
        lr=3e-3, backbone_lr_factor=0.3, weight_decay=5e-2, epochs=10, augmentation="light", views=None
    ),
}


PENALTIES = 13
"""How many a head that is solved tries, from strong to weak."""


def defaults_for(mode: str, schedule: object = None) -> ModeDefaults:
    """The defaults of a run; a schedule of phases has those of its most thorough one, taken to be `all`."""
    return DEFAULTS["all"] if schedule else DEFAULTS.get(mode, DEFAULTS["all"])


def choose_backbone_lr_factor(
    defaults: ModeDefaults, source: str, description: Mapping[str, object]
) -> tuple[float, str]:
    """How fast the backbone learns beside the head, with weights of a source, in a network so described; and why."""
    if source == "none" or (source == "as given" and "import" in description):
        return 1.0, "trained from scratch"
    if source.startswith("built-in"):
        return 1.0, "pretrained on few small images, which leave much to learn"
    return defaults.backbone_lr_factor, "an object may be pretrained" if source == "as given" else "pretrained"
