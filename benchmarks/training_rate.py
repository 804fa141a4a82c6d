"""Training images/s through our own loader, classifier and Lightning, and of the same step without any of them.

Used by `gpu.py`. The second of two epochs counts: the first one fills caches, plans kernels and starts workers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F

from resnet_tl import ImageClassifier, ImageDataModule
from resnet_tl.networks.cost import stage_costs

WARM_UP = 3
"""Steps of an epoch, or calls of a function, that are not timed."""


def wait_for(device: torch.device) -> None:
    """Until the device has done what it was asked to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(call: Callable[[], object], calls: int, device: torch.device) -> float:
    """Of one call, the mean of some."""
    for _ in range(WARM_UP):
        call()
    wait_for(device)
    started = time.perf_counter()
    for _ in range(calls):
        call()
    wait_for(device)
    return (time.perf_counter() - started) / calls


def convolution_peak(accelerator: str, precision: str, batch: int, widths: tuple[int, ...], side: int) -> float:
    """FLOP/s of the fastest 3x3 convolution in channels_last among some widths; cuDNN tries all its algorithms."""
    device = torch.device("cuda" if accelerator == "gpu" else "cpu")
    dtype = {"32-true": torch.float32, "16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}[precision]
    best, before = 0.0, torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        for width in widths:
            images, weight = (
                torch.randn(number, width, *sides, device=device, dtype=dtype).to(memory_format=torch.channels_last)
                for number, sides in ((batch, (side, side)), (width, (3, 3)))
            )
            convolve = partial(F.conv2d, images, weight, padding=1)
            best = max(best, 2 * batch * width**2 * 9 * side**2 / seconds_of(convolve, 20, device))
    finally:
        torch.backends.cudnn.benchmark = before
    return best


class Clock(L.Callback):
    """Times the second epoch, then the same step on one batch that stays on the device.

    Args:
        steps: of the step alone.
        is_compiled: whether the network's groups of blocks are compiled first. No setting of a fit does that, so it is
            done here, in place: names, copies and checkpoints of the modules stay as they are.
    """

    def __init__(self, steps: int, is_compiled: bool) -> None:
        self.steps, self.is_compiled = steps, is_compiled
        self.batch: dict[str, torch.Tensor] = {}
        self.images = 0
        self.seconds: dict[str, float] = {}

    def on_fit_start(self, trainer: L.Trainer, model: Any) -> None:
        if self.is_compiled:
            for name in model.network.stage_names:
                for module in model.network.stage(name):
                    if next(module.children(), None) is not None:
                        module.compile()
        if model.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(model.device)

    def on_train_epoch_start(self, trainer: L.Trainer, model: Any) -> None:
        wait_for(model.device)
        self.started = self.warm = time.perf_counter()
        self.images = self.warm_images = 0

    def on_train_batch_end(self, trainer: L.Trainer, model: Any, outputs: Any, batch: Any, number: int) -> None:
        self.images += len(batch["label"])
        if number == 0:
            self.batch = batch
        if number == 0 and trainer.current_epoch == 0:
            wait_for(model.device)
            self.seconds["first step"] = time.perf_counter() - self.started
        if number + 1 == min(WARM_UP, int(trainer.num_training_batches) - 1):
            wait_for(model.device)
            self.warm, self.warm_images = time.perf_counter(), self.images

    def on_train_epoch_end(self, trainer: L.Trainer, model: Any) -> None:
        wait_for(model.device)
        now = time.perf_counter()
        self.seconds |= {"epoch": now - self.started, "steady": now - self.warm}

    def on_train_end(self, trainer: L.Trainer, model: Any) -> None:
        """The step as a plain loop has it; the network is still on the device, and Lightning will take it away."""
        optimizer, batch = trainer.optimizers[0], self.batch
        if model.device.type == "cuda":
            self.peak_memory = torch.cuda.max_memory_allocated(model.device)

        def step() -> None:
            with trainer.precision_plugin.forward_context():
                loss = F.cross_entropy(model(batch["image"]).float(), batch["label"])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        self.seconds["step alone"] = seconds_of(step, self.steps, model.device)


def training_rate(
    root: Path,
    network: str,
    *,
    accelerator: str,
    precision: str,
    batch_size: int,
    image_size: int,
    steps: int,
    augmentation: Any = "light",
    is_compiled: bool = False,
    peak: float | None = None,
) -> dict[str, float]:
    """What two epochs of mode `all` give; the images are decoded before, or come out of the pixel cache.

    Args:
        root: folder of classes.
        network: its name; it begins with random weights.
        steps: of an epoch at most.
        peak: FLOP/s that the device can do, to say what share of it the training reaches.
    """
    # Whole batches only: a smaller last one would be compiled once more.
    steps = min(steps, int(0.78 * len(list(root.glob("*/*.jpg")))) // batch_size)
    clock = Clock(steps, is_compiled)
    sizes = {"batch_size": batch_size, "image_size": image_size, "val_fraction": 0.2}
    data = ImageDataModule(root, augmentation=augmentation, symmetry="mirror", **sizes)
    model = ImageClassifier(network=network, weights="none", mode="all")
    trainer = L.Trainer(
        accelerator=accelerator,
        devices=1,
        precision=precision,  # type: ignore[arg-type]
        max_epochs=2,
        limit_train_batches=steps,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[clock],
    )
    trainer.fit(model, datamodule=data)
    rate = (clock.images - clock.warm_images) / clock.seconds["steady"]
    alone = len(clock.batch["label"]) / clock.seconds["step alone"]
    found = {
        "images/s": rate,
        "images/s with the epoch's start": clock.images / clock.seconds["epoch"],
        "images/s of the step alone": alone,
        "ratio": rate / alone,
        "first step s": clock.seconds["first step"],
    }
    if peak:
        assert model.network is not None
        costs = stage_costs(model.network, image_size)
        # A multiply-add is two operations, and the backward pass takes two products for each one of the forward pass.
        found["share of the peak"] = 6 * sum(cost.multiply_adds for cost in costs) * rate / peak
    if hasattr(clock, "peak_memory"):
        found["peak memory GB"] = clock.peak_memory / 1e9
    return found
