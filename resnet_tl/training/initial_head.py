"""The head that a fit begins with: solved on what the stages give before they train, instead of drawn."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from resnet_tl.data.order import epoch_order
from resnet_tl.errors import UserError
from resnet_tl.evaluation.words import metric_value
from resnet_tl.finetuning.defaults import PENALTIES
from resnet_tl.finetuning.freezing import digest
from resnet_tl.finetuning.logistic import penalty_path, solve_path
from resnet_tl.networks.frozen import head_logits
from resnet_tl.timing import measure

if TYPE_CHECKING:
    from resnet_tl.training.classifier import ImageClassifier

log = logging.getLogger(__name__)


def solve_initial_head(model: ImageClassifier) -> None:
    """Gives the head the penalty with the smallest validation loss, on features of centre crops.

    A drawn head sends gradients into pretrained stages that distort what they know (Kumar et al. 2022, Fine-Tuning can
    Distort Pretrained Features and Underperform Out-of-Distribution, arXiv 2202.10054). Every process does the same.
    Without validation images, as in a final run, a fifth of the training images chooses. UserError for a head that is
    not one linear layer.
    """
    network, head, index = model.network, model.network.head, model.data.index
    if not isinstance(head, nn.Linear):
        raise UserError("--model.head_init solved takes one linear layer as head: leave it out.")
    rows = {name: index.rows(name) for name in ("train", "val")}
    if not len(rows["val"]):
        order = epoch_order(rows["train"], model.hparams["seed"], 0)
        rows = dict(zip(rows, np.split(order, [-(-4 * len(order) // 5)]), strict=True))
    frozen, norms_only = network.frozen, network.norms_only
    network.freeze(network.stage_names)
    with measure("activations"):
        train, val = (_features(model, chosen) for chosen in rows.values())
    network.freeze(frozen, norms_only)
    model.prefix = None
    model.weigh_classes()
    labels = {name: torch.from_numpy(index.labels[chosen]).to(model.device) for name, chosen in rows.items()}
    best = float("inf")
    start = head.weight.detach().clone(), head.bias.detach().clone()
    for penalty, weight, bias in solve_path(train, labels["train"], penalty_path(PENALTIES), model.loss, start=start):
        loss = float(cross_entropy(val @ weight.T + bias, labels["val"]))
        if loss >= best:
            break
        best, strength = loss, penalty
        with torch.no_grad():
            head.weight.copy_(weight)
            head.bias.copy_(bias)
    accuracy = float((head_logits(head, val).argmax(dim=1) == labels["val"]).float().mean())
    shown = f"validation loss {metric_value('loss', best)}, accuracy {metric_value('accuracy', accuracy)}"
    log.info(f"The head begins solved, penalty {strength:.2g}: {shown}")


def _features(model: ImageClassifier, rows: np.ndarray) -> Tensor:
    """What the frozen stages give for the images of some rows at their centre, (n, F) float32, in that order."""
    model.make_prefix(digest(model.network, model.network.frozen))
    assert model.prefix is not None
    batches = model.prefix.compute(model.data.loader("train"), None)(rows)
    return torch.cat([features for _, features in batches]).to(model.device, torch.float32)
