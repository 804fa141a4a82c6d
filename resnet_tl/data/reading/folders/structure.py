"""What is no class although it looks like one: wrappers, copies, masks beside images, parts of one heap."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from resnet_tl.data.reading.folders.tree import Folder, merged
from resnet_tl.data.reading.words import (
    BESIDE,
    PARTS,
    SERIES,
    class_in_name,
    holds_pictures,
    is_date,
    is_structure,
    numbered_as,
    says_no_class,
    split_of,
    words_of,
)
from resnet_tl.errors import UserError, listed

_WITH = BESIDE | {"mask", "label", "seg"}
FEW = 8
"""Only so few folders are compared file by file: pairs of pictures are kept in two or three."""


@dataclass
class Notes:
    """What is said about a layout, and what stays doubtful: pairs of a kind of finding and its detail."""

    said: list[str] = field(default_factory=list)
    doubts: list[tuple[str, str]] = field(default_factory=list)

    def left_out(self, names: Iterable[str], images: int, why: str = "") -> None:
        """Says that folders are left out, with the number of images in them."""
        self.said.append(f"{listed(f'{name}/' for name in names)} left out ({counted(images, 'image')}{why})")

    def loose(self, images: int, where: str = "") -> None:
        """Says how many images beside folders that are read are in none."""
        if images:
            self.said.append(f"{counted(images, 'loose image')} {where}left out")


class Doubtful(UserError):
    """Folders in `path` that can be meant in two ways; `likely` names folders there that may be meant instead.

    `splits` says that it is a question of splits.
    """

    def __init__(self, path: Path, found: str, likely: Collection[str] = (), splits: bool = False) -> None:
        super().__init__(f"{path}: {found}.")
        self.splits = splits
        self.path = path
        self.found = found
        self.likely = likely


@dataclass(frozen=True)
class Place:
    """A folder in whose folders the classes lie.

    Where several were taken together, `within` is what they are called, as `fold<number>/`; `series` says that the
    images of each belong together.
    """

    path: Path
    folder: Folder
    within: str = ""
    series: bool = False


def counted(number: int, noun: str) -> str:
    """`1 image`, `2 images`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def by_name(folder: Folder) -> dict[str, list[str]]:
    """Images that lie here by the class in their names; those without one under "".

    Where each image would be a class, as with `Sooty_Albatross_0003_796375`, two numbers are taken off.
    """
    found: dict[str, list[str]] = {}
    for path in folder.images:
        found.setdefault(class_in_name(PurePath(path).stem), []).append(path)
    if "" in found or any(len(paths) > 1 for paths in found.values()):
        return found
    shorter: dict[str, list[str]] = {}
    for name, paths in found.items():
        shorter.setdefault(class_in_name(name), []).extend(paths)
    return found if "" in shorter else shorter


def names_classes(folder: Folder) -> bool:
    """Whether the names of all images here carry a class, and not all of them the same."""
    names = by_name(folder)
    return len(names) > 1 and "" not in names and not says_no_class(names)[0]


def settled(path: Path, folder: Folder, notes: Notes) -> Place:
    """Where the classes in a folder lie.

    Raises:
        Doubtful: the folders can be meant in two ways.
    """
    path, folder = entered(path, folder, notes)
    inner = below(path, folder, notes)
    if inner is None or inner.within:
        return inner or Place(path, folder)
    return settled(inner.path, inner.folder, notes)


def entered(path: Path, folder: Folder, notes: Notes, stops_at_splits: bool = False) -> tuple[Path, Folder]:
    """Past folders that hold one folder only, to where classes lie side by side; nowhere if that is not to be found."""
    reached, place, loose = "", folder, 0
    way, inner, passed = "", folder, 0
    while len(names := list(inner.filled())) == 1 and not names_classes(inner):
        if stops_at_splits and split_of(names[0]):
            break
        way, passed, inner = f"{way}{names[0]}/", passed + len(inner.images), inner.folders[names[0]]
        if len(inner.filled()) > 1 or names_classes(inner) or (holds_pictures(names[0]) and inner.images):
            reached, place, loose = way, inner, passed
    notes.loose(loose, f"beside {reached} ")
    return path / reached, place


def inside(folder: Folder) -> Folder:
    """A folder past those that hold one folder only."""
    return entered(Path(), folder, Notes())[1]


def below(path: Path, folder: Folder, notes: Notes) -> Place | None:
    """One step from folders that are no classes to where classes are; None where they are classes."""
    filled = folder.filled()
    if len(filled) < 2:
        return None
    inner = {name: inside(one) for name, one in filled.items()}
    for name in filled:
        again, siblings = inner[name].filled(), filled.keys() - {name}
        if len(again) < 2 or not again.keys() <= siblings:
            continue
        if not all(_files(one) <= _files(filled[other]) for other, one in again.items()):
            found = f"{name}/ holds folders of its neighbours' names ({listed(again)}), with other images"
            raise Doubtful(path, f"{found}: move these to their neighbours", [name])
        notes.left_out([name], len(filled[name].all()), ", copies of those beside it")
        return Place(path, folder.without([name]))
    if place := _pictures_among(path, folder, notes) or _parts(path, inner, notes):
        return place
    _refuse_pairs(path, filled)
    return None


def _files(folder: Folder) -> set[str]:
    return {PurePath(path).name for path in folder.all()}


