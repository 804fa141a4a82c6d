"""A script as people write one: `python ddp_habits.py IMAGES OUT STRATEGY`, two gloo processes.

Each process writes the rows of each epoch; `ddp_spawn` is refused.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import lightning as L

from resnet_tl import ImageClassifier, ImageDataModule


class Rows(L.Callback):
    def on_train_epoch_start(self, trainer, pl_module) -> None:
        self.epochs = [*getattr(self, "epochs", []), []]

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.epochs[-1] += batch["row"].tolist()


if __name__ == "__main__":
    images, out, strategy = sys.argv[1:]
    rows = Rows()
    trainer = L.Trainer(
        max_epochs=3, accelerator="cpu", devices=2, strategy=strategy, overfit_batches=1, logger=False, callbacks=rows
    )
    data = ImageDataModule(images, batch_size=4, image_size=16, sampler="balanced")
    model = ImageClassifier(mode="head")
    trainer.fit(model, datamodule=data)
    trainer.validate(model, datamodule=data)
    Path(out, f"{trainer.global_rank}.json").write_text(json.dumps(rows.epochs))
