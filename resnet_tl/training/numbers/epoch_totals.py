"""The mean loss and accuracy of an epoch over all its images and processes, without a look at the GPU in each step."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor


class EpochTotals:
    """Sums over the images of this process; where an epoch is resumed they go on from what the checkpoint holds."""

    def __init__(self, device: torch.device) -> None:
        # Sums of thousands of losses; Apple's GPUs have no such numbers.
        self.sums = torch.zeros(2, dtype=torch.float64 if device.type != "mps" else torch.float32, device=device)
        self.images = 0

    @torch.no_grad()
    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """One batch: its mean loss, logits (N, classes) and labels (N,)."""
        correct = (logits.argmax(dim=1) == labels).sum()
        self.sums += torch.stack([loss.detach() * len(labels), correct]).to(self.sums)
        self.images += len(labels)

    def means(self, trainer: L.Trainer) -> tuple[Tensor, Tensor] | None:
        """Mean loss and accuracy over all processes; None where a step of the user's own added none. A collective."""
        total = torch.cat([self.sums, self.sums.new_tensor([self.images])])
        total = trainer.strategy.reduce(total, reduce_op="sum")
        assert isinstance(total, Tensor)
        if not total[2]:
            return None
        loss, accuracy = (total[:2] / total[2]).float()
        return loss, accuracy

    def of_all_processes(self, processes: int) -> list[list[float]]:
        """What a checkpoint keeps: the sums of each process; a collective."""
        own = [*self.sums.tolist(), self.images]
        kept: list[Any] = [own]
        if processes > 1:
            kept = [None] * processes
            torch.distributed.all_gather_object(kept, own)
        return kept

    def go_on(self, kept: list[float]) -> None:
        """Begins with what this process had summed up when the checkpoint was saved."""
        *sums, images = kept
        self.sums += self.sums.new_tensor(sums)
        self.images += int(images)