def _pictures_among(path: Path, folder: Folder, notes: Notes) -> Place | None:
    """The one folder that holds the pictures, where the others, such as `masks`, hold what goes with them."""
    filled = folder.filled()
    pictures, beside = _by_what_is_stored(filled)
    others = filled.keys() - {*pictures, *beside}
    if len(others) == 1 and not any(filled[name].all() for name in beside):  # 101_ObjectCategories beside Annotations
        pictures += [name for name in others if not pictures and len(filled[name].filled()) > 1]
    if not pictures or len(pictures + beside) < len(filled) or (not beside and len(pictures) < 2):
        if pictures and beside:
            raise Doubtful(path, f"{listed(pictures + beside)} look like what is stored, not what is seen", pictures)
        return None
    if len(pictures) > 1:
        raise Doubtful(path, f"{listed(pictures)} may each hold the pictures", pictures)
    notes.left_out(beside, sum(len(filled[name].all()) for name in beside))
    notes.loose(len(folder.images))
    return Place(path / pictures[0], filled[pictures[0]])


def _by_what_is_stored(names: Iterable[str]) -> tuple[list[str], list[str]]:
    stored = [name for name in names if is_structure(name)]
    pictures = [name for name in stored if holds_pictures(name)]
    return pictures, [name for name in stored if name not in pictures]


def _parts(path: Path, inner: dict[str, Folder], notes: Notes) -> Place | None:
    """What to do with folders that all hold the same folders, such as `fold1/{cat,dog}` and `fold2/{cat,dog}`."""
    below = [set(folder.filled()) for folder in inner.values()]
    shared = set.intersection(*below)
    if len(shared) < 2 or 2 * len(shared) < max(map(len, below)):
        return None
    pictures, beside = _by_what_is_stored(sorted(shared))
    if pictures and beside:
        images = sum(len(folder.folders[name].all()) for folder in inner.values() for name in beside)
        notes.left_out((f"<class>/{name}" for name in beside), images)
        return Place(path, Folder(folders={name: folder.without(beside) for name, folder in inner.items()}))
    are_counted = not any(map(words_of, shared)) and any(map(words_of, inner))
    if len(pictures + beside) == len(shared) or numbered_as(shared) or are_counted:
        return None  # the folders within classes say how pictures were stored
    kind = numbered_as(inner)
    if kind and PARTS.union(SERIES).issuperset(kind) and not any(map(split_of, shared)):
        is_series = not PARTS.issuperset(kind)
        notes.said.append(f"{listed(inner)} taken together{', each as a group' if is_series else ''}")
        return Place(path, merged(inner.values()), f"{' '.join(kind)}<number>/", is_series)
    found = f"{listed(inner)} hold the same folders ({listed(sorted(shared), most=5)})"
    raise Doubtful(path, found, _pictures_first(inner)[:1])


def _refuse_pairs(path: Path, filled: dict[str, Folder]) -> None:
    """Refuses "classes" whose files have the same names, unless these only count: then they are pairs of pictures."""
    if len(filled) > FEW:
        return
    stems = [{PurePath(file).stem for file in folder.all()} for folder in filled.values()]
    shared = set.intersection(*stems)
    is_pair = not _only_counts(shared) or any(map(is_structure, filled))
    if is_pair and shared and len(shared) >= 0.8 * min(map(len, stems)):
        found = f"{listed(filled)} hold files of the same names, such as {min(shared)}, as pairs of pictures do"
        raise Doubtful(path, found, _pictures_first(filled)[:1])


def _pictures_first(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: not holds_pictures(name))


def _only_counts(stems: Collection[str]) -> bool:
    """Whether names differ by a number only, of three series at most, and the numbers follow each other closely."""
    if len({re.sub(r"\d+", "#", stem) for stem in stems}) > 3:
        return False
    numbers = [int(found[-1]) for stem in stems if (found := re.findall(r"\d+", stem))]
    return not numbers or max(numbers) - min(numbers) < 4 * len(numbers) + 10


def class_doubts(folder: Folder, splits: bool = False) -> list[tuple[str, str]]:
    """Findings about class folders that may be none: by their names, or since each has folders of its own.

    Among the folders of `splits` a class may be called `train`: there are vehicles.
    """
    classes = folder.filled()
    odd = [name for name in classes if is_structure(name) or is_date(name) or (split_of(name) and not splits)]
    kind = numbered_as(classes)
    if kind and (PARTS.union(SERIES).issuperset(kind) or not PARTS.isdisjoint(kind)):  # HAM10000_images_part_1
        odd = list(classes)
    doubts = [f"called like parts of the data, not like what is seen: {listed(odd)}"] if odd else []
    within = {
        name: [inner for inner in one.filled() if words_of(inner) and not is_structure(inner)]
        for name, one in classes.items()
    }
    if within and all(len(names) > 1 and not classes[name].images for name, names in within.items()):
        name = next(iter(within))
        doubts.append(
            f"the classes have folders of their own, such as {name}/{within[name][0]}/, which are taken together"
        )
    return [("structure", doubt) for doubt in doubts]


def file_doubts(files: Collection[str]) -> list[tuple[str, str]]:
    """The finding about files that go with others beside them, as `photo_mask.png` with `photo.png`."""
    stems = {file.rpartition(".")[0] for file in files}
    beside = sorted(
        stem for stem in stems if stem.rpartition("_")[2].lower() in _WITH and stem.rpartition("_")[0] in stems
    )
    if not beside:
        return []
    detail = f"{counted(len(beside), 'image')} called like what goes with others, such as {PurePath(beside[0]).name}"
    return [("structure", detail)]
