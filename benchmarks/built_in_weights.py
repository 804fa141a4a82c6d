"""How good the built-in backbone is: makes its file from a finished run of `cifar10_backbone`, and measures it.

    resnet-tl fit --recipe cifar10_backbone.yaml --run runs/cifar10_backbone
    python benchmarks/built_in_weights.py runs/cifar10_backbone --data "CIFAR-10, lossy JPEG archive"

The residual stream is multiplied by `--scale`, and the function of the network stays the same: with larger features the
head's default learning rate, made for the 512 and more features of ImageNet ResNets, serves these 64 as well. Then the
weights are rounded to half precision, and validation and test accuracy are measured on the rounded ones. Prints the
table of docs/weights.md.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from resnet_tl import ImageDataModule, Run
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.files import replacing
from resnet_tl.networks.articles.cifar_resnet import BasicBlock, CifarResNet
from resnet_tl.networks.stages import StagedNetwork
from resnet_tl.networks.weights import BUILT_IN


def scale_residual_stream(body: CifarResNet, factor: float) -> None:
    """Multiplies what flows between the blocks by `factor`, and leaves the logits as they are."""
    for norm in (body.bn1, *(block.bn2 for block in body.modules() if isinstance(block, BasicBlock))):
        norm.weight *= factor
        norm.bias *= factor
    for block in body.modules():
        if isinstance(block, BasicBlock):
            block.bn1.running_mean *= factor
            block.bn1.running_var *= factor**2
    body.fc.weight /= factor


def features(network: StagedNetwork, data: ImageDataModule, split: str) -> torch.Tensor:
    """Features (N, F) of a split."""
    return torch.cat(
        [network.forward_stages(data.preprocessing.normalise(batch["image"])) for batch in data.loader(split)]
    )


def accuracy(network: StagedNetwork, data: ImageDataModule, split: str) -> float:
    """Share of the images of a split whose class is predicted."""
    logits = network.head(features(network, data, split))
    index = data.index
    assert index is not None
    return (logits.argmax(dim=1).numpy() == index.labels[index.rows(split)]).mean().item()


def metadata(run: Run, data: str, preprocessing: Preprocessing, scale: float) -> dict[str, str]:
    """What the file says of itself; safetensors keeps texts."""
    recipe = run.recipe
    return {
        "network": run.bundle.network["name"],
        "classes": json.dumps(run.bundle.classes),
        "recipe": ", ".join(run.environment["recipes"]),
        "seed": str(recipe["seed"]),
        "epochs": str(recipe["trainer"]["max_epochs"]),
        "data": data,
        "date": time.strftime("%Y-%m-%d"),
        "licence": "Apache-2.0",
        "scale": f"the residual stream is multiplied by {scale:g}, function unchanged",
        "image_size": str(preprocessing.size),
        "crop_ratio": "1.0",
        "interpolation": preprocessing.interpolation,
        "mean": json.dumps(preprocessing.mean),
        "std": json.dumps(preprocessing.std),
    }


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", required=True, help="which images these were, for the file's metadata")
    parser.add_argument("--scale", type=float, default=16.0)
    parser.add_argument("--output", type=Path, default=BUILT_IN / "resnet20_cifar10.safetensors")
    arguments = parser.parse_args()
    run = Run.open(arguments.run)
    network = run.bundle.load_network()
    assert isinstance(network.body, CifarResNet)
    data = ImageDataModule(**run.recipe["data"])
    data.use(run.bundle.preprocessing)
    before = network.head(features(network, data, "val"))
    scale_residual_stream(network.body, arguments.scale)
    difference = (network.head(features(network, data, "val")) - before).abs().max().item()
    assert difference < 0.01, f"the scaled network gives other logits, by up to {difference}"
    tensors = {
        key: tensor.half() for key, tensor in network.body.state_dict().items() if not key.endswith("batches_tracked")
    }
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    network.body.load_state_dict({key: tensor.float() for key, tensor in tensors.items()}, strict=False)
    facts = metadata(run, arguments.data, data.preprocessing, arguments.scale)
    facts |= {f"{split}_accuracy": f"{accuracy(network, data, split):.4f}" for split in ("val", "test")}
    with replacing(arguments.output) as temporary:
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, temporary, metadata=facts)
    print("| measured | |\n|---|---|")
    for name in ("seed", "epochs", "val_accuracy", "test_accuracy"):
        print(f"| {name.replace('val_', 'validation ').replace('_', ' ')} | {facts[name]} |")


if __name__ == "__main__":
    main()
