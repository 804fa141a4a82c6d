"""What is wrong with the files of a data set, found before training."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from resnet_tl.data.decode import BadImage, decode
from resnet_tl.data.index import ImageIndex

# What web sites give out in place of a lost photo decodes well, so only its name tells.
_PLACEHOLDER = re.compile(
    r"(image|photo|picture)[ _-]?(not[ _-]?(found|available)|unavailable)|no[ _-]?(image|photo|picture)[ _-]?available",
    re.IGNORECASE,
)


@dataclass(frozen=True, eq=False)
class Audit:
    """What decoding every image once has shown.

    Args:
        sizes: Width and height of each row when upright, (N, 2) int32; 0 for bad ones.
        bad: Why an image cannot be used, by row in ascending order; a reason continues "The image ...".
    """

    sizes: np.ndarray
    bad: dict[int, str]


def audit_images(index: ImageIndex, threads: int | None = None) -> Audit:
    """Decodes every file of `index` once; by default in as many threads as this process may use cores.

    Bad is what `decode` refuses, and a placeholder such as `imageNotFound.gif`, which is known by its name.
    """
    sizes = np.zeros((len(index), 2), np.int32)
    bad: dict[int, str] = {}

    def check(row: int) -> None:
        path = index.path(row)
        if _PLACEHOLDER.fullmatch(path.stem):
            bad[row] = "is a placeholder for a missing photo, by its name"
            return
        try:
            height, width = decode(path).shape[:2]
        except BadImage as error:
            bad[row] = error.reason
        else:
            sizes[row] = width, height

    with ThreadPoolExecutor(threads or usable_cores()) as pool:
        for _ in pool.map(check, range(len(index))):
            pass  # taking the results raises what is no BadImage
    return Audit(sizes, dict(sorted(bad.items())))


def usable_cores() -> int:
    """Cores that this process may use; a container or a job often has fewer than the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
