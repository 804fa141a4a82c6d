"""What augmented views of the training images are worth when a prefix of the network is frozen.

    python benchmarks/views.py --root photos --weights resnet18.safetensors --mode head --output views.csv

A centre crop, K = 1, 2, 4, 8 views of each image, and a new view in each epoch, with several seeds: the validation
accuracy and loss of the best epoch, their means over the seeds with standard errors, and the difference from the centre
crop, seed by seed. The seed chooses the order, the views and the head; the split stays the same.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

CENTRE = "centre"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="a folder of images, as for resnet-tl fit")
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--mode", default="head", choices=["head", "last_stages"])
    parser.add_argument("--image_size", type=int)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--views", nargs="+", default=[CENTRE, "1", "2", "4", "8", "none"], help="none: one each epoch")
    parser.add_argument("--lr", type=float, help="of the head; default: the mode's")
    parser.add_argument("--precision", default="bf16-mixed")
    parser.add_argument("--output", type=Path, required=True, help="a CSV file, one row for each fit")
    arguments = parser.parse_args()

    import pandas as pd

    results = []
    for seed in range(arguments.seeds):
        for views in arguments.views:
            results.append({"views": views, "seed": seed, **best_epoch(arguments, views, seed)})
            print(results[-1], flush=True)
            pd.DataFrame(results).to_csv(arguments.output, index=False)
    print_table(pd.DataFrame(results), arguments.views)


def best_epoch(arguments: argparse.Namespace, views: str, seed: int) -> dict[str, float]:
    """Accuracy and loss on the validation images in the epoch with the smallest loss."""
    import lightning as L

    from resnet_tl import ImageClassifier, ImageDataModule

    class Best(L.Callback):
        loss, accuracy = float("inf"), 0.0

        def on_validation_end(self, trainer: L.Trainer, model: L.LightningModule) -> None:
            metrics = model.metrics["val"]
            if metrics["loss"] < self.loss:
                self.loss, self.accuracy = metrics["loss"], metrics["accuracy"]

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    best = Best()
    data = ImageDataModule(
        arguments.root,
        augmentation="none" if views == CENTRE else "light",
        views=None if views in (CENTRE, "none") else int(views),
        image_size=arguments.image_size,
        on_bad_image="skip",
        seed=seed,
        split_seed=0,
    )
    model = ImageClassifier(
        network=arguments.network,
        weights=arguments.weights,
        mode=arguments.mode,
        optimizer={"class_path": "torch.optim.AdamW", "init_args": {"lr": arguments.lr}} if arguments.lr else None,
        seed=seed,
    )
    L.Trainer(
        accelerator="cpu",
        devices=1,
        precision=arguments.precision,
        max_epochs=arguments.epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[best],
    ).fit(model, datamodule=data)
    return {"accuracy": best.accuracy, "loss": best.loss}


def print_table(results, order: list[str]) -> None:
    accuracy = results.pivot(index="seed", columns="views", values="accuracy")[order] * 100
    loss = results.pivot(index="seed", columns="views", values="loss")[order]
    reference = accuracy[CENTRE] if CENTRE in accuracy else accuracy.iloc[:, 0]
    print("\n| views | accuracy, % | from centre, points | loss |\n|---|---|---|---|")
    for views in order:
        difference = accuracy[views] - reference
        cells = (f"{accuracy[views].mean():.2f} ± {accuracy[views].sem():.2f}",)
        cells += (f"{difference.mean():+.2f} ± {difference.sem():.2f}",)
        cells += (f"{loss[views].mean():.4f} ± {loss[views].sem():.4f}",)
        print("|", " | ".join((views, *cells)), "|")


if __name__ == "__main__":
    sys.exit(main())
