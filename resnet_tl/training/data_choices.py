"""What a data module's options become that are auto, once the network is known; the symmetry by a measurement."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from lightning.pytorch.trainer.states import TrainerFn

from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.data.pixels.symmetry import Symmetry
from resnet_tl.finetuning.symmetry import Seen, judge, look
from resnet_tl.training.building import BuiltNetwork

if TYPE_CHECKING:
    from resnet_tl.training.classifier import ImageClassifier

log = logging.getLogger(__name__)


def prepare(model: ImageClassifier, data: ImageDataModule, symmetry: Symmetry | None = None) -> None:
    """Tells the data module how the network sees images; the model has what options that are auto become, and why.

    `symmetry` is what the fit that goes on had found.
    """
    assert model.built is not None
    defaults, why = model.defaults()
    seen = model.built.preprocessing
    sizes = model.schedule.train_sizes(model.built.image_size, seen.size)
    use = partial(data.use, seen, defaults.augmentation, defaults.views, train_sizes=sizes)
    chosen = use()
    reasons = dict.fromkeys(chosen, why)
    if "symmetry" in chosen:
        found = (symmetry, "as the fit began") if symmetry else _find_symmetry(model, data)
        chosen, reasons["symmetry"] = use(symmetry=found[0]), found[1]
    model.resolved |= {f"data.{name}": (value, reasons[name]) for name, value in chosen.items()}


def _find_symmetry(model: ImageClassifier, data: ImageDataModule) -> tuple[Symmetry, str]:
    """Measured once, where a fit begins, and the same on every process; the network is built, on the CPU."""
    if not data.asks_for_symmetry:
        return "none", "data.augmentation is none"
    trainer = model._trainer
    if trainer and trainer.state.fn != TrainerFn.FITTING:
        return "mirror", "not measured, since no fit begins here"
    assert model.built is not None
    found: Any = None
    if trainer is None or trainer.is_global_zero:
        found = judge(look_at(model.built, data))
        if model.resolved.get("data.symmetry") != found:  # a callback that averages weights has the network built again
            log.info(f"data.symmetry {found[0]}: {found[1]}")
    return trainer.strategy.broadcast(found) if trainer else found


def look_at(built: BuiltNetwork, data: ImageDataModule) -> list[Seen]:
    """What probes see in the images of a data module in use, perhaps at another size than the network's own."""
    work = sum(cost.multiply_adds for cost in built.costs) * (data.preprocessing.size / built.preprocessing.size) ** 2
    is_any_size = "name" in built.network.description and not built.origin.is_fixed_size
    return look(built.network, data, int(work), built.origin.source != "none", is_any_size)
