"""Trains ResNet-20 on CIFAR-10 in a plain torch loop with torchvision's transforms, as PyTorch's tutorial does.

Images come from class folders by `ImageFolder`, or lie decoded in memory as in `torchvision.datasets.CIFAR10`. Writes
the seconds of each epoch, which are those of training alone. The network is ours, so that both train the same.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from resnet_tl.networks import create_network


class InMemory(Dataset):
    """Decoded images, handed to the transform one by one as `torchvision.datasets.CIFAR10` does."""

    def __init__(self, images: ImageFolder) -> None:
        self.data = np.stack([np.asarray(images.loader(path)) for path, _ in images.samples])
        self.targets = images.targets
        self.transform = images.transform

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        assert self.transform is not None
        return self.transform(Image.fromarray(self.data[index])), self.targets[index]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="holds train/CLASS")
    parser.add_argument("--from_memory", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--result", type=Path, required=True)
    arguments = parser.parse_args()

    transform = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        ]
    )
    images: Dataset = ImageFolder(str(arguments.photos / "train"), transform)
    if arguments.from_memory:
        images = InMemory(images)
    loader = DataLoader(images, batch_size=arguments.batch_size, shuffle=True, num_workers=arguments.workers)
    model = create_network("resnet20", num_classes=10).body.train()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)

    seconds = []
    for epoch in range(arguments.epochs):
        started = time.perf_counter()
        total = 0.0
        for inputs, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(inputs), labels)
            loss.backward()
            optimizer.step()
            total += loss.item()
        seconds.append(time.perf_counter() - started)
        print(f"epoch {epoch + 1}: loss {total / len(loader):.3f}, {seconds[-1]:.1f} s", flush=True)
    arguments.result.write_text(json.dumps(seconds), encoding="utf-8")


if __name__ == "__main__":
    main()
