"""What only a GPU can show; `python benchmarks/gpu.py` runs these first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from resnet_tl import ImageClassifier, Predictor
from resnet_tl.cli.main import main
from resnet_tl.data.pixels.colour import adjust_colour
from resnet_tl.evaluation.predictions import probabilities
from resnet_tl.evaluation.repeated import ROUGH_TOLERANCE
from resnet_tl.networks import create_network
from resnet_tl.networks.frozen import FrozenStages

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]

CUDA = "cuda"
ON_GPU = {"accelerator": "gpu"}
MODES = ["head", "last_stages", "all"]


@pytest.mark.parametrize("mode", MODES)
def test_a_fit_ends_and_its_bundle_predicts_the_same_on_the_cpu(mode: str, blobs: Path, tmp_path: Path):
    run = tmp_path / "run"
    flags = ["--data.root", blobs, "--data.image_size", "32", "--data.batch_size", "8", "--data.workers", "2"]
    flags += ["--model.network", "resnet20", "--model.mode", mode, "--trainer.max_epochs", "2"]
    assert main(["fit", "--run", str(run), "--trainer.accelerator", "gpu", *map(str, flags)]) == 0

    of_fit = pd.read_csv(run / "predictions" / "val.csv").sort_values("path")
    probabilities = of_fit.filter(like="prob_").to_numpy()
    for device in ("cpu", CUDA):
        table = Predictor(run, device=device).predict(sorted((blobs / "val").rglob("*.png")))
        found = table.sort_values("path").filter(like="prob_").to_numpy()
        np.testing.assert_allclose(found, probabilities, atol=0.03)
        best_two = np.sort(probabilities, axis=1)[:, -2:]
        is_clear = best_two[:, 1] - best_two[:, 0] > 0.06
        np.testing.assert_array_equal(found.argmax(1)[is_clear], probabilities.argmax(1)[is_clear])


def test_a_fit_begins_with_the_same_head_whichever_hook_builds_the_network(fit):
    """The images' pixels, where they are kept, ask for it before Lightning does, which does so for the GPU."""
    heads = []
    for pixel_cache in ("auto", "off"):
        torch.manual_seed(len(heads))
        model = fit(1, data={"pixel_cache": pixel_cache}, trainer=ON_GPU | {"limit_train_batches": 1}, mode="all")
        heads.append(model.network.head.weight.detach().cpu())

    torch.testing.assert_close(*heads, rtol=1e-2, atol=1e-3)


class NoWaiting(Callback):
    """Makes an error of whatever in a step waits for the GPU."""

    steps = 0

    def on_train_batch_start(self, *_, **__):
        torch.cuda.set_sync_debug_mode("error" if self.steps else "default")

    def on_train_batch_end(self, *_, **__):
        torch.cuda.set_sync_debug_mode("default")
        self.steps += 1

    def on_exception(self, *_, **__):
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    "settings",
    [
        {"mode": "head"},
        {"mode": "last_stages"},
        {"mode": "all"},
        {"mode": "all", "mixup": 0.2, "cutmix": 1.0},
        {"mode": "all", "class_weights": "balanced"},
    ],
    ids=lambda settings: ", ".join(map(str, settings.values())),
)
def test_no_step_waits_for_the_gpu(settings: dict, fit):
    watch = NoWaiting()

    fit(2, trainer=ON_GPU | {"callbacks": [watch], "limit_val_batches": 0}, **settings)

    assert watch.steps == 6


class WhereAveraged(Callback):
    def on_train_batch_start(self, trainer, pl_module, *_):
        self.devices = {tensor.device.type for tensor in pl_module.ema._average_model.module.parameters()}


def test_the_average_of_the_weights_lies_on_the_gpu(fit):
    where = WhereAveraged()

    fit(1, mode="all", ema=0.9, trainer=ON_GPU | {"callbacks": where})

    assert where.devices == {CUDA}


def test_worker_processes_give_pinned_batches_with_channels_last(fit):
    seen = []

    class Looks(ImageClassifier):
        def on_before_batch_transfer(self, batch, dataloader_idx):
            image = batch["image"]
            seen.append((image.is_pinned(), image.is_contiguous(memory_format=torch.channels_last)))
            return batch

    fit(1, data={"workers": 2}, trainer=ON_GPU, model=Looks(network="resnet20", weights="none", mode="all"))

    assert set(seen) == {(True, True)}


def test_colours_change_as_on_the_cpu():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (16, 3, 64, 48), generator=generator, dtype=torch.uint8)
    factors = 0.6 + 0.8 * torch.rand(16, 3, generator=generator)

    adjusted = adjust_colour(images.to(CUDA), factors.to(CUDA))

    assert adjusted.is_contiguous(memory_format=torch.channels_last)
    assert (adjusted.cpu().int() - adjust_colour(images, factors).int()).abs().max() <= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_frozen_stages_compute_what_the_network_computes(dtype: torch.dtype):
    network = create_network("resnet18", num_classes=3)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.uniform_(-0.3, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
    images = torch.randn(4, 3, 96, 96, generator=generator)
    with torch.no_grad():
        expected = network.eval().forward_stages(images)

    found = FrozenStages(network.to(CUDA), dtype=dtype)(images.to(CUDA))

    assert found.dtype == dtype
    # In float32 too, convolutions on tensor cores read 10 bits of what they multiply (TF32).
    assert (found.float().cpu() - expected).norm() / expected.norm() < (0.005 if dtype == torch.float32 else 0.03)


def test_the_samples_network_gives_on_the_gpu_what_it_gives_on_the_cpu(blobs: Path, tmp_path: Path):
    run = tmp_path / "run"
    flags = [
        "--data.root",
        blobs,
        "--data.image_size",
        "32",
        "--model.network",
        "resnet20",
        "--trainer.max_epochs",
        "2",
    ]
    assert main(["fit", "--run", str(run), "--trainer.accelerator", "cpu", *map(str, flags)]) == 0

    tables = [Predictor(run, device=device).predict(blobs / "val") for device in ("cpu", CUDA)]
    of_cpu, of_gpu = (probabilities(table) for table in tables)
    assert np.abs(of_gpu - of_cpu).max() < ROUGH_TOLERANCE
    assert main(["validate", str(run)]) == 0  # judged on the GPU, the fastest device at hand
