"""The images that a user's list leaves out of a data set."""

from __future__ import annotations

import logging
import os
from collections.abc import Container
from pathlib import Path

from resnet_tl.data.index import ImageIndex
from resnet_tl.data.reading.tables.named_images import relative
from resnet_tl.data.reading.tables.table_files import read_table
from resnet_tl.errors import UserError, listed, nearest

log = logging.getLogger(__name__)


def without_excluded(index: ImageIndex, file: str | os.PathLike[str]) -> ImageIndex:
    """`index` without the images that a CSV file names in its column `path`, as the index or absolute.

    Where there is a column `suggestion`, as `resnet-tl data check` writes it, only rows with `exclude` count, and of
    these not the ones whose file has been removed since.

    Raises:
        UserError: the file cannot be read, names an image that is not in the data set, or empties a class.
    """
    file = Path(file).expanduser()
    frame = read_table(file).frame
    if "path" not in frame:
        raise UserError(f"data.exclude: {file} has no column 'path', only {listed(frame.columns)}.")
    if "suggestion" in frame:
        unknown = sorted(set(frame["suggestion"]) - {"exclude", "look", ""})
        if unknown:
            raise UserError(f"{file} has the suggestion '{unknown[0]}'; it must be exclude or look.")
        frame = frame[frame["suggestion"] == "exclude"]
    number = {path: row for row, path in enumerate(index.ids())}
    paths = list(dict.fromkeys(_as_in_index(path, index.root, number) for path in frame["path"] if path))
    unknown = [path for path in paths if path not in number]
    if "suggestion" in frame:  # a file that was removed since the check needs no exclusion
        removed = [path for path in unknown if not (index.root / path).exists()]
        if removed and len(removed) == len(paths):
            raise UserError(
                f"data.exclude: none of the images that {file} leaves out, such as {removed[0]}, is in {index.root} "
                "any more; leave data.exclude out, or check the images again."
            )
        unknown = [path for path in unknown if path not in removed]
        if removed:
            log.info(f"{file}: {len(removed)} of the {len(paths)} images to leave out are not in {index.root} any more")
    if unknown:
        count = "an image that is" if len(unknown) == 1 else f"{len(unknown)} images that are"
        near = nearest(unknown[0], index.ids()) if len(index) <= 10_000 else ""
        raise UserError(
            f"data.exclude: {file} names {count} not in {index.root}, such as {unknown[0]}; paths are relative to that "
            f"folder, as `resnet-tl data check` writes them.{near}"
        )
    return index.without([number[path] for path in paths if path in number])


def _as_in_index(path: str, root: Path, known: Container[str]) -> str:
    """A path as it was written, where there is such an image; else as another system or a careless hand writes it."""
    return path if path in known else relative(os.path.normpath(path.strip().replace("\\", "/")), root)
