"""Which learning rate a linear head wants on frozen features: the measurement behind the defaults of the mode `head`.

    python benchmarks/head_learning_rate.py photos --network resnet18 --weights resnet18.safetensors

Features are computed once from centre crops; then heads are trained on them as `fit` does (AdamW, batch 32, 5 %
warm-up, cosine to zero), and the epoch with the smallest validation loss counts. Prints mean and range over seeds.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.finetuning.learning_rate import WarmupCosine, warmup_cosine
from resnet_tl.networks import create_network
from resnet_tl.networks.stages import StagedNetwork
from resnet_tl.networks.weights import load_weights
from resnet_tl.training.choices import choose_network, choose_preprocessing

RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
EPOCHS = (10, 20)


@torch.inference_mode()
def features(network: StagedNetwork, data: ImageDataModule, split: str) -> tuple[Tensor, Tensor]:
    """Features (N, F) and labels (N,) of a split."""
    parts = [
        (network.forward_stages(data.preprocessing.normalise(batch["image"])), batch["label"])
        for batch in data.loader(split)
    ]
    return torch.cat([part for part, _ in parts]).clone(), torch.cat([labels for _, labels in parts]).clone()


def train(
    network: StagedNetwork, splits: dict[str, tuple[Tensor, Tensor]], lr: float, epochs: int, seed: int
) -> tuple[float, float]:
    """Smallest validation loss (nats) and the accuracy at that epoch."""
    (images, labels), (val_images, val_labels) = splits["train"], splits["val"]
    torch.manual_seed(seed)
    network.replace_head(int(labels.max()) + 1)
    head = network.head
    groups = [{"params": [head.weight]}, {"params": [head.bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, weight_decay=1e-2)  # type: ignore[arg-type]
    batches = -(-len(images) // 32)
    scheduler = warmup_cosine(optimizer, WarmupCosine([0], epochs * batches, [1.0]))
    best = (float("inf"), 0.0)
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(32):
            optimizer.zero_grad()
            F.cross_entropy(head(images[rows]), labels[rows]).backward()
            optimizer.step()
            scheduler.step()
        with torch.no_grad():
            logits = head(val_images)
        loss = F.cross_entropy(logits, val_labels).item()
        best = min(best, (loss, (logits.argmax(1) == val_labels).float().mean().item()))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", help="labelled images; default: the built-in sample")
    parser.add_argument("--network", default="auto")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    data = ImageDataModule(
        arguments.root, source="seedlings_sample", augmentation="none", on_bad_image="skip", batch_size=32
    )
    data.prepare_data()
    data.setup()
    name, _ = choose_network(arguments.network, data.short_side)
    network = create_network(name, len(data.classes)).eval()
    data.use(choose_preprocessing(data, load_weights(network, arguments.weights))[0])
    splits = {split: features(network, data, split) for split in ("train", "val")}
    print(f"{name}, {len(splits['train'][0])} + {len(splits['val'][0])} images, {arguments.seeds} seeds")
    print("| epochs | learning rate | validation loss | accuracy (range) |\n|---|---|---|---|")
    for epochs in EPOCHS:
        for lr in RATES:
            results = np.array([train(network, splits, lr, epochs, seed) for seed in range(arguments.seeds)])
            (loss, accuracy), low, high = results.mean(0), results[:, 1].min(), results[:, 1].max()
            print(f"| {epochs} | {lr:g} | {loss:.3f} | {accuracy:.1%} ({low:.1%} – {high:.1%}) |")


if __name__ == "__main__":
    main()
