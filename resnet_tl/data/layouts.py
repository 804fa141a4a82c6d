"""From what lies on disk (class folders, split folders, Kaggle's flat names, a CSV) to an ImageIndex."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import pandas as pd

from resnet_tl.data.index import SPLITS, UNLABELLED, ImageIndex
from resnet_tl.errors import UserError, nearest

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})

_SPLIT_OF = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_NOT_OURS = frozenset({"__MACOSX"})


def read_images(root: str | Path, learns: bool = True) -> ImageIndex:
    """Labelled images below a folder or in a CSV file; what is there decides how it is read.

    - `root.csv` with the columns `path,label[,split][,group]`, paths relative to the CSV's folder;
    - `root/train/<class>/*` with `root/val/<class>/*` (or `valid`, `validation`) and perhaps `root/test/<class>/*`;
    - `root/train/<class>/*` or `root/<class>/*` alone, to be split later; a `test` folder without labels is left out;
    - `root/train/cat.0.jpg`, `root/cat.0.jpg`, `cat_0.jpg` or `cat-0.jpg`: the class is in the file's name.

    Class folders are searched at any depth. Hidden files and files that are no images by their suffix do not count.
    Images that are only to be judged (`learns` is false) need no train split and no second class.

    Raises:
        UserError: nothing usable is there, or classes, splits or paths do not fit together.
    """
    root = _existing(root)
    if root.is_file():
        if root.suffix.lower() != ".csv":
            raise UserError(f"{root} is neither a folder nor a .csv file; unpack an archive first.")
        return _from_table(_read_csv(root), root.parent, str(root), f"CSV file {root.name}", learns)
    folder = _Folder.read(root)
    return _split_folders(root, folder, learns) if _has_splits(folder) else _one_folder(root, folder, learns)


def from_dataframe(frame: pd.DataFrame, root: str | Path | None = None) -> ImageIndex:
    """Labelled images from a table with the columns `path`, `label` and perhaps `split` and `group`.

    Paths are relative to `root`, by default the current folder. An empty `split` column means: to be split later.
    """
    return _from_table(frame, _existing(root or Path()), "The data frame", "data frame", learns=True)


def unlabelled(paths: str | Path | Sequence[str | Path]) -> ImageIndex:
    """Images to predict, in natural order of their paths (2.jpg before 10.jpg), each once.

    Takes files, folders (searched at any depth), patterns such as `photos/*.jpg`, and CSV files with a `path` column.
    Paths are kept relative to the one folder (or the one CSV's folder) that was given, else to the current folder.

    Raises:
        UserError: a path or pattern leads to nothing, or a folder holds no images.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    sources = [path for one in given for path in _matching(one)]
    root, found = Path.cwd(), []
    for source in sources:
        folder = source if source.is_dir() else source.parent
        if len(given) == len(sources) == 1 and (source.is_dir() or source.suffix.lower() == ".csv"):
            root = folder
        if source.is_dir():
            found += _Folder.read(source).require_images(source).all()
        elif source.suffix.lower() == ".csv":
            frame = _read_csv(source)
            _require_columns(frame, ("path",), str(source))
            listed = [_join(folder, path) for path in frame["path"]]
            _require_files(listed, str(source))
            found += listed
        else:
            found.append(str(source))
    if not found:
        raise UserError("No images were given.")
    names = sorted({_relative(path, root) for path in found}, key=_natural)
    return _index(root, names, [UNLABELLED] * len(names), ["predict"] * len(names), (), "images without labels")


# Folders


@dataclass
class _Folder:
    """A folder's images and subfolders, both by absolute path and in string order."""

    images: list[str] = field(default_factory=list)
    folders: dict[str, _Folder] = field(default_factory=dict)

    @staticmethod
    def read(path: str | Path, above: frozenset[tuple[int, int]] = frozenset()) -> _Folder:
        """Reads the tree below `path` without a stat per file; a link back to a folder `above` is not followed."""
        folder = _Folder()
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
            if entry.name.startswith(".") or entry.name in _NOT_OURS:
                continue
            if entry.is_dir():
                folder.folders[entry.name] = _Folder.read(entry.path, above | {identity})
            elif _is_image(entry.name):
                folder.images.append(entry.path)
        return folder

    def all(self) -> list[str]:
        """All images at any depth."""
        return [*self.images, *(path for folder in self.folders.values() for path in folder.all())]

    def classes(self) -> dict[str, list[str]]:
        """Images by the subfolder that they are below; subfolders without images are no classes."""
        return {name: paths for name, folder in self.folders.items() if (paths := folder.all())}

    def classes_by_name(self) -> dict[str, list[str]]:
        """Images that lie here by the class in their names; those without one under ""."""
        found: dict[str, list[str]] = {}
        for path in self.images:
            found.setdefault(_class_in_name(PurePath(path).stem), []).append(path)
        return found

    def require_images(self, path: Path) -> _Folder:
        if not self.all():
            raise UserError(f"{path} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}).")
        return self


def _is_image(name: str) -> bool:
    return name[name.rfind(".") :].lower() in IMAGE_SUFFIXES


def _class_in_name(stem: str) -> str:
    """`cat` for `cat.0`, `cat_0` and `cat-0`; "" for a name that carries no class."""
    if "." in stem:
        return stem.split(".")[0]
    numbered = re.fullmatch(r"(.+?)[_-]+\d+", stem)
    return numbered[1] if numbered else ""


def _has_splits(folder: _Folder) -> bool:
    """Whether the subfolders are splits; `train` without classes of its own, beside `bus` and `car`, is a class."""
    splits = {name for name in folder.folders if name.lower() in _SPLIT_OF}
    train = [folder.folders[name] for name in splits if name.lower() == "train"]
    is_class = train and not train[0].classes() and len(train[0].classes_by_name()) < 2
    return bool(splits) and not (is_class and folder.classes().keys() - splits)


def _split_folders(root: Path, folder: _Folder, learns: bool) -> ImageIndex:
    names: dict[str, str] = {}
    for name in folder.folders:
        split = _SPLIT_OF.get(name.lower())
        if split and split in names:
            raise UserError(f"{root} has both {names[split]}/ and {name}/; keep one of them.")
        if split:
            names[split] = name
    if learns and "train" not in names:
        raise UserError(f"{root} has {next(iter(names.values()))}/ but no train/; the folder to learn from is missing.")

    first = next(names[split] for split in ("train", "val", "test") if split in names)
    flat = not folder.folders[first].classes()
    found: dict[str, dict[str, list[str]]] = {}
    others = sorted(folder.classes().keys() - names.values())
    notes = [f"{', '.join(others)} left out"] if others else []
    for split in ("train", "val", "test"):
        if split not in names:
            continue
        path, part = root / names[split], folder.folders[names[split]]
        classes = part.classes_by_name() if flat else part.classes()
        if split == "test" and not (classes.keys() & found.get("train", classes).keys()) and not part.classes():
            notes.append(f"{names[split]}/ left out, it has no labels")
            continue
        part.require_images(path)
        if flat:
            _require_names(classes, path, learns=split == "train")
        elif not classes:
            raise UserError(f"{path} has images but no class folders as {first}/ has.")
        elif part.images:
            notes.append(f"{len(part.images)} loose images in {names[split]}/ left out")
        found[split] = classes

    if found.keys() == {"train"}:
        found = {"": found["train"]}
    shape = "<class>.<number>" if flat else "<class>"
    shapes = ", ".join(f"{names[split or 'train']}/{shape}" for split in found)
    kind = "flat names" if flat else "split folders" if len(found) > 1 else "class folders"
    return _from_classes(root, found, "; ".join([f"{kind}: {shapes}", *notes]), learns)


def _one_folder(root: Path, folder: _Folder, learns: bool) -> ImageIndex:
    folder.require_images(root)
    classes = folder.classes()
    if classes:
        if len(classes) == 1 and folder.folders[next(iter(classes))].folders:
            raise UserError(f"{root} holds one folder only; did you mean {root / next(iter(classes))}?")
        notes = [f"{len(folder.images)} loose images left out"] if folder.images else []
        return _from_classes(root, {"": classes}, "; ".join(["class folders: <class>", *notes]), learns)
    classes = folder.classes_by_name()
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
        (_relative(path, root), name, split)
        for split, classes in found.items()
        for name, paths in sorted(classes.items())
        for path in paths
    ]
    paths, labels, splits = (list(column) for column in zip(*rows, strict=True))
    return _numbered(root, paths, labels, splits, None, str(root), layout, learns)


