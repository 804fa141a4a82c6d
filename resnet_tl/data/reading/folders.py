"""The tree of folders as it lies on disk: which images are where."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from resnet_tl.errors import UserError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})

MAX_DEPTH = 100
"""Folders within folders."""


@dataclass
class Folder:
    """A folder's images and subfolders, both by absolute path and in string order."""

    images: list[str] = field(default_factory=list)
    folders: dict[str, Folder] = field(default_factory=dict)

    @staticmethod
    def read(path: str | Path, above: frozenset[tuple[int, int]] = frozenset()) -> Folder:
        """Reads the tree below `path` without a stat per file; a link back to a folder `above` is not followed.

        Raises:
            UserError: a folder cannot be read, or lies too deep.
        """
        folder = Folder()
        if len(above) > MAX_DEPTH:
            raise UserError(f"{path} lies more than {MAX_DEPTH} folders deep; move it up, or name a folder further in.")
        try:
            status = Path(path).stat()
            with os.scandir(path) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}.") from error
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            return folder
        for entry in ordered:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            if _is_folder(entry):
                folder.folders[entry.name] = Folder.read(entry.path, above | {identity})
            elif is_image(entry.name):
                folder.images.append(entry.path)
        return folder

    def all(self) -> list[str]:
        """The images here and in all folders below."""
        return [*self.images, *(path for folder in self.folders.values() for path in folder.all())]

    def require_images(self, path: Path) -> Folder:
        """Itself; raises UserError where no image lies below it."""
        if not self.all():
            raise UserError(f"{path} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}).")
        return self


def is_image(name: str) -> bool:
    """Whether a file of this name is read as an image."""
    return name[name.rfind(".") :].lower() in IMAGE_SUFFIXES


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False
