"""Fine-tunes with plain Lightning: a LightningModule as in its transfer learning page, `BackboneFinetuning` for `head`.

The callback leaves BatchNorm trainable in the frozen backbone, whatever its `train_bn`; the other works freeze by
`requires_grad`, as the page does, while BatchNorm goes on counting. Tuned: `precision="bf16-mixed"`, channels_last,
persistent workers, BatchNorm in eval mode, and in place of the callback `requires_grad`, BatchNorm's included.
"""

from __future__ import annotations

import lightning as L
import torch
import torch.nn.functional as F
import torchvision
from job import FROZEN, LAYERS, Job, checksums, read_job
from lightning.pytorch.callbacks import BackboneFinetuning
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class TransferLearning(L.LightningModule):
    """A ResNet's backbone with a new linear head."""

    def __init__(self, job: Job, classes: int) -> None:
        super().__init__()
        self.job = job
        network = torchvision.models.get_model(job.network, weights=None)
        network.load_state_dict(load_file(job.weights))
        self.backbone = nn.Sequential(*list(network.children())[:-1])
        self.head = nn.Linear(network.fc.in_features, classes)
        if job.tuned or job.work != "head":  # there the callback freezes
            for name, module in zip((*LAYERS[:2], "relu", "maxpool", *LAYERS[2:]), self.backbone, strict=False):
                module.requires_grad_(name not in FROZEN[job.work])

    def forward(self, images: Tensor) -> Tensor:
        if self.job.tuned:
            images = images.to(memory_format=torch.channels_last)
        return self.head(self.backbone(images).flatten(1))

    def on_train_epoch_start(self) -> None:
        if self.job.tuned:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        loss = F.cross_entropy(self(images), labels)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        accuracy = (self(images).argmax(1) == labels).float().mean()
        self.log("val_accuracy", accuracy, prog_bar=True, batch_size=len(labels))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return torch.optim.Adam(trained, lr=1e-3 if self.job.work == "head" else 1e-4)


def main() -> None:
    job = read_job(__doc__)
    normalise = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    train_images = ImageFolder(
        str(job.photos / "train"),
        transforms.Compose([transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), *normalise]),
    )
    val_images = ImageFolder(
        str(job.photos / "val"),
        transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), *normalise]),
    )
    options = {"batch_size": job.batch_size, "num_workers": job.workers}
    if job.tuned:
        options["persistent_workers"] = job.workers > 0
    model = TransferLearning(job, len(train_images.classes))
    before = checksums({name: tensor for name, tensor in model.state_dict().items() if name.startswith("backbone.")})
    if job.tuned:
        model.to(memory_format=torch.channels_last)
    callbacks: list[L.Callback] = []
    if job.work == "head" and not job.tuned:
        callbacks.append(BackboneFinetuning(unfreeze_backbone_at_epoch=job.epochs))
    trainer = L.Trainer(
        max_epochs=job.epochs,
        precision="bf16-mixed" if job.tuned else "32-true",
        callbacks=callbacks,
        default_root_dir=job.result.parent,
    )
    trainer.fit(model, DataLoader(train_images, shuffle=True, **options), DataLoader(val_images, **options))
    accuracy = float(trainer.callback_metrics["val_accuracy"])
    job.report(accuracy, before, model.cpu().state_dict(), body="backbone.")


if __name__ == "__main__":
    main()
