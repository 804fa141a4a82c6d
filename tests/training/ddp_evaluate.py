"""A script for several gloo processes: evaluates the weights of a seed, and writes its table and each rank's numbers.

`python ddp_evaluate.py IMAGES OUT PROCESSES NETWORK MODE BATCH_SIZE THREADS`
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import lightning as L
import torch

from resnet_tl import ImageClassifier, ImageDataModule
from resnet_tl.evaluation.predictions import write_predictions


def main(images: str, out: str, processes: str, network: str, mode: str, batch_size: str, threads: str) -> None:
    torch.set_num_threads(int(threads))
    model = ImageClassifier(network, weights="none", mode=mode, seed=3)
    data = ImageDataModule(images, batch_size=int(batch_size), image_size=32, workers=0, val_fraction=0.3)
    trainer = L.Trainer(
        accelerator="cpu", devices=int(processes), strategy="ddp" if int(processes) > 1 else "auto", logger=False,
        enable_progress_bar=False, enable_checkpointing=False,
    )  # fmt: skip
    trainer.validate(model, datamodule=data, verbose=False)
    folder = Path(out)
    folder.mkdir(exist_ok=True)
    if trainer.is_global_zero:
        write_predictions(model.prediction_table("val"), folder / "val.csv")
    splits = data.index.table["split"].tolist()
    (folder / f"{trainer.global_rank}.json").write_text(json.dumps({"metrics": model.numbers["val"], "splits": splits}))


if __name__ == "__main__":
    main(*sys.argv[1:])
