"""The identity of images: a content hash of each file, whatever its name, place or date."""

from __future__ import annotations

import hashlib
import time

import numpy as np

from resnet_tl import __version__
from resnet_tl.data.index import ImageIndex
from resnet_tl.data.kept_arrays import Arrays, kept_arrays
from resnet_tl.data.pixels.decode import DECODER, BadImage, header_facts, read_file
from resnet_tl.data.threads import for_each

_ARRAYS = ("hashes", "sizes", "kinds")
SETTLED = 2.0
"""Seconds after which a file's times tell of any further change: file systems round them, some to so much."""


def hashes_and_headers(index: ImageIndex) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Content hashes (N, 32) uint8 and, by the headers, widths and heights (N, 2) int32 and kinds of values (N,) uint8.

    A hash is the SHA-256 of a file's bytes; of the reason, where it cannot be read, so that what is kept for it holds
    for that reason alone. Sizes are zeros where unknown; kinds are those of `pixels.deep`. All are kept by the path,
    size and times of each file, so that files that nobody has touched are not read again.
    """
    key, about = _state(index), f"content hashes of {len(index)} images in {index.root}"
    found = kept_arrays(key, _ARRAYS, len(index), 41, about, lambda: _read(index)) if key else _read(index)
    return found["hashes"], found["sizes"], found["kinds"]


def _read(index: ImageIndex) -> Arrays:
    count = len(index)
    hashes, sizes, kinds = np.empty((count, 32), np.uint8), np.zeros((count, 2), np.int32), np.zeros(count, np.uint8)

    def read(row: int) -> None:
        try:
            content = read_file(index.path(row))
        except BadImage as error:
            content = b"\0" + error.reason.encode()  # no image begins with a zero
        hashes[row] = np.frombuffer(digest_of(content), np.uint8)
        *sizes[row], kinds[row] = header_facts(content)

    for_each(np.arange(count), read, "reading")
    return dict(zip(_ARRAYS, (hashes, sizes, kinds), strict=True))


def digest_of(content: bytes) -> bytes:
    """SHA-256 of the bytes of one file."""
    return hashlib.sha256(content).digest()


def digest_in_order(digests: np.ndarray) -> str:
    """One digest of (n, 32) digests in their order, in hex."""
    return hashlib.sha256(digests.tobytes()).hexdigest()


def _state(index: ImageIndex) -> str | None:
    """A digest of what changes with any file; None while one is missing, or so new that its times may not yet tell."""
    state = hashlib.sha256(f"{__version__}\n{DECODER}\n{_ARRAYS}\n{index.root}\n".encode())
    settled = time.time_ns() - int(SETTLED * 1e9)
    for row in range(len(index)):
        try:
            file = index.path(row).stat()
        except OSError:
            return None
        if max(file.st_mtime_ns, file.st_ctime_ns) > settled:
            return None
        facts = (index.id(row), file.st_size, file.st_mtime_ns, file.st_ctime_ns, file.st_ino)
        state.update(f"{facts}\n".encode())
    return state.hexdigest()
