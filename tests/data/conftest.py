"""Small pictures that look like photos, and an end for worker processes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def _no_process_is_left(monkeypatch: pytest.MonkeyPatch):
    """Ends the worker processes of all loaders: one that is left to the garbage collector holds up another test."""
    from resnet_tl.data.loader import ImageLoader

    made: list[ImageLoader] = []
    begin = ImageLoader.__init__

    def noted(self, *arguments, **options) -> None:
        begin(self, *arguments, **options)
        made.append(self)

    monkeypatch.setattr(ImageLoader, "__init__", noted)
    yield
    for loader in made:
        loader.close()


@pytest.fixture(scope="session")
def photo() -> Callable[..., Image.Image]:
    """`photo(seed, side=64)` is an RGB image; two seeds have nothing in common."""

    def draw(seed: int, side: int = 64) -> Image.Image:
        generator = np.random.default_rng(seed)
        shapes, tints = generator.integers(20, 236, (8, 8, 1)), generator.integers(-20, 20, (8, 8, 3))
        noise = (shapes + tints).astype(np.uint8)
        return Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)

    return draw