# Tables


def _read_csv(path: Path) -> pd.DataFrame:
    try:  # text as it stands: a class may be called "NA" or "007"
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True)
    except (ValueError, OSError) as error:  # pandas' parser errors and wrong encodings are ValueErrors
        raise UserError(f"{path} cannot be read as a CSV file in UTF-8: {str(error).strip()}.") from error


def _from_table(frame: pd.DataFrame, root: Path, source: str, layout: str, learns: bool) -> ImageIndex:
    columns = [str(column) for column in frame.columns]
    several = [name for name in columns if re.fullmatch(r"labels?[ _.]?\d*", name, re.IGNORECASE)]
    if len(several) > 1:
        raise UserError(
            f"{source} has several label columns ({', '.join(several)}); an image must have exactly one label."
        )
    _require_columns(frame, ("path", "label"), source)
    if frame.empty:
        raise UserError(f"{source} has no rows.")
    absolute = [_join(root, path) for path in frame["path"]]
    _require_files(absolute, source)
    paths = [_relative(path, root) for path in absolute]
    labels = [_text(label) for label in frame["label"]]
    splits = _splits(frame["split"], source) if "split" in columns else [""] * len(paths)
    groups = [_text(group) for group in frame["group"]] if "group" in columns else None

    if len(set(paths)) < len(paths):
        twice = pd.Series(paths).loc[lambda series: series.duplicated()]
        raise UserError(f"{source} names {len(twice)} paths twice, such as {twice.iloc[0]}; an image has one row.")
    for path, label, split in zip(paths, labels, splits, strict=True):
        if not label and split != "predict":
            raise UserError(f"{source} gives no label for {path}; only rows of split 'predict' may have none.")
    _refuse_several_labels({label for label in labels if label}, source)
    given = [split for split in SPLITS if split in splits]
    layout = f"{layout}: {', '.join(given) or 'path, label'}"
    return _numbered(root, paths, labels, splits, groups, source, layout, learns)


