"""Gives every toolkit the same images: a folder of links with train/CLASS and val/CLASS, or photos that are drawn."""

from __future__ import annotations

import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
VAL_SHARE = 5
"""Every fifth image of a class is for validation where there is no split."""


def link_photos(
    root: Path, folder: Path, left_out: Collection[str] = (), limit: int | None = None, val_limit: int | None = None
) -> dict[str, int]:
    """Links the images of `root` into `folder`/{train,val}/CLASS and reads each once, so that all find them in memory.

    Args:
        root: holds train/CLASS and val/CLASS (or test/CLASS), train/CLASS alone, CLASS alone, or cat.0.jpg, dog.0.jpg.
        left_out: names of files that are no photos.
        limit, val_limit: at most so many images of each split, the same number of each class; default: all.

    Returns:
        The number of images of each split.
    """
    train = root / "train" if (root / "train").is_dir() else root
    val = next((root / name for name in ("val", "valid", "test") if any((root / name).glob("*/*"))), None)
    splits = {"train": _classes(train, left_out)}
    if val:
        splits["val"] = _classes(val, left_out)
    else:
        splits = _split(splits["train"])
    counts = {}
    for split, classes in splits.items():
        most = limit if split == "train" else val_limit or limit
        for name, files in classes.items():
            target = folder / split / name
            target.mkdir(parents=True, exist_ok=True)
            for file in files[: most and -(-most // len(classes))]:
                _link(file, target / file.name)
        counts[split] = sum(1 for file in (folder / split).glob("*/*") if file.read_bytes())
    return counts


def _split(classes: dict[str, list[Path]]) -> dict[str, dict[str, list[Path]]]:
    """Every fifth image of a class for validation, but for copies of training images, which are trained on too."""
    train = {name: [file for i, file in enumerate(files) if i % VAL_SHARE] for name, files in classes.items()}
    val = {name: files[::VAL_SHARE] for name, files in classes.items()}
    seen = {_digest(file) for files in train.values() for file in files}
    for name, files in val.items():
        copies = [file for file in files if _digest(file) in seen]
        train[name] += copies
        val[name] = [file for file in files if file not in copies]
    return {"train": train, "val": val}


def _digest(file: Path) -> bytes:
    return hashlib.sha256(file.read_bytes()).digest()


def _classes(folder: Path, left_out: Collection[str]) -> dict[str, list[Path]]:
    """Files of each class by name: a folder of that name, or the files whose names begin with it."""
    classes: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.name not in left_out:
            inside = path.relative_to(folder).parts
            classes[inside[0] if len(inside) > 1 else path.name.split(".")[0]].append(path)
    if len(classes) < 2:
        raise SystemExit(f"{folder} has no two classes of images.")
    return dict(classes)


def _link(file: Path, link: Path) -> None:
    if not link.exists():
        try:
            os.link(file, link)
        except OSError:  # another disk
            link.symlink_to(file.resolve())


def draw_photos(root: Path, number: int, side: int, classes: int = 4, seconds: float = 20.0) -> Path:
    """Draws JPEGs of random soft shapes, tinted by class, into ROOT/CLASS, as many as the seconds allow.

    A folder that is there already is taken as it is.
    """
    import numpy as np
    from PIL import Image

    end = time.perf_counter() + seconds

    def draw(one: int) -> None:
        if one >= 16 * classes and time.perf_counter() > end:
            return
        shapes = np.random.default_rng(one).integers(20, 200, (8, 8, 3))
        shapes[..., one % 3] += 20 * (one % classes)
        photo = Image.fromarray(shapes.astype(np.uint8)).resize(
            (side * 3 // 2, side * 9 // 8), Image.Resampling.BICUBIC
        )
        photo.save(root / f"class_{one % classes}" / f"{one}.jpg", quality=90)

    if not root.is_dir():
        for label in range(classes):
            (root / f"class_{label}").mkdir(parents=True)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(draw, range(number)))
    return root
