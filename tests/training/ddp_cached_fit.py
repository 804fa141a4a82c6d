"""A script for several gloo processes: one fit with a frozen prefix, its weights and whether steps saw activations.

`python ddp_cached_fit.py IMAGES OUT PROCESSES on|off`
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import lightning as L
import torch
from safetensors.torch import save_file

from resnet_tl import ImageClassifier, ImageDataModule


class Inputs(L.Callback):
    kinds: tuple[str, ...] = ()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.kinds += tuple(key for key in batch if key in ("image", "activation"))


def main(images: str, out: str, processes: int, cached: str) -> None:
    torch.set_num_threads(1)
    inputs = Inputs()
    trainer = L.Trainer(
        max_epochs=3,
        accelerator="cpu",
        devices=processes,
        strategy="ddp",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
        callbacks=[inputs],
    )
    phases = [{"image_size": 12, "epochs": 1}, {"epochs": 1}, {"norms_only": True}]
    schedule = [{"mode": "last_stages", **phase} for phase in phases]
    model = ImageClassifier("resnet20", weights="none", schedule=schedule, activation_cache=cached)
    trainer.fit(
        model, datamodule=ImageDataModule(images, batch_size=4, image_size=16, test_size=20, workers=0, views=2)
    )
    rank = trainer.global_rank
    save_file(
        {key: value.contiguous() for key, value in model.network.state_dict().items()}, f"{out}/{rank}.safetensors"
    )
    Path(f"{out}/{rank}.json").write_text(json.dumps({"kinds": sorted(set(inputs.kinds)), **model.numbers["val"]}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
