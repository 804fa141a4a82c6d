"""The identity of images: a digest of the bytes of each file, whatever its name, place or date."""

from __future__ import annotations

import hashlib

import numpy as np

from resnet_tl.data.index import ImageIndex
from resnet_tl.data.pixels.decode import BadImage, read_file
from resnet_tl.data.threads import for_each


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


def digest_of(content: bytes) -> bytes:
    """SHA-256 of the bytes of one file."""
    return hashlib.sha256(content).digest()


def digest_in_order(digests: np.ndarray) -> str:
    """One digest of (n, 32) digests in their order, in hex."""
    return hashlib.sha256(digests.tobytes()).hexdigest()
