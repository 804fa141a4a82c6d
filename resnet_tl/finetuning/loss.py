"""The training loss: cross-entropy, or the focal loss, which looks at hard images more than at easy ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def classification_loss(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
) -> Tensor:
    """The mean loss of a batch.

    Args:
        logits: (N, C).
        target: class numbers (N,), or probabilities (N, C) as mixup makes them.
        weight: of each class, (C,).
        label_smoothing: this share of a target is spread evenly over all classes.
        focal_gamma: the loss of each class is multiplied by (1 - p) ** gamma, where p is its probability; 0 is plain
            cross-entropy (Lin et al. 2017, arXiv 1708.02002, here over a softmax).
    """
    if not focal_gamma:
        return F.cross_entropy(logits, target, weight=weight, label_smoothing=label_smoothing)
    log_p = logits.float().log_softmax(dim=1)
    total: Tensor | int = len(logits)
    if target.ndim == 1:  # then torch takes the mean weighted by the labels' weights
        total = total if weight is None else weight[target].sum()
        target = F.one_hot(target, logits.shape[1])
    target = (1 - label_smoothing) * target + label_smoothing / logits.shape[1]
    if weight is not None:
        target = target * weight
    # Where p is 1 the slope of a root would be infinite.
    doubt = (1 - log_p.exp()).clamp_min(torch.finfo(log_p.dtype).eps)
    return -(target * doubt**focal_gamma * log_p).sum() / total