def _require_columns(frame: pd.DataFrame, needed: Iterable[str], source: str) -> None:
    columns = [str(column) for column in frame.columns]
    for name in needed:
        if name not in columns:
            raise UserError(f"{source} has no column '{name}', only {', '.join(columns)}.{nearest(name, columns)}")


def _require_files(paths: Sequence[str], source: str) -> None:
    missing = [path for path in paths if not Path(path).is_file()]
    if missing:
        count = "a file that does not" if len(missing) == 1 else f"{len(missing)} files that do not"
        raise UserError(f"{source} names {count} exist, such as {missing[0]}.")


def _splits(column: pd.Series, source: str) -> list[str]:
    """The names of the splits, in our spelling; all rows have one, or none has."""
    spelled = {**_SPLIT_OF, "predict": "predict", "": ""}
    given = [_text(split).lower() for split in column]
    for split in given:
        if split not in spelled:
            raise UserError(
                f"{source} has the split '{split}'; it must be one of {', '.join(SPLITS)}.{nearest(split, SPLITS)}"
            )
    if "" in given and any(given):
        raise UserError(f"{source} gives a split for some rows and none for {given.count('')}; give all or none.")
    return [spelled[split] for split in given]


def _text(value: object) -> str:
    """A cell as text: "" for a missing one, `1` for 1.0 (pandas turns integers with gaps into floats)."""
    if hasattr(value, "__len__") and not isinstance(value, str):
        raise UserError(f"{value} is more than one label; an image must have exactly one.")
    if value is None or value is pd.NA or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _refuse_several_labels(labels: set[str], source: str) -> None:
    """Refuses lists in the label column: `cat|dog`, or `cat dog` where other labels make up the same words."""
    words = {label: frozenset(re.split(r"[ ,]+", label)) for label in labels}
    parts: dict[str, set[str]] = {}
    for label, own in words.items():
        for word in own:
            parts.setdefault(word, set()).add(label)
    for label in sorted(labels):
        within = [words[other] for word in words[label] for other in parts[word] if words[other] < words[label]]
        if re.search(r"[|;]", label) or frozenset().union(*within) == words[label]:
            raise UserError(
                f"{source} has the label '{label}', which looks like several labels; "
                "an image must have exactly one, multi-label data is not supported."
            )


