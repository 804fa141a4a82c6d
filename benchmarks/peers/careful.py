"""Fine-tunes as somebody with experience does in a plain script: all images in memory, one cycle of AdamW.

Everything trains from the first step; label smoothing 0.1, shifts by up to an eighth, flips (with dihedral symmetry
quarter turns too), channels_last, and bfloat16 where it is faster. There is no validation but the last one.
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from safetensors.torch import load_file
from task import MEAN, STD, Task, read_task
from torch import Tensor, nn
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import center_crop, pil_to_tensor, resize

BATCH = 32
RATE = 1e-3


def in_memory(task: Task, split: str) -> tuple[list[str], Tensor, Tensor, list[str]]:
    """Files, images uint8 (N, 3, size, size) and labels of a split, and the classes."""
    folder = ImageFolder(str(task.photos / split))
    files, labels = zip(*folder.samples, strict=True)

    def read(file: str) -> Tensor:
        with Image.open(file) as image:
            return pil_to_tensor(center_crop(resize(image.convert("RGB"), task.size), task.size))

    with ThreadPoolExecutor(task.workers) as pool:
        return list(files), torch.stack(list(pool.map(read, files))), torch.tensor(labels), folder.classes


def augmented(images: Tensor, symmetry: str) -> Tensor:
    """Each image shifted, mirrored and perhaps turned."""
    size = images.shape[-1]
    padded = F.pad(images.float(), [size // 8] * 4, mode="reflect").to(torch.uint8)
    views = []
    for image in padded:
        top, left = random.randrange(size // 4 + 1), random.randrange(size // 4 + 1)
        view = image[:, top : top + size, left : left + size]
        view = view.flip(2) if random.random() < 0.5 else view
        views.append(view.rot90(random.randrange(4), (1, 2)) if symmetry == "dihedral" else view)
    return torch.stack(views)


def main() -> None:
    task = read_task(__doc__)
    task.tuned = True
    random.seed(task.seed)
    torch.manual_seed(task.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task.begin()
    _, train_images, train_labels, classes = in_memory(task, "train")
    files, val_images, _, _ = in_memory(task, "val")
    task.lap("decode")

    model = torchvision.models.get_model(task.network, weights=None)
    model.load_state_dict(load_file(task.weights))
    model.fc = nn.Linear(model.fc.in_features, len(classes))
    model.to(device, memory_format=torch.channels_last)
    mean, std = (255 * torch.tensor(values, device=device).view(3, 1, 1) for values in (MEAN, STD))

    def forward(images: Tensor) -> Tensor:
        images = ((images.to(device).float() - mean) / std).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=task.bf16):
            return model(images).float()

    steps = max(len(train_labels) // BATCH, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps * task.epochs, pct_start=0.2)
    task.begin()
    for _ in range(task.epochs):
        model.train()
        for rows in torch.randperm(len(train_labels))[: steps * BATCH].split(BATCH):
            logits = forward(augmented(train_images[rows], task.symmetry))
            loss = F.cross_entropy(logits, train_labels[rows].to(device), label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
        task.lap("all")
    model.eval()
    with torch.inference_mode():
        probabilities = torch.cat([forward(batch).softmax(dim=1).cpu() for batch in val_images.split(2 * BATCH)])
    task.lap("predict")
    task.write(files, classes, probabilities)


if __name__ == "__main__":
    main()
