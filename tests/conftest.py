"""What all tests share: real images and weights where they are at hand, and a small data set drawn by code."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session", autouse=True)
def _one_thread_and_own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Tests are many small computations: threads would only wait for each other. No test touches the user's cache."""
    import torch

    torch.set_num_threads(1)
    patch = pytest.MonkeyPatch()
    patch.setenv("RESNET_TL_CACHE", str(tmp_path_factory.mktemp("cache")))
    patch.setenv("OMP_NUM_THREADS", "1")
    patch.setenv("HF_HUB_OFFLINE", "1")
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def _as_written():
    """Tests look for messages as they are written, with flags; and nobody has seeded everything."""
    from resnet_tl.wording import for_command_line

    with for_command_line(), pytest.MonkeyPatch.context() as patch:
        patch.delenv("PL_GLOBAL_SEED", raising=False)
        yield


@pytest.fixture
def in_python(_as_written: None):
    """Messages as whoever calls our classes from Python reads them."""
    from resnet_tl.wording import for_command_line

    with for_command_line(False):
        yield


@pytest.fixture(scope="module")
def running_hub() -> Iterator[Any]:
    """A stand-in of the Hugging Face hub, `sharing/hub_stand_in.py`, that listens on this machine."""
    made = runpy.run_path(str(Path(__file__).parent / "sharing" / "hub_stand_in.py"))
    with made["running_hub"]() as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next((found for found in map(shutil.which, names) if found), None)
    if chromium is None:
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as started:
        quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        opened = started.chromium.launch(executable_path=chromium, args=quiet)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with ants/bees, cats/dogs, plant seedlings."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the real data sets beside the checkout are missing")
    return SHARED / "data"


@pytest.fixture(scope="session")
def shared_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with real ImageNet weights of ResNet-18 and ResNet-50."""
    if not (SHARED / "weights" / "unpack.py").is_file():
        pytest.skip("the real ImageNet weights beside the checkout are missing")
    folder = tmp_path_factory.mktemp("weights")
    subprocess.run([sys.executable, SHARED / "weights" / "unpack.py", folder], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`{train,val,test}/<class>/*.png`: 24 + 13 + 7 pictures of 32 pixels in three classes, told apart by colour."""
    root = tmp_path_factory.mktemp("blobs")
    generator = np.random.default_rng(0)
    for split, counts in (("train", (8, 8, 8)), ("val", (5, 4, 4)), ("test", (3, 2, 2))):
        for channel, (name, count) in enumerate(zip(("blue", "green", "red"), counts, strict=True)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 120, (32, 32, 3), dtype=np.uint8)
                pixels[..., 2 - channel] += 100
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


@pytest.fixture
def fit(blobs: Path, tmp_path: Path) -> Callable[..., Any]:
    """Fits a resnet20 to the blobs with a real, quiet Trainer: three steps of eight images an epoch.

    `fit(epochs, data={...}, trainer={...}, model=..., ckpt_path=..., **settings of ImageClassifier)` gives the model.
    """
    import lightning as L

    from resnet_tl import ImageClassifier, ImageDataModule

    def run(epochs: int | None = 1, *, data=None, trainer=None, model=None, ckpt_path=None, **settings) -> Any:
        model = model or ImageClassifier(**{"network": "resnet20", "weights": "none", **settings})
        images = ImageDataModule(**{"root": blobs, "batch_size": 8, "image_size": 16, "workers": 0, **(data or {})})
        quiet = {
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": tmp_path,
        }
        L.Trainer(max_epochs=epochs, **quiet | (trainer or {})).fit(model, datamodule=images, ckpt_path=ckpt_path)
        return model

    return run
