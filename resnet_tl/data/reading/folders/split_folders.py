"""Which folders are splits: `train` and `test`, `seg_train` and `seg_test`, `val2017`; never `train` among vehicles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from resnet_tl.data.reading.folders.structure import Doubtful, inside, names_classes
from resnet_tl.data.reading.folders.tree import Folder
from resnet_tl.data.reading.words import (
    PARTS,
    SERIES,
    holds_pictures,
    is_structure,
    numbered_as,
    split_and_rest,
    split_of,
)
from resnet_tl.errors import UserError, listed


@dataclass(frozen=True)
class Part:
    """What belongs to one split: a folder by the name that it has in the layout's line; "" for what lies beside it."""

    name: str
    path: Path
    folder: Folder

    def has_labels(self) -> bool:
        """Whether folders, or the names of the images, say what is seen."""
        inner = inside(self.folder)
        return bool(inner.filled()) or names_classes(inner)


def splits_among(path: Path, folder: Folder, insisted: bool = False) -> dict[str, list[Part]]:
    """The splits in a folder: one part each for train, val and test, any number for predict; empty for no splits.

    Raises:
        UserError: two folders are the same split.
        Doubtful: they might be classes as well, and splits are not `insisted` on.
    """
    if found := _within_classes(path, folder):
        return found
    splits = _named(path, folder, insisted)
    if not splits:
        return {}
    parts: dict[str, list[Part]] = {}
    for name, split in splits.items():
        parts.setdefault(split, []).append(Part(name, path / name, folder.folders[name]))
    others = {name: inner for name, inner in folder.filled().items() if name not in splits}
    if "train" in parts:
        if not insisted and others and len(parts) == 1 and _is_class(path, parts["train"][0], others):
            return {}
    elif others or names_classes(folder):
        train = _train_beside(path, folder, parts, others, insisted)
        if train is None:
            return {}
        parts["train"] = [train]
    return _one_each(path, parts)


def _named(path: Path, folder: Folder, insisted: bool) -> dict[str, str]:
    """The split of each folder whose name says one; of those with words of their own only where they go together."""
    filled, said = folder.filled(), {name: split_and_rest(name) for name in folder.folders}
    plain = {name: split for name, (split, rest) in said.items() if not rest and (name in filled or split == "train")}
    plain = {name: split for name, split in plain.items() if split}
    affixed = {name: split for name, (split, rest) in said.items() if split and rest and name in filled}
    if insisted:
        return plain | affixed
    if plain.keys() & filled.keys():
        if "train" not in plain.values():
            trains = [Part(name, path, filled[name]) for name, split in affixed.items() if split == "train"]
            plain |= {part.name: "train" for part in trains if len(trains) == 1 and part.has_labels()}
        return plain
    if len(set(affixed.values())) < 2:
        return {}
    within = [set(inside(filled[name]).filled()) for name in affixed]
    if len({said[name][1] for name in affixed}) == 1 or len(set.intersection(*within)) > 1:
        return affixed
    if len(set(affixed.values())) < len(affixed) and not any(within):
        found = f"{listed(affixed)} seem to name a class and a split each"
        raise Doubtful(path, f"{found}: put folders of the classes into train/ and val/ or test/")
    return {}


def _within_classes(path: Path, folder: Folder) -> dict[str, list[Part]]:
    """The splits of `cat/train`, `cat/val`, `dog/train`: each class has folders of splits, which hold the images."""
    filled = folder.filled()
    is_part = not (PARTS | SERIES).isdisjoint(numbered_as(filled))
    if len(filled) < 2 or is_part or any(split_of(name) or is_structure(name) for name in filled):
        return {}
    names = {name: split_of(name) for inner in filled.values() for name in inner.filled()}
    leaves = [leaf for inner in filled.values() for leaf in inner.filled().values()]
    splits = set(names.values())
    if "train" not in splits or "" in splits or len(splits) < len(names) or any(leaf.filled() for leaf in leaves):
        return {}
    classes = {
        name: {kind: inner.folders[name] for kind, inner in filled.items() if name in inner.folders} for name in names
    }
    return {split: [Part(f"<class>/{name}", path, Folder(folders=classes[name]))] for name, split in names.items()}


def _is_class(path: Path, train: Part, others: dict[str, Folder]) -> bool:
    """Whether a folder called `train` is a class among `others`, as `bus` and `car` are."""
    if not train.has_labels():
        return True
    own = inside(train.folder).filled().keys()
    within = [inside(other).filled().keys() for other in others.values()]
    if len(own) > 1 and len(others) > 1 and all(len(names) > 1 and not names & own for names in within):
        raise Doubtful(
            path, f"{train.name}/ beside {listed(others)} may be a class or a split", [train.name], splits=True
        )
    return False


def _train_beside(
    path: Path, folder: Folder, parts: dict[str, list[Part]], others: dict[str, Folder], insisted: bool
) -> Part | None:
    """What to train on where no folder is called so: what lies beside `val` or `test`; None where these are classes."""
    judged = [part for split in parts.keys() - {"predict"} for part in parts[split]]
    beside = Part("", path, Folder(images=folder.images, unread=folder.unread, folders=others))
    if not others or not judged or any(inside(part.folder).filled().keys() & others.keys() for part in judged):
        return beside
    names = listed(f"{part.name}/" for part in judged)
    if len(others) > 1:
        if insisted:
            return beside
        raise Doubtful(path, f"{names} beside {listed(others)} may be a class or a split", splits=True)
    other = Part(name := next(iter(others)), path / name, others[name])
    if holds_pictures(name) or (insisted and other.has_labels()):
        return other
    if other.has_labels():
        raise Doubtful(path, f"{name}/ beside {names} may be what to train on", [name], splits=True)
    return None


def _one_each(path: Path, parts: dict[str, list[Part]]) -> dict[str, list[Part]]:
    """The same with one folder for each split; a second one of test images is to be predicted if it has no labels."""
    tests = parts.get("test", [])
    labelled = [part for part in tests if part.has_labels()]
    if len(tests) > 1 > len(labelled) - 1:
        others = [part for part in tests if part not in labelled]
        parts = parts | {"test": labelled, "predict": [*parts.get("predict", []), *others]}
    for split, (one, *others) in ((split, found) for split, found in parts.items() if found):
        if others and split != "predict":
            raise UserError(f"{path} has both {one.name}/ and {others[0].name}/; keep one of them, or rename one.")
    return {split: found for split, found in parts.items() if found}
