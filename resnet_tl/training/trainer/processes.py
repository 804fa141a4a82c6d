"""What several processes share in a step: what makes them differ from one is said, and the mean loss is that of one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import lightning as L
import torch
from torch import Tensor, nn

from resnet_tl.errors import UserError
from resnet_tl.training.settings import trained_modules

if TYPE_CHECKING:
    from resnet_tl.training.classifier import ImageClassifier

log = logging.getLogger(__name__)


def check_processes(trainer: L.Trainer) -> None:
    """Raises UserError for BatchNorm statistics that are to be shared where torch cannot do so.

    Lightning 2.6 does not say in public whether they are.
    """
    shares = getattr(trainer.strategy, "_layer_sync", None) is not None
    if shares and trainer.world_size > 1 and trainer.strategy.root_device.type == "cpu":
        raise UserError(
            "trainer.sync_batchnorm is true, but torch shares BatchNorm statistics on GPUs only: leave it out; where "
            "BatchNorm is frozen, as in the mode head, there is nothing to share."
        )


def tell_of_processes(model: ImageClassifier) -> None:
    """One line: how many images a step sees, and what keeps one process from giving the same."""
    world, batch_size, network = model.trainer.world_size, model.data.batch_size, model.network
    if world == 1:
        return
    line = f"{world} processes of batch {batch_size}: a step sees {world * batch_size} images"
    differs = []
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in trained_modules(network, model.schedule)):
        if any(isinstance(module, nn.SyncBatchNorm) for module in network.modules()):
            line += "; BatchNorm statistics are those of all of them (trainer.sync_batchnorm)"
        else:
            differs.append("BatchNorm statistics are each process's own (on GPUs trainer.sync_batchnorm shares them)")
    if any(model.hparams[name] for name in ("head_dropout", "mixup", "cutmix")):
        differs.append("each process draws its own dropout and mixup")
    if differs:
        log.info(f"{line}; otherwise than in one process of batch {world * batch_size}, {', and '.join(differs)}")
    else:
        log.info(f"{line}; one process of batch {world * batch_size} gives the same up to rounding")


def share_of(weight: Tensor) -> Tensor:
    """What a process's mean loss counts for, so that the mean over processes is the mean over all images of the step.

    Processes differ where the last images of an epoch do not divide, and where images weigh differently: `weight` is
    that of this process's images together. A collective.
    """
    total = weight.detach().clone()
    torch.distributed.all_reduce(total)
    return weight.detach() * torch.distributed.get_world_size() / total
