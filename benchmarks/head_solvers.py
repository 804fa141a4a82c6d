"""A solved head against one trained in steps, on the same frozen features, over random divisions of the images.

    python benchmarks/head_solvers.py /data/ants_bees --network resnet18 --weights resnet18.safetensors
    python benchmarks/head_solvers.py --source seedlings_sample

55 % of the images train, 20 % choose the epoch of AdamW or the penalty of the solution, 25 % judge. Printed are the
means over the divisions, and of the paired differences to AdamW twice their standard error, which understates it, since
the divisions overlap. Several networks, such as resnet18+resnet50, stand side by side.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_tl import ImageClassifier, ImageDataModule
from resnet_tl.finetuning.defaults import PENALTIES, defaults_for
from resnet_tl.finetuning.learning_rate import WarmupCosine
from resnet_tl.finetuning.logistic import penalty_path, solve_path
from resnet_tl.networks.frozen import FrozenStages

BATCH = 32
Part = tuple[Tensor, Tensor]  # features (n, F), labels (n,)


def features(model: ImageClassifier, data: ImageDataModule) -> Part:
    """Of all labelled images at their centre."""
    data.prepare_data()
    data.setup("fit")
    model.build(data)
    stages, found, rows = FrozenStages(model.network), [], []
    for split in ("train", "val"):
        for batch in data.loader(split):
            found.append(stages(data.preprocessing.normalise(batch["image"])))
            rows.append(batch["row"].numpy())
    return torch.cat(found), torch.from_numpy(data.index.labels[np.concatenate(rows)])


def in_steps(train: Part, chooses: Part, judges: Part) -> Tensor:
    """Logits of the best epoch of AdamW at the defaults of mode head."""
    (x, y), defaults = train, defaults_for("head")
    classes = int(y.max()) + 1
    generator = torch.Generator().manual_seed(0)
    weight = (0.01 * torch.randn(classes, x.shape[1], generator=generator)).requires_grad_()
    bias = torch.zeros(classes, requires_grad=True)
    groups = [{"params": [weight], "weight_decay": defaults.weight_decay}, {"params": [bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=defaults.lr, fused=True)
    steps = -(-len(x) // BATCH)
    factor = WarmupCosine([0], steps * defaults.epochs, [1.0], 0.05)
    best, logits = float("inf"), torch.empty(0)
    for epoch in range(defaults.epochs):
        for number, rows in enumerate(torch.randperm(len(x), generator=generator).split(BATCH)):
            for group in optimizer.param_groups:
                group["lr"] = defaults.lr * factor(epoch * steps + number)
            optimizer.zero_grad()
            F.cross_entropy(F.linear(x[rows], weight, bias), y[rows]).backward()
            optimizer.step()
        with torch.no_grad():
            loss = float(F.cross_entropy(F.linear(chooses[0], weight, bias), chooses[1]))
            if loss < best:
                best, logits = loss, F.linear(judges[0], weight, bias)
    return logits


def solved(train: Part, chooses: Part, judges: Part) -> Tensor:
    """Logits of the best penalty."""
    best, logits = float("inf"), torch.empty(0)
    for found in solve_path(*train, penalty_path(PENALTIES)):
        loss = float(F.cross_entropy(F.linear(chooses[0], found.weight, found.bias), chooses[1]))
        if loss < best:
            best, logits = loss, F.linear(judges[0], found.weight, found.bias)
    return logits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", help="a folder of images")
    parser.add_argument("--source", help="a known data set in its place")
    parser.add_argument("--network", default="auto")
    parser.add_argument("--weights", nargs="+", default=["default"], help="one for each network")
    parser.add_argument("--divisions", type=int, default=8)
    options = parser.parse_args()
    weights = options.weights if "+" in options.network else options.weights[0]
    data = ImageDataModule(options.root, source=options.source, augmentation="none", on_bad_image="skip", workers=0)
    x, y = features(ImageClassifier(options.network, weights=weights, mode="head"), data)
    rows: dict[str, list[tuple[float, float]]] = {"AdamW": [], "solved": []}
    for seed in range(options.divisions):
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
        parts = [(x[part], y[part]) for part in order.tensor_split([int(0.55 * len(y)), int(0.75 * len(y))])]
        for name, solve in (("AdamW", in_steps), ("solved", solved)):
            logits, labels = solve(*parts), parts[2][1]
            accuracy = float((logits.argmax(dim=1) == labels).float().mean())
            rows[name].append((accuracy, float(F.cross_entropy(logits, labels))))
    print(f"{len(y)} images, {x.shape[1]} features")
    for name, values in rows.items():
        difference = np.subtract(values, rows["AdamW"])
        error = 2 * difference.std(axis=0, ddof=1) / len(values) ** 0.5
        accuracy, loss = np.mean(values, axis=0)
        print(f"{name:8} accuracy {accuracy:.4f} loss {loss:.4f}", end="")
        print("".join(f"  {d:+.4f} ± {e:.4f}" for d, e in zip(difference.mean(axis=0), error, strict=True)))


if __name__ == "__main__":
    main()
