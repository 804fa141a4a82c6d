"""Arrays that a pass over the images has computed, kept for the next run on the same files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from resnet_tl import __version__, cache
from resnet_tl.data.pixels.decode import DECODER

Arrays: TypeAlias = dict[str, np.ndarray]
WORTH_KEEPING = 16
"""Images from which on: whoever looks at one photo after another should not fill the cache."""


def key_of(facts: Sequence[Any], contents: np.ndarray) -> str:
    """The key of what follows from plain facts and the content hashes (N, 32) of some images."""
    text = json.dumps([__version__, DECODER, *facts])
    return hashlib.sha256(text.encode() + contents.tobytes()).hexdigest()


def kept_arrays(
    key: str, names: Sequence[str], images: int, bytes_each: int, about: str, make: Callable[[], Arrays]
) -> Arrays:
    """What is kept under a key, else what `make` gives; the processes that want it wait for the first one.

    The arrays of a few images are not kept. `about` is one line for people.
    """
    made: Arrays = {}

    def write(folder: Path) -> None:
        made.update(make())
        for name in names:
            np.save(folder / f"{name}.npy", made[name], allow_pickle=False)

    if images >= WORTH_KEEPING:
        folder = cache.entry("audits", key, bytes_each * images + 4096, about, write)
        if folder and not made:
            with suppress(OSError, ValueError, EOFError):  # just removed by another process, or damaged
                # Mapped, and so read from disk only where it is used.
                return {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in names}
    return made or make()
