"""The images that a user's list leaves out of a data set."""

from __future__ import annotations

import logging
import os

from resnet_tl.data.index import ImageIndex
from resnet_tl.data.reading.listed_images import ListedImages

log = logging.getLogger(__name__)


def without_excluded(index: ImageIndex, file: str | os.PathLike[str]) -> ImageIndex:
    """`index` without the images that a CSV file names in its column `path`, as the index or absolute.

    Where there is a column `suggestion`, as `resnet-tl data check` writes it, or `action`, as of `data suspects`, only
    rows with `exclude` count, and of these not the ones whose file has been removed since.

    Raises:
        UserError: the file cannot be read, names an image that is not in the data set, or empties a class.
    """
    images = ListedImages.read(file, "data.exclude")
    if "suggestion" in images.frame:
        images = images.where("suggestion", "exclude", ["look"])
    if "action" in images.frame:
        images = images.where("action", "exclude", ["relabel", "keep"])
    rows = set(images.rows(index)) - {-1}
    log.info(f"{images.file}: {len(rows):,} of {len(index):,} images are left out")
    return index.without(rows)
