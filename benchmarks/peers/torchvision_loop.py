"""Fine-tunes as torchvision's classification reference and PyTorch's transfer learning tutorial do.

Transforms and optimizer are those of the reference (`presets.py`, SGD), freezing and learning rate those of the
tutorial on ants and bees: parameters without gradient, while BatchNorm goes on counting. Tuned: autocast to bfloat16
and channels_last (both are options of the reference), frozen and pretrained BatchNorm in eval mode, and no gradient
through what is frozen, which follows from `requires_grad`.
"""

from __future__ import annotations

import torch
import torchvision
from job import FROZEN, checksums, read_job
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main() -> None:
    job = read_job(__doc__)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    normalise = [
        transforms.PILToTensor(),
        transforms.ConvertImageDtype(torch.float),
        transforms.Normalize(mean=MEAN, std=STD),
    ]
    train_images = ImageFolder(
        str(job.photos / "train"),
        transforms.Compose([transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), *normalise]),
    )
    val_images = ImageFolder(
        str(job.photos / "val"),
        transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), *normalise]),
    )
    options = {"batch_size": job.batch_size, "num_workers": job.workers, "pin_memory": device.type == "cuda"}
    train_loader = DataLoader(train_images, shuffle=True, **options)
    val_loader = DataLoader(val_images, **options)

    model = torchvision.models.get_model(job.network, weights=None)
    model.load_state_dict(load_file(job.weights))
    before = checksums(model.state_dict())
    for name in FROZEN[job.work]:
        model.get_submodule(name).requires_grad_(False)
    model.fc = nn.Linear(model.fc.in_features, len(train_images.classes))
    model.to(device)
    if job.tuned:
        model.to(memory_format=torch.channels_last)

    criterion = nn.CrossEntropyLoss()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.001, momentum=0.9, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)

    for epoch in range(job.epochs):
        model.train()
        if job.tuned:
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        for images, labels in train_loader:
            images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            if job.tuned:
                images = images.to(memory_format=torch.channels_last)
            with torch.autocast(device.type, torch.bfloat16, enabled=job.tuned):
                loss = criterion(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()

        model.eval()
        correct = 0
        with torch.inference_mode():
            for images, labels in val_loader:
                if job.tuned:
                    images = images.to(memory_format=torch.channels_last)
                with torch.autocast(device.type, torch.bfloat16, enabled=job.tuned):
                    logits = model(images.to(device, non_blocking=True))
                correct += int((logits.argmax(1).cpu() == labels).sum())
        accuracy = correct / len(val_images)
        print(f"epoch {epoch + 1}: {accuracy:.3f}", flush=True)
    job.report(accuracy, before, model.cpu().state_dict())


if __name__ == "__main__":
    main()
