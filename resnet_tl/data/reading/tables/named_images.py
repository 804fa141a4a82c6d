"""Which files on disk the values of a table's column mean."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from resnet_tl.data.reading.folders.tree import Folder, is_image
from resnet_tl.data.reading.tables.matching import Images, parts_of, shared_folders
from resnet_tl.data.reading.words import split_in

_ABSOLUTE = re.compile(r"[/\\~]|[A-Za-z]:|\w+://")


@dataclass
class Meant:
    """What values mean: the absolute path of each, and what has none or more than one."""

    paths: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    ambiguous: dict[str, list[str]] = field(default_factory=dict)
    moved: list[str] = field(default_factory=list)
    """Values found by their last parts alone, such as `C:\\photos\\img\\0.jpg`."""

    def __len__(self) -> int:
        return len(self.paths) + len(self.ambiguous)


class NamedImages:
    """The images that a table may name.

    They are those in the folders that its paths, which start from `base`, lead to; where these are not enough, all
    below `root`, in `tree` if that was read. Both are absolute folders.
    """

    def __init__(self, base: Path, root: Path, tree: Folder | None = None) -> None:
        self.base = base
        self.root = root
        self._tree = tree
        self._listed: dict[str, set[str]] = {}

    @cached_property
    def all(self) -> list[str]:
        """Every image below `root`, by absolute path."""
        return (self._tree or Folder.read(self.root)).all()

    @cached_property
    def _by_name(self) -> Images:
        return Images([relative(path, self.root) for path in self.all])

    def unnamed(self, paths: Iterable[str]) -> int:
        """How many images are not among these: below `root`, or, where nobody has looked there, in their folders."""
        named = set(paths)
        if self._tree or "all" in self.__dict__:
            return len(set(self.all) - named)
        return len(set(self._beside(named)) - named)

    def meant_by(self, values: Sequence[str], splits: Mapping[str, str] | None = None, otherwise: str = "") -> Meant:
        """What different values mean: a path as it stands, else the one image that fits it best.

        Where a value fits images of several splits, such as `train/1.jpg` and `test/1.jpg`, it means that of its own
        split, as `splits` has it by value, or of the split `otherwise`; of training where neither says.
        """
        meant = Meant(self.standing(values))
        others = [value for value in values if value not in meant.paths]
        if not others:
            return meant
        says_where = len(meant.paths) * 2 >= len(values)  # then the others are there as well, or missing
        pool = self._beside(meant.paths.values()) if says_where else self.all
        images = Images([relative(path, self.root) for path in pool]) if says_where else self._by_name
        moves: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
        for value in others:
            numbers = images.meant_by(value)
            if len(numbers) > 1:
                split = (splits or {}).get(value) or otherwise or "train"
                numbers = [one for one in numbers if split_by_folders(images.parts[one].folders) == split] or numbers
            if len(numbers) > 1:
                meant.ambiguous[value] = [pool[number] for number in numbers]
            elif not numbers:
                meant.missing.append(value)
            else:
                meant.paths[value] = pool[numbers[0]]
                given, found = parts_of(value), images.parts[numbers[0]]
                shared = shared_folders(given, found)
                if above := given.folders[: len(given.folders) - shared]:
                    moves[value] = above, found.folders[: len(found.folders) - shared]
        _keep_sound_moves(moves, meant)
        return meant

    def folder_beside(self, values: Sequence[str]) -> str | None:
        """A folder beside or above `base` that holds most of the images, where there is one."""
        above = self.base.parent
        try:
            places = [above, *(above / entry.name for entry in os.scandir(above) if entry.is_dir())]
        except OSError:
            return None
        for place in places:
            names = sorted(name for name in self._in(str(place)) if is_image(name))
            images = Images(names)
            if sum(len(images.meant_by(value)) == 1 for value in values) > max(2, len(values) / 2):
                return str(place)
        return None

    def _beside(self, paths: Iterable[str]) -> list[str]:
        """The images in the folders of these."""
        folders = sorted({os.path.dirname(path) for path in paths})  # noqa: PTH120 -- for speed
        return [f"{folder}{os.sep}{name}" for folder in folders for name in sorted(self._in(folder)) if is_image(name)]

    def standing(self, values: Sequence[str]) -> dict[str, str]:
        """The absolute path of each value that is one as it stands; only the folders that they name are looked into."""
        # By text, for speed; whichever system wrote them.
        whole = (os.path.join(self.base, value.strip().replace("\\", "/")) for value in values)  # noqa: PTH118
        paths = dict(zip(values, map(os.path.normpath, whole), strict=True))
        split = {value: os.path.split(path) for value, path in paths.items()}
        return {value: paths[value] for value, (folder, name) in split.items() if name in self._in(folder)}

    def _in(self, folder: str) -> set[str]:
        """The files that lie in a folder; listed once, which takes less than a look at each file."""
        if folder not in self._listed:
            names = self._listed[folder] = set()
            with suppress(OSError, ValueError), os.scandir(folder) as entries:  # no folder, or no name for one
                for entry in entries:
                    with suppress(OSError):  # a link that leads to itself
                        names.update([entry.name] if entry.is_file() else [])
        return self._listed[folder]


def _keep_sound_moves(moves: dict[str, tuple[tuple[str, ...], tuple[str, ...]]], meant: Meant) -> None:
    """Takes back what was found by its last parts although other folders stand before them, unless that is a rule.

    `val/1.jpg` must not mean `train/1.jpg` because the former is missing. A rule it is where all paths begin with one
    folder that is another one here, and for paths of another machine, which cannot lead anywhere as they stand.
    """
    foreign = {value for value in moves if _ABSOLUTE.match(value)}
    whole = {value for value in foreign if not moves[value][1]}
    sound = whole or foreign
    others = moves.keys() - foreign
    if len(moves) == len(meant) and len({moves[value] for value in others}) == 1:
        sound |= others
    for value in moves.keys() - sound:
        del meant.paths[value]
        meant.missing.append(value)
    meant.moved = [value for value in moves if value in sound]


def split_by_folders(folders: Sequence[str]) -> str:
    """The split that the folders of an image speak of; "" for none, or for two."""
    found = {split_in(folder) for folder in folders} - {""}
    return found.pop() if len(found) == 1 else ""


def relative(path: str, root: Path) -> str:
    """Posix path relative to `root` if below it, else absolute; by text, for there may be a million of them."""
    prefix = str(root).rstrip(os.sep) + os.sep
    return (path[len(prefix) :] if path.startswith(prefix) else path).replace(os.sep, "/")
