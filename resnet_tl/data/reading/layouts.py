"""From what lies on disk (class folders, split folders, Kaggle's flat names, a CSV, a zip) to an ImageIndex."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePath

import pandas as pd

from resnet_tl.cache import cache_root
from resnet_tl.data.index import SPLITS, ImageIndex
from resnet_tl.data.reading.archive import unpacked
from resnet_tl.data.reading.folders import Folder, is_image
from resnet_tl.data.reading.found_tables import labelled_by_table
from resnet_tl.data.reading.indexing import number_classes, without_labels
from resnet_tl.data.reading.named_images import SPLIT_OF, relative
from resnet_tl.data.reading.options import BY_LOOKING, Reading
from resnet_tl.data.reading.table_files import TABLE_SUFFIXES, is_table
from resnet_tl.data.reading.tables import from_file, from_frame, images_in
from resnet_tl.errors import UserError, listed, nearest


def read_images(root: str | Path, learns: bool = True, reading: Reading = BY_LOOKING) -> ImageIndex:
    """Labelled images in a folder, a zip file or a table; what is there decides how it is read (data/README.md).

    Folders of classes, perhaps within folders of splits, or flat names such as `cat.0.jpg`, in a folder or zip; or a
    table (CSV, TSV, JSON lines) of images and labels, given or lying among its images. Class folders are searched at
    any depth; hidden files and what is no image by its suffix do not count. Images that are only to be judged (`learns`
    is false) need no train split and no second class.

    Raises:
        UserError: nothing usable is there, or classes, splits or paths do not fit together.
    """
    given, root = _existing(root), located(root)
    if root.is_file():
        if not is_table(root):
            raise UserError(f"{root} is neither a folder nor a .zip or a table ({', '.join(sorted(TABLE_SUFFIXES))}).")
        if reading.layout != "auto":
            raise UserError(f"{root} is a table, which has no folders: leave out --data.layout {reading.layout}.")
        return from_file(root, reading, learns)
    try:
        folder = Folder.read(root)
        if index := labelled_by_table(root, folder, reading, learns):
            return index
        inner, folder = _without_wrapper(root, folder) if root != given else (root, folder)
        return (_split_folders if _has_splits(folder) else _one_folder)(inner, folder, learns)
    except UserError as error:
        raise UserError(str(error).replace(str(root), str(given))) from None  # who gave a zip knows no other folder


def from_dataframe(frame: pd.DataFrame, root: str | Path | None = None, reading: Reading = BY_LOOKING) -> ImageIndex:
    """Labelled images from a data frame, whose columns are found as those of a file; paths below `root`, or here."""
    return from_frame(frame, located(root or Path()), reading)


def unlabelled(paths: str | Path | Sequence[str | Path], reading: Reading = BY_LOOKING) -> ImageIndex:
    """Images to predict, in natural order of their paths (2.jpg before 10.jpg), each once.

    Takes files, folders and zip files, patterns such as `photos/*.jpg`, and tables that name images. Paths are relative
    to the one folder (or zip, or the one table's folder) that was given, else to the current folder.

    Raises:
        UserError: a path or pattern leads to nothing, or a folder holds no images.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    sources = [path for one in given for path in _matching(one)]
    root, found, missing = Path.cwd(), list[str](), list[str]()
    for source in sources:
        if source.is_dir():
            folder, images = source, Folder.read(source).require_images(source).all()
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
    return replace(without_labels(root, names, "images without labels"), missing=tuple(missing))


def located(path: str | Path) -> Path:
    """The absolute path of what exists; for a zip file, the folder in the cache that it is unpacked into, once."""
    path = _existing(path)
    if path.suffix.lower() == ".zip" and path.is_file():
        return unpacked(path, cache_root().absolute() / "unpacked")
    return path


# Folders


def _classes(folder: Folder) -> dict[str, list[str]]:
    """Images by the subfolder that they are below; subfolders without images are no classes."""
    return {name: paths for name, inner in folder.folders.items() if (paths := inner.all())}


def _classes_by_name(folder: Folder) -> dict[str, list[str]]:
    """Images that lie here by the class in their names; those without one under ""."""
    found: dict[str, list[str]] = {}
    for path in folder.images:
        found.setdefault(_class_in_name(PurePath(path).stem), []).append(path)
    return found


def _class_in_name(stem: str) -> str:
    """`St. Bernard` for `St. Bernard.12`, `cat` for `cat_0`; "" for a name without a class, such as `2024.01.02`."""
    numbered = re.fullmatch(r"(.+?)[._-]+\d+", stem)
    return numbered[1] if numbered and not re.fullmatch(r"\d+([._-]+\d+)+", numbered[1]) else ""


def _without_wrapper(root: Path, folder: Folder) -> tuple[Path, Folder]:
    """Goes into the one folder that all of an archive lies in, unless it is a split or a class itself."""
    while not folder.images and len(names := list(_classes(folder))) == 1:
        inner = folder.folders[names[0]]
        by_name = _classes_by_name(inner)
        if names[0].lower() in SPLIT_OF or not (inner.folders or (len(by_name) > 1 and "" not in by_name)):
            break
        root, folder = root / names[0], inner
    return root, folder


def _has_splits(folder: Folder) -> bool:
    """Whether the subfolders are splits; `train` without classes of its own, beside `bus` and `car`, is a class."""
    splits = {name for name in folder.folders if name.lower() in SPLIT_OF}
    train = [folder.folders[name] for name in splits if name.lower() == "train"]
    is_class = train and not _classes(train[0]) and len(_classes_by_name(train[0])) < 2
    return bool(splits) and not (is_class and _classes(folder).keys() - splits)


def _split_folders(root: Path, folder: Folder, learns: bool) -> ImageIndex:
    named: dict[str, str] = {}
    for name in folder.folders:
        if split := SPLIT_OF.get(name.lower()):
            if split in named:
                raise UserError(f"{root} has both {named[split]}/ and {name}/; keep one of them.")
            named[split] = name
    names = {split: named[split] for split in SPLITS if split in named}
    first = next(iter(names.values()))
    if learns and "train" not in names:
        raise UserError(f"{root} has {first}/ but no train/; the folder to learn from is missing.")

    flat = not _classes(folder.folders[first])
    others = sorted(_classes(folder).keys() - names.values())
    notes = [f"{listed(others)} left out"] if others else []
    found: dict[str, dict[str, list[str]]] = {}
    for split, name in names.items():
        part = folder.folders[name]
        classes = _classes_by_name(part) if flat else _classes(part)
        if split == "test" and not (classes.keys() & found.get("train", classes).keys()) and not _classes(part):
            notes.append(f"{name}/ left out, it has no labels")
            continue
        part.require_images(root / name)
        if flat:
            _require_names(classes, root / name, learns=split == "train")
        elif not classes:
            raise UserError(f"{root / name} has images but no class folders as {first}/ has.")
        elif part.images:
            notes.append(f"{len(part.images)} loose images in {name}/ left out")
        found[split] = classes

    kind = "flat names" if flat else "split folders" if len(found) > 1 else "class folders"
    shapes = ", ".join(f"{names[split]}/{'<class>.<number>' if flat else '<class>'}" for split in found)
    if found.keys() == {"train"}:
        found = {"": found["train"]}
    return _from_classes(root, found, "; ".join([f"{kind}: {shapes}", *notes]), learns)


def _one_folder(root: Path, folder: Folder, learns: bool) -> ImageIndex:
    folder.require_images(root)
    classes = _classes(folder)
    if classes:
        if len(classes) == 1 and folder.folders[next(iter(classes))].folders:
            raise UserError(f"{root} holds one folder only; did you mean {root / next(iter(classes))}?")
        notes = [f"{len(folder.images)} loose images left out"] if folder.images else []
        return _from_classes(root, {"": classes}, "; ".join(["class folders: <class>", *notes]), learns)
    classes = _classes_by_name(folder)
    _require_names(classes, root)
    return _from_classes(root, {"": classes}, "flat names: <class>.<number>", learns)


def _require_names(classes: dict[str, list[str]], path: Path, learns: bool = True) -> None:
    """Refuses flat files whose names carry no class: one without or, to learn from, as many classes as images."""
    odd = classes.get("", [])
    if learns and not odd and all(len(images) == 1 for images in classes.values()):
        odd = next(iter(classes.values()))
    if odd:
        raise UserError(
            f"{path} has no class folders, and '{PurePath(odd[0]).name}' carries no class in its name (as cat.0.jpg); "
            "put each class into a folder of its own, or give a CSV with the columns path,label."
        )


def _from_classes(root: Path, found: dict[str, dict[str, list[str]]], layout: str, learns: bool) -> ImageIndex:
    rows = [
        (relative(path, root), name, split, "")
        for split, classes in found.items()
        for name, paths in sorted(classes.items())
        for path in paths
    ]
    table = pd.DataFrame(rows, columns=["path", "label", "split", "group"])
    return number_classes(root, table, str(root), layout, learns)


# Paths


def _existing(path: str | Path) -> Path:
    """The absolute path, without `..` but with its links as they are."""
    path = Path(path).expanduser()
    if not os.path.exists(path):  # noqa: PTH110 -- Path.exists() raises for a name that is too long
        above = path.absolute().parent
        near = nearest(path.name, [entry.name for entry in above.iterdir()]) if above.is_dir() else ""
        raise UserError(f"{path} does not exist.{near}")
    return Path(os.path.abspath(path))  # noqa: PTH100 -- resolve() would replace links


def _matching(path: str | Path) -> list[Path]:
    """What a path or a pattern stands for; a file whose name looks like a pattern is that file."""
    pattern = str(Path(path).expanduser())
    if re.search(r"[*?[]", pattern) and not Path(pattern).exists():
        found = glob.glob(pattern, recursive=True)  # noqa: PTH207 -- Path.glob takes no absolute patterns
        images = [_existing(name) for name in found if is_image(name) and not Path(name).is_dir()]
        if not images:
            raise UserError(f"No image matches {path}.")
        return images
    return [located(path)]


def _natural(path: str) -> tuple[list[str | int], str]:
    """Sorts numbers within a path by their value."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path)], path
