"""From what lies on disk (class folders, split folders, Kaggle's flat names, a CSV, a zip) to an ImageIndex."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from resnet_tl.cache import cache_root
from resnet_tl.data.index import ImageIndex
from resnet_tl.data.pixels.formats import UNREAD_SUFFIXES, count_unread, suffix_of
from resnet_tl.data.reading.archive import unpacked
from resnet_tl.data.reading.folders.labelled_folders import labelled_in_folders
from resnet_tl.data.reading.folders.structure import counted
from resnet_tl.data.reading.folders.tree import Folder, is_image
from resnet_tl.data.reading.indexing import refuse_controls, without_labels
from resnet_tl.data.reading.options import BY_LOOKING, Reading
from resnet_tl.data.reading.tables.found_tables import labelled_by_table
from resnet_tl.data.reading.tables.given_tables import from_file, from_frame, images_in
from resnet_tl.data.reading.tables.named_images import relative
from resnet_tl.data.reading.tables.table_files import TABLE_SUFFIXES, is_table
from resnet_tl.errors import UserError, nearest, printable

log = logging.getLogger(__name__)


def read_images(root: str | Path, learns: bool = True, reading: Reading = BY_LOOKING) -> ImageIndex:
    """Labelled images in a folder, a zip file or a table; what is there decides how it is read (data/README.md).

    Class folders are searched at any depth; hidden files and what is no image by its suffix do not count. Images that
    are only to be judged (`learns` is false) need no train split and no second class.

    Raises:
        UserError: nothing usable is there, or classes, splits or paths do not fit together.
    """
    given, root = os.path.abspath(Path(root).expanduser()), located(root)  # noqa: PTH100 -- as in located
    try:
        if root.is_file():
            return _from_table(root, reading, learns)
        folder = Folder.read(root)
        index = labelled_by_table(root, folder, reading, learns)
        index = index or labelled_in_folders(root, folder, reading.layout, learns)
    except UserError as error:
        raise UserError(str(error).replace(str(root), given)) from None  # who gave a zip knows no other folder
    if unread := folder.all_unread():
        said = f"{counted(len(unread), 'file')} not read: {count_unread(unread)}"
        doubts = [("unread", relative(path, root)) for path in unread]
        index = replace(index, layout=f"{index.layout}; {said}", doubts=(*index.doubts, *doubts))
    return index


def _from_table(path: Path, reading: Reading, learns: bool) -> ImageIndex:
    if not is_table(path):
        raise UserError(f"{path} is neither a folder nor a .zip or a table ({', '.join(sorted(TABLE_SUFFIXES))}).")
    if reading.layout != "auto":
        raise UserError(f"{path} is a table, which has no folders: leave out --data.layout {reading.layout}.")
    return from_file(path, reading, learns)


def from_dataframe(frame: pd.DataFrame, root: str | Path | None = None, reading: Reading = BY_LOOKING) -> ImageIndex:
    """Labelled images from a data frame, whose columns are found as those of a file; paths below `root`, or here."""
    if reading.layout != "auto":
        raise UserError(f"A data frame has no folders: leave out --data.layout {reading.layout}.")
    return from_frame(frame, located(root or Path()), reading)


def unlabelled(paths: str | Path | Sequence[str | Path], reading: Reading = BY_LOOKING) -> ImageIndex:
    """The index of the images of `image_files`; UserError as there."""
    found = image_files(paths, reading)
    return replace(without_labels(found.root, found.names, "images without labels"), missing=found.missing)


class ImageFiles(NamedTuple):
    """Images to predict."""

    root: Path
    names: list[str]  # with `/` on every machine; relative to the root if below it, else absolute
    missing: tuple[str, ...]  # what a table names although there is no such file


def image_files(paths: str | Path | Sequence[str | Path], reading: Reading = BY_LOOKING) -> ImageFiles:
    """Images to predict, in natural order of their paths (2.jpg before 10.jpg), each once.

    Takes files, folders and zip files, patterns such as `photos/*.jpg`, and tables that name images. Paths are relative
    to the one folder (or zip, or the one table's folder) that was given, else to the current folder.

    Raises:
        UserError: a path or pattern leads to nothing, a folder holds no images, or a name could do harm.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    unread: list[str] = []
    sources = [path for one in given for path in _matching(one, unread)]
    root, found, missing = Path.cwd(), list[str](), list[str]()
    for source in sources:
        if source.is_dir():
            read = Folder.read(source).require_images(source)
            folder, images = source, read.all()
            unread += read.all_unread()
        elif is_table(source):
            folder, (images, absent) = source.parent, images_in(source, reading)
            missing += absent
        else:
            folder, images = root, [str(source)]
        root = folder if len(given) == len(sources) == 1 else root
        found += images
    if not found:
        raise UserError("No images were given.")
    names = sorted({relative(path, root) for path in found}, key=_natural)
    if unread:
        said = f"{counted(len(unread), 'file')} not read, beside {counted(len(names), 'image')}"
        log.warning(printable(f"{said}: {count_unread(unread)}"))
    refuse_controls(root, "the path", [str(root)])
    refuse_controls(root, "a file named", names)
    return ImageFiles(root, names, tuple(missing))


def located(path: str | Path) -> Path:
    """The absolute path of what exists; for a zip file, or a folder in it, in the cache: it is unpacked there, once."""
    whole = Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 -- resolve() would replace links
    archive = next((one for one in (whole, *whole.parents) if one.suffix.lower() == ".zip" and one.is_file()), None)
    if archive is None:
        return _existing(path)
    return _existing(unpacked(archive, cache_root().absolute() / "unpacked") / whole.relative_to(archive))


# Paths


def _existing(path: str | Path) -> Path:
    """The absolute path, without `..` but with its links as they are."""
    path = Path(path).expanduser()
    if not os.path.exists(path):  # noqa: PTH110 -- Path.exists() raises for a name that is too long
        above = path.absolute().parent
        near = nearest(path.name, [entry.name for entry in above.iterdir()]) if above.is_dir() else ""
        raise UserError(f"{path} does not exist.{near}")
    return Path(os.path.abspath(path))  # noqa: PTH100 -- resolve() would replace links


def _matching(path: str | Path, unread: list[str]) -> list[Path]:
    """What a path or a pattern stands for; a file whose name looks like a pattern is that file.

    Files that a pattern stands for, and that hold pictures but are not read, are added to `unread`.
    """
    pattern = str(Path(path).expanduser())
    if re.search(r"[*?[]", pattern) and not Path(pattern).exists():
        found = [name for name in glob.glob(pattern, recursive=True) if not Path(name).is_dir()]  # noqa: PTH207 -- Path.glob takes no absolute patterns
        images = [_existing(name) for name in found if is_image(name)]
        others = [name for name in found if suffix_of(name) in UNREAD_SUFFIXES]
        if not images:
            raise UserError(f"No image matches {path}{f', only {count_unread(others)}' if others else ''}.")
        unread += others
        return images
    return [located(path)]


def _natural(path: str) -> tuple[list[str | int], str]:
    """Sorts numbers within a path by their value."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path)], path
