"""From a tree of folders (class folders, splits, names such as cat.0.jpg) to an ImageIndex."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

import pandas as pd

from resnet_tl.data.index import SPLITS, ImageIndex
from resnet_tl.data.pixels.formats import count_unread
from resnet_tl.data.reading.folders.split_folders import Part, splits_among
from resnet_tl.data.reading.folders.structure import (
    Doubtful,
    Notes,
    Place,
    below,
    by_name,
    class_doubts,
    counted,
    entered,
    file_doubts,
    settled,
)
from resnet_tl.data.reading.folders.tree import Folder
from resnet_tl.data.reading.indexing import number_classes
from resnet_tl.data.reading.options import Layout
from resnet_tl.data.reading.tables.named_images import relative
from resnet_tl.data.reading.words import PARTS, SERIES, class_in_name, numbered_as, says_no_class
from resnet_tl.errors import UserError, listed, nearest


def labelled_in_folders(root: Path, folder: Folder, layout: Layout, learns: bool) -> ImageIndex:
    """The images in a folder by the classes that its folders or their names say; what is not read is said.

    Raises:
        UserError: there are no classes, they do not fit together, or folders can be meant in two ways.
    """
    folder.require_images(root)
    reader = _Reader(root, folder, learns, layout != "auto")
    if reader.insisted:
        return reader.as_told(layout)
    try:
        return reader.by_looking(root, folder)
    except Doubtful as doubt:
        raise reader.refusal(doubt, doubt.path, "class_folders") from None


@dataclass
class _Reader:
    """How the tree at `root` is read; `insisted` says that its owner knows better than its names."""

    root: Path
    tree: Folder
    learns: bool
    insisted: bool
    notes: Notes = field(default_factory=Notes)

    def by_looking(self, path: Path, folder: Folder) -> ImageIndex:
        """Reads the folder at `path`, below the root, as what it looks like."""
        path, folder = entered(path, folder, self.notes, stops_at_splits=True)
        if parts := splits_among(path, folder):
            return self.splits(path, folder, parts)
        inner = below(path, folder, self.notes)
        if inner is None or inner.within:
            return self.one(inner or Place(path, folder))
        try:
            return self.by_looking(inner.path, inner.folder)
        except Doubtful:
            raise
        except UserError as error:
            if inner.path == path or "insist by" in str(error):
                raise
            insist = self.insist(path, "class_folders")
            raise UserError(f"{error} If {listed(folder.filled())} are classes, insist by {insist}.") from None

    def as_told(self, layout: Layout) -> ImageIndex:
        """Reads the folder at the root as its owner says."""
        path, folder = self.start(layout, self.notes)
        if layout == "class_folders":
            if not folder.filled():
                raise UserError(f"{path} has no folders with images in them, so it cannot be read as {layout}.")
            return self.one(Place(path, folder))
        parts = splits_among(path, folder, insisted=True)
        if layout == "flat_names":
            parts = {split: [replace(part, folder=part.folder.flat()) for part in parts[split]] for split in parts}
            return self.splits(path, folder, parts) if "train" in parts else self.one(Place(path, folder.flat()))
        if not parts:
            raise UserError(f"{path} has no folders such as train/ and val/, so it cannot be read as {layout}.")
        return self.splits(path, folder, parts)

    def start(self, layout: Layout, notes: Notes) -> tuple[Path, Folder]:
        """Where reading starts when a layout is insisted on: past wrappers."""
        return entered(self.root, self.tree, notes, stops_at_splits=layout != "class_folders")

    def insist(self, path: Path, layout: Layout) -> str:
        """What to type so that the folder at `path` is read in a layout."""
        root = "" if self.start(layout, Notes())[0] == path else f"--data.root {shlex.quote(str(path))} "
        return f"{root}--data.layout {layout}"

    def refusal(self, doubt: Doubtful, path: Path, layout: Layout) -> UserError:
        """The sentence about a doubt: what was likely meant, as far as it can be read, and how to insist at `path`."""
        likely = [doubt.path / name for name in doubt.likely]
        ways = [f"--data.root {shlex.quote(str(way))}" for way in likely if self.reads(way)]
        mean = f"; did you mean {' or '.join(ways)}?" if ways else "."
        are_splits = doubt.splits and self.reads(path, "split_folders")
        splits = f"; if splits, by {self.insist(path, 'split_folders')}" if are_splits else ""
        insist = f"If they are classes, insist by {self.insist(path, layout)}{splits}."
        return UserError(f"{doubt.path}: {doubt.found}{mean} {insist}")

    def reads(self, path: Path, layout: Layout = "auto") -> bool:
        """Whether a folder in the tree can be read by itself."""
        folder = self.tree
        for name in path.relative_to(self.root).parts:
            folder = folder.folders[name]
        try:
            return bool(labelled_in_folders(path, folder, layout, self.learns))
        except UserError:
            return False

    def one(self, place: Place) -> ImageIndex:
        """Reads a folder without splits."""
        if place.folder.filled():
            self.notes.loose(len(place.folder.images))
        else:
            self.require_names(place.folder.require_images(place.path), place.path, self.learns)
        return self.index(place.path, {"": place})

    def splits(self, path: Path, folder: Folder, parts: dict[str, list[Part]]) -> ImageIndex:
        """Reads the splits in the folder at `path`; what else lies there, and images to predict, are left out."""
        named = {split: parts[split][0] for split in SPLITS if split in parts and split != "predict"}
        if self.learns and "train" not in named:
            first = [*named.values(), *parts.get("predict", [])][0]
            raise UserError(f"{path} has {first.name}/ but no train/; the folder to learn from is missing.")
        places: dict[str, Place] = {}
        flat, known = False, set[str]()
        for split, part in named.items():
            notes = Notes()
            try:
                place = Place(part.path, part.folder) if self.insisted else settled(part.path, part.folder, notes)
            except Doubtful as doubt:
                raise self.refusal(doubt, path, "split_folders") from None
            classes = self.classes(place)
            if not places:
                flat, known = not place.folder.filled(), set(classes)
            if split == "test" and _has_no_labels(place.folder, set(classes), known):
                self.notes.left_out([part.name], len(part.folder.all()), " without labels")
                continue
            place.folder.require_images(part.path)
            self.notes.said += notes.said
            if place.folder.filled():
                self.notes.loose(len(place.folder.images), f"in {part.name}/ " if part.path != path else "")
            elif flat:
                self.require_names(place.folder, part.path, self.learns and split == "train", path)
            else:
                model = named[next(iter(places))].name
                raise UserError(
                    f"{part.path} has images but no class folders as {f'{model}/ has' if model else 'lie beside it'}; "
                    "move it elsewhere, and a part of the training images is held out in its place."
                )
            places[split] = place if not part.name.startswith("<") else replace(place, within=part.name)
        if not places:
            raise UserError(f"{path} has no images with labels.")
        for part in parts.get("predict", []):
            self.notes.left_out([part.name], len(part.folder.all()), " without labels")
        used = [part for found in parts.values() for part in found]
        beside = folder.filled().keys() - {part.name for part in used}
        if any(part.path == path for part in used):  # what lies beside the splits is one itself
            beside = set()
        if beside:
            self.notes.left_out(sorted(beside), sum(len(folder.folders[name].all()) for name in beside))
        inside = [*(part.folder for part in used), *(folder.folders[name] for name in beside)]
        self.notes.loose(len(folder.all()) - sum(len(inner.all()) for inner in inside))
        return self.index(path, {"": places["train"]} if places.keys() == {"train"} else places)

    def index(self, path: Path, places: dict[str, Place]) -> ImageIndex:
        """Numbers the classes of all places, which lie in `path`, and says what was found there."""
        flat = not next(iter(places.values())).folder.filled()
        found = {split: self.classes(place) for split, place in places.items()}
        kind = "flat names" if flat else "split folders" if len(places) > 1 else "class folders"
        shapes = ", ".join(_shape(path, place, flat) for place in places.values())
        if path != self.root:
            self.notes.said.insert(0, f"all in {relative(str(path), self.root)}/")
        for place in places.values():
            self.say_empty(place.folder, f"{relative(str(place.path), path)}/" if place.path != path else "")
        rows = [
            (relative(file, path), name, split, _group(file, path, place))
            for split, place in places.items()
            for name, files in sorted(found[split].items())
            for file in files
        ]
        table = pd.DataFrame(rows, columns=["path", "label", "split", "group"], dtype=object)
        lost = self.lost(places, found)
        layout = "; ".join([f"{kind}: {shapes}", *self.notes.said])
        try:
            index = number_classes(path, table, str(path), layout, self.learns)
        except UserError as error:
            if lost:
                raise UserError(f"{path}: {lost[0]}.") from error
            raise
        if not self.insisted:
            self.notes.doubts += class_doubts(next(iter(places.values())).folder, splits="" not in found)
            self.notes.doubts += file_doubts(
                [file for classes in found.values() for files in classes.values() for file in files]
            )
        return replace(index, doubts=(*self.notes.doubts, *(("lost_class", detail) for detail in lost)))

    def classes(self, place: Place) -> dict[str, list[str]]:
        """Images by the folder that they are below, or by their names where there are no folders."""
        filled = place.folder.filled()
        if not filled:
            return by_name(place.folder)
        return {name: paths for name, folder in filled.items() if (paths := folder.all())}

    def lost(self, places: dict[str, Place], found: dict[str, dict[str, list[str]]]) -> list[str]:
        """A sentence for each class that has no image to learn from, or at all, because its files are not read."""
        unread: dict[str, list[str]] = {}
        for place in places.values():
            for name, folder in place.folder.filled().items():
                unread.setdefault(name, []).extend(folder.all_unread())
            for file in place.folder.unread:
                unread.setdefault(class_in_name(PurePath(file).stem), []).append(file)
        learnt = found.get("train", found.get("", {}))
        read = learnt if self.learns else {name for classes in found.values() for name in classes}
        return [
            f"no image of the class '{name}' can be read, only {count_unread(files)}"
            for name, files in sorted(unread.items())
            if name and files and name not in read
        ]

    def require_names(self, folder: Folder, path: Path, learns: bool, above: Path | None = None) -> None:
        """Refuses flat files whose names carry no class, or, to learn from, as many classes as images.

        Where `path` is one of several splits, these lie in `above`.
        """
        classes = by_name(folder)
        odd = classes.get("", [])
        if learns and not odd and all(len(images) == 1 for images in classes.values()):
            odd = next(iter(classes.values()))
        way_out = "put each class into a folder of its own, or give a CSV with the columns path,label"
        if odd:
            raise UserError(
                f"{path} has no class folders, and '{PurePath(odd[0]).name}' carries no class in its name (as "
                f"cat.0.jpg); {way_out}."
            )
        word, why = says_no_class(classes)
        if word and not self.insisted:
            name = PurePath(classes[word][0]).name
            insist = f" If '{word}' is a class, insist by {self.insist(above or path, 'flat_names')}."
            raise UserError(
                f"{path} has no class folders, and '{name}' does not begin with a class: '{word}' {why}; "
                f"{way_out}.{insist if len(classes) > 1 or not learns else ''}"
            )

    def say_empty(self, folder: Folder, where: str) -> None:
        """Names the folders beside classes that hold no images."""
        empty = sorted(folder.folders.keys() - folder.filled().keys()) if folder.filled() else []
        if empty:
            self.notes.said.append(f"no images in {listed(f'{where}{name}/' for name in empty)}")
        for name in empty:
            others = counted(len(folder.folders[name].all_others()), "other file")
            self.notes.doubts.append(("empty_folder", f"{where}{name}/ holds {others}"))


def _has_no_labels(folder: Folder, classes: set[str], known: set[str]) -> bool:
    """Whether test images carry no classes: none that is `known`, and no folders but one, or parts of one heap."""
    if classes & known:
        return False
    is_heap = len(classes) < 2 or PARTS.union(SERIES).issuperset(numbered_as(classes) or "-")
    return not folder.filled() or (is_heap and not any(nearest(name, known) for name in classes))


def _group(file: str, path: Path, place: Place) -> str:
    """The folder of a series that a file is in, as it is called below `path`; "" where there are no series."""
    if not place.series:
        return ""
    depth = len(place.path.relative_to(path).parts)
    return "/".join(relative(file, path).split("/")[: depth + 1])


def _shape(path: Path, place: Place, flat: bool) -> str:
    """Where the classes of a place lie below `path`, such as `seg_train/seg_train/<class>`."""
    if place.within.startswith("<"):
        return place.within
    way = f"{relative(str(place.path), path)}/" if place.path != path else ""
    return f"{way}{place.within}{'<class>.<number>' if flat else '<class>'}"
