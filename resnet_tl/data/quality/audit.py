"""What is wrong with the files of a data set, found before training, and kept for the next time."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from resnet_tl import __version__, cache
from resnet_tl.data.content_hashes import content_digests, digest_of
from resnet_tl.data.index import ImageIndex
from resnet_tl.data.pixels.decode import DECODER, BadImage, decode_with_size, read_file
from resnet_tl.data.quality.thumbnails import SIDE, thumbnail
from resnet_tl.data.threads import for_each
from resnet_tl.errors import UserError

# What web sites give out in place of a lost photo decodes well, so only its name tells.
_PLACEHOLDER = re.compile(
    r"(image|photo|picture)[ _-]?(not[ _-]?(found|available)|unavailable)|no[ _-]?(image|photo|picture)[ _-]?available",
    re.IGNORECASE,
)
ARRAYS = ("sizes", "thumbnails")
CONTENT = 3
"""Raised whenever an audit comes to hold something else."""
WORTH_KEEPING = 16
"""Images from which on an audit is kept: whoever classifies one photo after another should not fill the cache."""
SHORT_SIDE = 256
"""As fits at 224 pixels store their images: with them, or where nobody wants the pixels, thumbnails are the same."""


@dataclass(frozen=True, eq=False)
class Audit:
    """What decoding every image once has shown.

    Args:
        sizes: Width and height of each row when upright, (N, 2) int32; 0 for bad ones.
        bad: Why an image cannot be used, by row in ascending order; a reason continues "The image ...".
        thumbnails: By which images are compared, (N, 16, 16) uint8.
    """

    sizes: np.ndarray
    bad: dict[int, str]
    thumbnails: np.ndarray

    @classmethod
    def empty(cls, count: int) -> Audit:
        """Of images that nothing is known about yet."""
        return cls(np.zeros((count, 2), np.int32), {}, np.zeros((count, SIDE, SIDE), np.uint8))

    def without_bad(self) -> Audit:
        """The audit of the good images alone, renumbered."""
        rows = list(self.bad)
        return Audit(bad={}, **{name: np.delete(getattr(self, name), rows, axis=0) for name in ARRAYS})


def audit_images(
    index: ImageIndex,
    contents: np.ndarray | None = None,
    channels: int = 3,
    threads: int | None = None,
) -> Audit:
    """The audit of all rows: the one that is kept for files of the same content, else every file is decoded once.

    Args:
        index: the images.
        contents: their `content_digests`, where they are known already.
        channels: what the images will be decoded to: 1, 3 or 4.
        threads: that decode; by default as many as this process may use cores.
    """
    if contents is None:
        contents = content_digests(index, threads)

    def audit() -> Audit:
        return decode_all(index, contents, channels, SHORT_SIDE, threads=threads)

    folder = _entry(index, contents, channels, lambda folder: _save(audit(), folder))
    return (_load(folder) if folder else None) or audit()


def find_audit(index: ImageIndex, contents: np.ndarray, channels: int = 3) -> Audit | None:
    """The audit that is kept for files of the same content, if there is one."""
    folder = cache.find("audits", _key(index, contents, channels))
    return _load(folder) if folder else None


def keep_audit(audit: Audit, index: ImageIndex, contents: np.ndarray, channels: int = 3) -> None:
    """Keeps an audit that was made on the way to something else."""
    _entry(index, contents, channels, lambda folder: _save(audit, folder))


def decode_all(
    index: ImageIndex,
    contents: np.ndarray,
    channels: int = 3,
    short_side: int | None = None,
    use: Callable[[int, np.ndarray], None] | None = None,
    threads: int | None = None,
) -> Audit:
    """Decodes every file of `index` once; bad is what `decode` refuses, and a placeholder such as `imageNotFound.gif`.

    Args:
        index: the images.
        contents: their `content_digests`; what is said of an image must hold for that content.
        channels: as for `decode`.
        short_side: as for `decode`.
        use: is given the row and the pixels of each good image, in many threads at once.
        threads: that decode; by default as many as this process may use cores.

    Raises:
        UserError: a file has changed since its digest was taken.
    """
    audit = Audit.empty(len(index))
    bad = dict.fromkeys(_placeholders(index), "is a placeholder for a missing photo, by its name")

    def check(row: int) -> None:
        if row in bad:
            return
        path = index.path(row)
        try:
            content = read_file(path)
            if digest_of(content) != contents[row].tobytes():
                raise UserError(f"{path} has changed while the images were read; start again when all are in place.")
            pixels, audit.sizes[row] = decode_with_size(content, channels, short_side)
        except BadImage as error:
            bad[row] = error.reason
            return
        audit.thumbnails[row] = thumbnail(pixels)
        if use:
            use(row, pixels)

    for_each(np.arange(len(index)), check, threads)
    return replace(audit, bad=dict(sorted(bad.items())))


def _placeholders(index: ImageIndex) -> list[int]:
    return [row for row in range(len(index)) if _PLACEHOLDER.fullmatch(Path(index.id(row)).stem)]


def _key(index: ImageIndex, contents: np.ndarray, channels: int) -> str:
    facts = [__version__, CONTENT, DECODER, channels, _placeholders(index)]
    return hashlib.sha256(json.dumps(facts).encode() + contents.tobytes()).hexdigest()


def _entry(index: ImageIndex, contents: np.ndarray, channels: int, write: Callable[[Path], None]) -> Path | None:
    """The cache's folder for an audit, filled by `write` where there is none yet; None where it is not kept."""
    if len(index) < WORTH_KEEPING:
        return None
    size = (8 + SIDE * SIDE) * len(index) + 4096  # and a few words on each bad image
    about = f"{len(index)} images in {index.root}"
    return cache.entry("audits", _key(index, contents, channels), size, about, write)


def _save(audit: Audit, folder: Path) -> None:
    for name in ARRAYS:
        np.save(folder / f"{name}.npy", getattr(audit, name), allow_pickle=False)
    (folder / "bad.json").write_text(json.dumps(audit.bad), encoding="utf-8")


def _load(folder: Path) -> Audit | None:
    try:
        bad = json.loads((folder / "bad.json").read_text(encoding="utf-8"))
        # Mapped: the thumbnails are read only where duplicates are searched.
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ARRAYS}
        return Audit(bad={int(row): reason for row, reason in bad.items()}, **arrays)
    except (OSError, ValueError, AttributeError):  # just removed by another process, or damaged
        return None
