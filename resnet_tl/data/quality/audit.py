"""What is wrong with the files of a data set, found before training, and kept for the next time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from resnet_tl.data.content_hashes import digest_of
from resnet_tl.data.index import ImageIndex
from resnet_tl.data.kept_arrays import Arrays, kept_arrays, key_of
from resnet_tl.data.pixels.decode import BadImage, decode_with_size, read_file
from resnet_tl.data.pixels.deep import ValueRange
from resnet_tl.data.quality.thumbnails import SIDE, thumbnail
from resnet_tl.data.threads import for_each
from resnet_tl.errors import UserError

# What web sites give out in place of a lost photo decodes well, so only its name tells.
_PLACEHOLDER = re.compile(
    r"(image|photo|picture)[ _-]?(not[ _-]?(found|available)|unavailable)|no[ _-]?(image|photo|picture)[ _-]?available",
    re.IGNORECASE,
)
_ARRAYS = ("sizes", "thumbnails", "bad_rows", "bad_reasons")
_CONTENT = 4
"""Raised whenever an audit comes to hold something else."""
SHORT_SIDE = 256
"""As fits at 224 pixels store their images: with them, or where nobody wants the pixels, thumbnails are the same."""


@dataclass(frozen=True, eq=False)
class Audit:
    """What decoding every image once has shown."""

    sizes: np.ndarray  # width and height of each row when upright, (N, 2) int32; 0 for bad ones
    bad: dict[int, str]  # why an image cannot be used, by row in ascending order; a reason continues "The image ..."
    thumbnails: np.ndarray  # by which images are compared, (N, 16, 16) uint8
    value_range: ValueRange | None = None  # with which images of more than 8 bits were decoded

    def without_bad(self) -> Audit:
        """The audit of the good images alone, renumbered."""
        sizes, thumbnails = (np.delete(array, list(self.bad), axis=0) for array in (self.sizes, self.thumbnails))
        return Audit(sizes, {}, thumbnails, self.value_range)


def audit_images(
    index: ImageIndex,
    contents: np.ndarray,
    channels: int = 3,
    value_range: ValueRange | None = None,
    made: Audit | None = None,
) -> Audit:
    """The audit of all rows: the one that is kept for files of the same content, else every file is decoded once.

    `contents` are their hashes; `channels` and `value_range` say what they will be decoded to. One that was `made`
    already is kept instead.
    """

    def make() -> Arrays:
        audit = made or decode_all(index, contents, channels, SHORT_SIDE, value_range=value_range)
        rows, reasons = np.array(list(audit.bad), np.int64), np.array(list(audit.bad.values()), str)
        return dict(zip(_ARRAYS, (audit.sizes, audit.thumbnails, rows, reasons), strict=True))

    key = key_of(["audit", _CONTENT, channels, value_range, list(placeholders(index.ids()))], contents)
    about = f"{len(index)} images in {index.root}"
    kept = kept_arrays(key, _ARRAYS, len(index), 8 + SIDE * SIDE, about, make)
    bad = dict(zip(kept["bad_rows"].tolist(), kept["bad_reasons"].tolist(), strict=True))
    return Audit(kept["sizes"], bad, kept["thumbnails"], value_range)


def decode_all(
    index: ImageIndex,
    contents: np.ndarray,
    channels: int = 3,
    short_side: int | None = None,
    use: Callable[[int, np.ndarray], None] | None = None,
    value_range: ValueRange | None = None,
) -> Audit:
    """Decodes every file of `index` once; bad is what `decode` refuses, and a placeholder such as `imageNotFound.gif`.

    `contents` are their hashes: what is said of an image must hold for that content. `use` is given the row
    and the pixels of each good image, as of `decode`, in many threads at once.

    Raises:
        UserError: a file has changed since its digest was taken.
    """
    count = len(index)
    sizes, thumbnails = np.zeros((count, 2), np.int32), np.zeros((count, SIDE, SIDE), np.uint8)
    bad = placeholders(index.ids())

    def check(row: int) -> None:
        if row in bad:
            return
        path = index.path(row)
        try:
            content = read_file(path)
            if digest_of(content) != contents[row].tobytes():
                raise UserError(f"{path} has changed while the images were read; start again when all are in place.")
            pixels, sizes[row] = decode_with_size(content, channels, short_side, value_range)
        except BadImage as error:
            bad[row] = error.reason
            return
        thumbnails[row] = thumbnail(pixels)
        if use:
            use(row, pixels)

    for_each(np.arange(count), check, "decoding")
    return Audit(sizes, dict(sorted(bad.items())), thumbnails, value_range)


def placeholders(names: Iterable[str]) -> dict[int, str]:
    """The rows of files that stand for a missing photo by their names, with the reason why they are bad."""
    rows = [row for row, name in enumerate(names) if _PLACEHOLDER.fullmatch(PurePosixPath(name).stem)]
    return dict.fromkeys(rows, "is a placeholder for a missing photo, by its name")
