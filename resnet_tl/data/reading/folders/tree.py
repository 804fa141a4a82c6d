"""The tree of folders as it lies on disk: which images are where."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from resnet_tl.data.pixels.formats import FORMAT_NAMES, IMAGE_SUFFIXES, UNREAD_SUFFIXES, count_unread, suffix_of
from resnet_tl.errors import UserError, listed

_ARCHIVES = frozenset({".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"})
MAX_DEPTH = 100
"""Folders within folders."""


@dataclass
class Folder:
    """What lies in a folder, in string order, files by absolute path; hidden ones do not count."""

    images: list[str] = field(default_factory=list)
    folders: dict[str, Folder] = field(default_factory=dict)  # by name
    unread: list[str] = field(default_factory=list)  # hold pictures as well, but are not read
    others: list[str] = field(default_factory=list)

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
                continue
            suffix = suffix_of(entry.name)
            is_unread = suffix in UNREAD_SUFFIXES
            kind = folder.images if suffix in IMAGE_SUFFIXES else folder.unread if is_unread else folder.others
            kind.append(entry.path)
        return folder

    def all(self) -> list[str]:
        """The images here and in all folders below."""
        return [*self.images, *(path for folder in self.folders.values() for path in folder.all())]

    def all_unread(self) -> list[str]:
        """The files here and in all folders below that hold pictures but are not read."""
        return [*self.unread, *(path for folder in self.folders.values() for path in folder.all_unread())]

    def filled(self) -> dict[str, Folder]:
        """The folders here that hold pictures somewhere below, read or not."""
        return {name: folder for name, folder in self.folders.items() if folder.holds_pictures()}

    def holds_pictures(self) -> bool:
        """Whether pictures lie here or below, read or not."""
        return bool(self.images or self.unread) or any(folder.holds_pictures() for folder in self.folders.values())

    def without(self, names: Collection[str]) -> Folder:
        """The same without some of the folders here."""
        return replace(self, folders={name: folder for name, folder in self.folders.items() if name not in names})

    def without_images(self, paths: Collection[str]) -> Folder:
        """The same without some of the images here and below."""
        folders = {name: folder.without_images(paths) for name, folder in self.folders.items()}
        return replace(self, images=[path for path in self.images if path not in paths], folders=folders)

    def flat(self) -> Folder:
        """The same as if all that is below lay here."""
        return Folder(images=self.all(), unread=self.all_unread())

    def all_others(self) -> list[str]:
        """The files of other kinds here and below."""
        return [*self.others, *(path for folder in self.folders.values() for path in folder.all_others())]

    def require_images(self, path: Path) -> Folder:
        """Itself; raises UserError where no image lies below it."""
        if not self.all():
            if unread := self.all_unread():
                raise UserError(f"{path} holds no images that can be read, only {count_unread(unread)}.")
            if zips := sorted(path.glob("*.zip")):
                typed = (("python", "-m", "zipfile", "-e", str(one), str(one.with_suffix(""))) for one in zips)
                names = listed(one.name for one in zips)
                raise UserError(f"{path} holds no images, but {names}; unpack: {' && '.join(map(shlex.join, typed))}")
            raise UserError(f"{path} holds no images ({FORMAT_NAMES}){_only(self.all_others())}.")
        return self


def _only(files: list[str]) -> str:
    """What there is instead of images, by suffix, and what to do about archives."""
    counts = Counter(suffix_of(file) or "without suffix" for file in files)
    said = f", only {', '.join(f'{number} {suffix}' for suffix, number in sorted(counts.items()))}" if counts else ""
    return f"{said}: unpack them first, each into a folder of its name" if _ARCHIVES & counts.keys() else said


def merged(folders: Iterable[Folder]) -> Folder:
    """What lies in several folders, as if it lay in one."""
    found, within = Folder(), dict[str, list[Folder]]()
    for folder in folders:
        found.images += folder.images
        found.unread += folder.unread
        found.others += folder.others
        for name, inner in folder.folders.items():
            within.setdefault(name, []).append(inner)
    return replace(found, folders={name: merged(within[name]) for name in sorted(within)})


def is_image(name: str) -> bool:
    """Whether a file of this name is read as an image."""
    return suffix_of(name) in IMAGE_SUFFIXES


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False