# Both


def _numbered(
    root: Path,
    paths: list[str],
    labels: list[str],
    splits: list[str],
    groups: list[str] | None,
    source: str,
    layout: str,
    learns: bool,
) -> ImageIndex:
    """Numbers the classes, to learn from those of the training rows alone, and refuses what does not fit them."""
    places = ("train", "") if learns else (*SPLITS, "")
    learnt = {label for label, split in zip(labels, splits, strict=True) if split in places and label}
    classes = tuple(sorted(learnt))
    if not classes:
        raise UserError(f"{source} has no images {'to train on' if learns else 'with labels'}.")
    for label, split in zip(labels, splits, strict=True):
        if label and label not in learnt:
            raise UserError(f"{source}: class '{label}' is in {split} but not in train.{nearest(label, classes)}")
    if learns and len(classes) == 1:
        raise UserError(f"{source} has one class only, '{classes[0]}'; a classifier needs two or more.")
    number = {name: position for position, name in enumerate(classes)} | {"": UNLABELLED}
    return _index(root, paths, [number[label] for label in labels], splits, classes, layout, groups)


def _index(
    root: Path,
    paths: list[str],
    labels: list[int],
    splits: list[str],
    classes: tuple[str, ...],
    layout: str,
    groups: list[str] | None = None,
) -> ImageIndex:
    try:
        "".join(paths).encode()
    except UnicodeEncodeError as error:
        name = next(path for path in paths if error.object[error.start] in path)
        raise UserError(f"{root} has a file whose name is not UTF-8, {name!a}; rename it.") from error
    table = pd.DataFrame({"path": paths, "label": labels, "split": splits, "group": groups or [""] * len(paths)})
    return ImageIndex(root, table.astype({"label": "int64"}), classes, layout)


def _existing(path: str | Path) -> Path:
    """The absolute path, without `..` but with its links as they are."""
    path = Path(path).expanduser()
    if not path.exists():
        above = path.absolute().parent
        near = nearest(path.name, [entry.name for entry in above.iterdir()]) if above.is_dir() else ""
        raise UserError(f"{path} does not exist.{near}")
    return Path(os.path.abspath(path))  # noqa: PTH100 -- resolve() would replace links


def _matching(path: str | Path) -> list[Path]:
    """What a path or a pattern stands for; a file whose name looks like a pattern is that file."""
    pattern = str(Path(path).expanduser())
    if re.search(r"[*?[]", pattern) and not Path(pattern).exists():
        found = glob.glob(pattern, recursive=True)  # noqa: PTH207 -- Path.glob takes no absolute patterns
        images = [_existing(name) for name in found if _is_image(name) and not Path(name).is_dir()]
        if not images:
            raise UserError(f"No image matches {path}.")
        return images
    return [_existing(path)]


def _join(root: Path, path: str | Path) -> str:
    return os.path.normpath(os.path.join(root, str(path).strip().replace("\\", "/")))  # noqa: PTH118 -- for speed


def _relative(path: str, root: Path) -> str:
    """Posix path relative to `root` if below it, else absolute; by text, for there may be a million of them."""
    prefix = str(root).rstrip(os.sep) + os.sep
    return (path[len(prefix) :] if path.startswith(prefix) else path).replace(os.sep, "/")


def _natural(path: str) -> tuple[list[str | int], str]:
    """Sorts numbers within a path by their value."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path)], path
