"""Decoded and resized images kept on disk, so that no run decodes again what an earlier one did."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch

from resnet_tl import cache
from resnet_tl.data.index import ImageIndex
from resnet_tl.data.kept_arrays import key_of
from resnet_tl.data.pixels.preprocessing import MAX_ASPECT, Preprocessing
from resnet_tl.data.quality.audit import audit_images, decode_all

log = logging.getLogger(__name__)

_PIXELS, _DIGESTS, _PLACES = "pixels.bin", "digests.npy", "places.npy"


class PixelCache:
    """Stored images (C, h, w) uint8 by row, out of a file that is mapped into memory; safe to call from threads.

    Decoding is a pure function of a file's content, so that what is kept can change no result. The processes of a
    machine share it; a worker process is sent the path and the table of places, not the pixels.
    `folder` is as `keep_pixels` gives it, `contents` the hashes (N, 32) of the rows to be asked for.
    """

    def __init__(self, folder: Path, contents: np.ndarray, channels: int) -> None:
        self.file = folder / _PIXELS
        self.channels = channels
        digests = np.load(folder / _DIGESTS, allow_pickle=False)
        places = np.load(folder / _PLACES, allow_pickle=False)
        held = self.file.stat().st_size if self.file.exists() else 0
        if digests.dtype != np.uint8 or (places[:, 0] + places[:, 1] * places[:, 2] * channels > held).any():
            raise ValueError(f"{folder} is damaged")  # by whoever else writes there
        at = {digest.tobytes(): number for number, digest in enumerate(digests)}
        numbers = np.array([at.get(digest.tobytes(), -1) for digest in contents], np.int64)
        self.places = np.zeros((len(contents), 3), np.int64)  # offset in bytes, height, width; zeros: not kept
        self.places[numbers >= 0] = places[numbers[numbers >= 0]]
        _ = self._pixels  # a file that is mapped outlives its removal from the cache

    def __call__(self, row: int, make: Callable[[int], torch.Tensor]) -> torch.Tensor:
        """The image of a row, to be read only; one that is not kept is made by `make`."""
        offset, height, width = self.places[row].tolist()
        if not height or self._pixels is None:
            return make(row)
        pixels = self._pixels[offset : offset + height * width * self.channels]
        return pixels.view(height, width, self.channels).permute(2, 0, 1)

    @cached_property
    def _pixels(self) -> torch.Tensor | None:
        """The whole file, (bytes,) uint8; None when another process has removed it."""
        try:
            mapped = np.memmap(self.file, np.uint8, mode="r")
        except (OSError, ValueError):  # gone, or without a single image
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nobody writes into it
            return torch.from_numpy(mapped)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_pixels"}


def keep_pixels(
    index: ImageIndex, contents: np.ndarray, preprocessing: Preprocessing, sizes: np.ndarray, identity: np.ndarray
) -> Path | None:
    """The folder with the stored images of an index: found, or written by one process while the others wait.

    All good images are kept, those of the same content once. What decoding shows is kept as the audit of `index`,
    before the others go on. None where there is no room. `contents` are the images' hashes (N, 32), `sizes` their
    widths and heights (N, 2), zeros where unknown. `identity` are the hashes that name the entry: with those of bad
    files, which are not known to be bad before.
    """

    def write(folder: Path) -> None:
        log.info(f"{len(index):,} images are decoded; this is done once")
        channels, value_range = preprocessing.channels, preprocessing.value_range
        places: dict[bytes, tuple[int, int, int]] = {}
        lock = Lock()

        def add(row: int, pixels: np.ndarray) -> None:
            digest = contents[row].tobytes()
            if digest in places:
                return
            image = preprocessing.store(pixels).permute(1, 2, 0).contiguous().numpy()
            with lock:
                if digest not in places:
                    places[digest] = (file.tell(), *image.shape[:2])
                    file.write(image.data)

        with (folder / _PIXELS).open("wb") as file:
            audit = decode_all(index, contents, channels, preprocessing.storage_size, add, value_range)
        digests = np.frombuffer(b"".join(places), np.uint8).reshape(-1, 32)
        np.save(folder / _DIGESTS, digests, allow_pickle=False)
        np.save(folder / _PLACES, np.array(list(places.values()), np.int64).reshape(-1, 3), allow_pickle=False)
        audit_images(index, contents, channels, value_range, audit)

    about = f"{len(index)} images in {index.root}, {preprocessing.resize_rule} {preprocessing.storage_size} px"
    planned = preprocessing  # and all of it that shapes a stored image, which torch resizes
    shape = [planned.storage_size, planned.resize_rule, planned.interpolation, planned.channels, planned.value_range]
    key = key_of(["pixels", torch.__version__, *shape], np.unique(identity.view("V32")))
    return cache.entry("pixels", key, stored_bytes(sizes, preprocessing), about, write)


def stored_bytes(sizes: np.ndarray, preprocessing: Preprocessing) -> int:
    """What images of some widths and heights (N, 2) will take when they are kept, at most; (0, 0) takes nothing."""
    sides = np.sort(sizes[sizes.min(axis=1) > 0].astype(np.int64), axis=1)
    storage = preprocessing.storage_size
    longer = np.minimum(-(-storage * sides[:, 1] // sides[:, 0]), MAX_ASPECT * storage)
    if preprocessing.resize_rule == "squash":
        longer[:] = storage
    table = 32 + 3 * 8
    return int(longer.sum()) * storage * preprocessing.channels + len(sides) * table + 1024
