"""The identity of images: a content hash of each file, whatever its name, place or date."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from resnet_tl import __version__, cache
from resnet_tl.data.index import ImageIndex
from resnet_tl.data.pixels.decode import DECODER, BadImage, header_size, read_file
from resnet_tl.data.threads import for_each

SETTLED = 2.0
"""Seconds after which a file's times tell of any further change: file systems round them, some to so much."""
WORTH_KEEPING = 16


def content_digests(index: ImageIndex, threads: int | None = None) -> np.ndarray:
    """SHA-256 of the bytes of each row's file, (N, 32) uint8; by default in all usable cores.

    A file that cannot be read has the digest of the reason, so that what is kept for it holds for that reason alone.
    """
    digests = np.empty((len(index), 32), np.uint8)

    def digest(row: int) -> None:
        try:
            content = read_file(index.path(row))
        except BadImage as error:
            content = b"\0" + error.reason.encode()  # no image begins with a zero
        digests[row] = np.frombuffer(digest_of(content), np.uint8)

    for_each(np.arange(len(index)), digest, threads)
    return digests


def hashes_and_sizes(index: ImageIndex) -> tuple[np.ndarray, np.ndarray]:
    """Content hashes (N, 32) uint8 and the widths and heights in the files' headers (N, 2) int32, zeros where unknown.

    They are kept by the path, size and times of each file, so that files that nobody has touched are not read again.
    """
    found: list[np.ndarray] = []

    def read(folder: Path | None = None) -> None:
        found.extend((content_digests(index), _header_sizes(index)))
        for name, array in zip(("hashes", "sizes"), found, strict=True):
            if folder:
                np.save(folder / f"{name}.npy", array, allow_pickle=False)

    if len(index) >= WORTH_KEEPING and (key := _state(index)):
        about = f"content hashes of {len(index)} images in {index.root}"
        folder = cache.entry("audits", key, 40 * len(index) + 1024, about, read)
        if folder and not found:
            with suppress(OSError, ValueError, EOFError):  # just removed by another process, or damaged
                found = [np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("hashes", "sizes")]
    if not found:
        read()
    hashes, sizes = found
    return hashes, sizes


def digest_of(content: bytes) -> bytes:
    """SHA-256 of the bytes of one file."""
    return hashlib.sha256(content).digest()


def digest_in_order(digests: np.ndarray) -> str:
    """One digest of (n, 32) digests in their order, in hex."""
    return hashlib.sha256(digests.tobytes()).hexdigest()


def _header_sizes(index: ImageIndex) -> np.ndarray:
    sizes = np.zeros((len(index), 2), np.int32)

    def read(row: int) -> None:
        sizes[row] = header_size(index.path(row))

    for_each(np.arange(len(index)), read)
    return sizes


def _state(index: ImageIndex) -> str | None:
    """A digest of what changes with any file; None while one is missing, or so new that its times may not yet tell."""
    state = hashlib.sha256(f"{__version__}\n{DECODER}\n{index.root}\n".encode())
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
