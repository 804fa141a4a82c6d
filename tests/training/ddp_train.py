"""A script for several gloo processes: trains a head, and writes what it has become.

`python ddp_train.py IMAGES FILE PROCESSES BATCH_SIZE CLASS_WEIGHTS`
"""

from __future__ import annotations

import sys

import lightning as L
import torch
from safetensors.torch import save_file

from resnet_tl import ImageClassifier, ImageDataModule


def main(images: str, file: str, processes: str, batch_size: str, class_weights: str) -> None:
    torch.set_num_threads(1)
    sgd = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.5, "momentum": 0.9}}
    model = ImageClassifier("resnet20", mode="head", class_weights=class_weights, optimizer=sgd)  # type: ignore[arg-type]
    data = ImageDataModule(images, batch_size=int(batch_size), image_size=32, workers=0)
    trainer = L.Trainer(
        max_epochs=3, accelerator="cpu", devices=int(processes), strategy="ddp" if int(processes) > 1 else "auto",
        logger=False, enable_progress_bar=False, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(model, datamodule=data)
    if trainer.is_global_zero:
        head = {key: tensor.contiguous() for key, tensor in model.network.head.state_dict().items()}
        save_file(head | {"loss": torch.tensor(model.numbers["val"]["loss"])}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
