"""Fine-tunes with plain Lightning by its callback `BackboneFinetuning`, as the callback's documentation does.

A module with `backbone` and `head`, Adam at 0.001 on the head; for a third of the epochs the backbone is frozen (there:
10), then it joins at a tenth of the rate, which doubles by the epoch up to the head's (the callback's defaults). Random
resized crops and flips, as in PyTorch's transfer learning tutorial; for dihedral symmetry vertical flips too. Tuned:
channels_last, persistent workers, and `precision="bf16-mixed"` where it is faster.
"""

from __future__ import annotations

import lightning as L
import torch
import torch.nn.functional as F
import torchvision
from lightning.pytorch.callbacks import BackboneFinetuning
from safetensors.torch import load_file
from task import MEAN, STD, Task, read_task
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder


class TransferLearning(L.LightningModule):
    """A ResNet's backbone with a new linear head."""

    def __init__(self, task: Task, classes: int) -> None:
        super().__init__()
        self.is_tuned = task.tuned
        network = torchvision.models.get_model(task.network, weights=None)
        network.load_state_dict(load_file(task.weights))
        self.backbone = nn.Sequential(*list(network.children())[:-1])
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(network.fc.in_features, classes))
        if task.tuned:
            self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        if self.is_tuned:
            images = images.to(memory_format=torch.channels_last)
        return self.head(self.backbone(images))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        loss = F.cross_entropy(self(images), labels)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        accuracy = (self(images).argmax(1) == labels).float().mean()
        self.log("val_accuracy", accuracy, prog_bar=True, batch_size=len(labels))

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self(batch[0]).float().softmax(dim=1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.head.parameters(), lr=1e-3)


class Laps(L.Callback):
    """A lap ends with each epoch, its validation included."""

    def __init__(self, task: Task, frozen: int) -> None:
        self.task, self.frozen = task, frozen

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.task.begin()

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.task.lap("frozen" if trainer.current_epoch < self.frozen else "all")


def main() -> None:
    task = read_task(__doc__)
    L.seed_everything(task.seed)
    normalise = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    flips = [transforms.RandomHorizontalFlip()]
    flips += [transforms.RandomVerticalFlip()] if task.symmetry == "dihedral" else []
    train_images = ImageFolder(
        str(task.photos / "train"),
        transforms.Compose([transforms.RandomResizedCrop(task.size), *flips, *normalise]),
    )
    val_images = ImageFolder(
        str(task.photos / "val"),
        transforms.Compose([transforms.Resize(task.size * 256 // 224), transforms.CenterCrop(task.size), *normalise]),
    )
    options = {"batch_size": 32, "num_workers": task.workers, "persistent_workers": task.tuned and task.workers > 0}
    val_loader = DataLoader(val_images, **options)
    frozen = task.epochs // 3
    trainer = L.Trainer(
        max_epochs=task.epochs,
        precision="bf16-mixed" if task.bf16 else "32-true",
        callbacks=[BackboneFinetuning(unfreeze_backbone_at_epoch=frozen), Laps(task, frozen)],
        default_root_dir=task.predictions.parent / "lightning",
    )
    model = TransferLearning(task, len(train_images.classes))
    trainer.fit(model, DataLoader(train_images, shuffle=True, **options), val_loader)
    task.begin()
    probabilities = torch.cat(trainer.predict(model, val_loader))
    task.lap("predict")
    task.write([path for path, _ in val_images.samples], train_images.classes, probabilities)


if __name__ == "__main__":
    main()
