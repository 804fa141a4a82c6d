"""What `data.symmetry: auto` becomes: measured once, where a fit begins, and the same on every process."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from lightning.pytorch.trainer.states import TrainerFn

from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.data.pixels.symmetry import Symmetry
from resnet_tl.finetuning.symmetry import choose_symmetry

if TYPE_CHECKING:
    from resnet_tl.training.classifier import ImageClassifier

log = logging.getLogger(__name__)


def find_symmetry(model: ImageClassifier, data: ImageDataModule) -> tuple[Symmetry, str]:
    """The symmetry of the images of a data module that is in use, and why; the network is built, on the CPU."""
    if not data.asks_for_symmetry:
        return "none", "data.augmentation is none"
    trainer, built = model._trainer, model.built
    if trainer and trainer.state.fn != TrainerFn.FITTING:
        return "mirror", "not measured, since no fit begins here"
    assert built is not None
    found: tuple[Symmetry, str] | None = None
    if trainer is None or trainer.is_global_zero:
        work = sum(cost.multiply_adds for cost in built.costs)
        is_any_size = "name" in built.network.description and not built.origin.is_fixed_size
        found = choose_symmetry(built.network, data, work, built.origin.source != "none", is_any_size)
        if model.resolved.get("data.symmetry") != found:  # a callback that averages weights has the network built again
            log.info(f"data.symmetry {found[0]}: {found[1]}")
    return found if trainer is None else trainer.strategy.broadcast(found)  # type: ignore[return-value]
