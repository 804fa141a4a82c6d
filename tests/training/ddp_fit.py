"""A script for several gloo processes: two fits with a phase change, and what each rank holds in the end.

`python ddp_fit.py IMAGES OUT PROCESSES`
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path

import lightning as L
import torch
from safetensors.torch import save_file
from torch.nn.parallel import DistributedDataParallel

from resnet_tl import ImageClassifier, ImageDataModule
from resnet_tl.evaluation.predictions import write_predictions


class Gradients(L.Callback):
    """Of each step: the backbone's gradients as the optimizer gets them, the rows, and how many DDP wrappers live."""

    def __init__(self) -> None:
        self.steps: list[list[float]] = []
        self.rows: list[int] = []
        self.wrappers: list[int] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.rows += batch["row"].tolist()

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        gradients = [p.grad for p in pl_module.network.stage("stage2").parameters() if p.grad is not None]
        self.steps.append([float(gradient.double().sum()) for gradient in gradients])
        self.wrappers.append(sum(isinstance(thing, DistributedDataParallel) for thing in gc.get_objects()))


def fit(images: str, processes: int, **settings) -> tuple[ImageClassifier, Gradients]:
    gradients = Gradients()
    trainer = L.Trainer(
        max_epochs=2,
        accelerator="cpu",
        devices=processes,
        strategy="ddp",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        limit_val_batches=settings.pop("limit_val_batches", 1.0),
        callbacks=[gradients],
    )
    model = ImageClassifier("resnet20", weights="none", head_dropout=0.1, **settings)
    trainer.fit(model, datamodule=ImageDataModule(images, batch_size=4, image_size=16, workers=0))
    return model, gradients


def main(images: str, out: str, processes: int) -> None:
    torch.set_num_threads(1)
    schedule = [{"mode": "head", "epochs": 1, "image_size": 12}, {"mode": "all", "lr": 0.01}]
    model, gradients = fit(images, processes, schedule=schedule, ema=0.9)
    rank = model.trainer.global_rank
    state = {key: tensor.contiguous() for key, tensor in model.network.state_dict().items()}
    save_file(state, f"{out}/{rank}.safetensors")
    facts = {"metrics": model.numbers["val"]}
    facts |= {name: getattr(gradients, name) for name in ("steps", "rows", "wrappers")}
    if rank == 0:
        write_predictions(model.prediction_table("val"), f"{out}/val.csv")
        model.save(f"{out}/bundle")
    # Frozen again with no validation between: nothing but the new wrapper makes the ranks' statistics equal.
    again, _ = fit(images, processes, schedule=[{"mode": "all", "epochs": 1}, {"mode": "head"}], limit_val_batches=0)
    facts["frozen again"] = sorted(again.network.frozen)
    Path(f"{out}/{rank}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
