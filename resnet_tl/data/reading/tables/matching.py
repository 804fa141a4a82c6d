"""Which image an id means: `0001`, `0001.jpg`, `train/0001.jpg` and `C:\\photos\\0001.jpg` may all be the same one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple
from unicodedata import normalize
from urllib.parse import unquote

from resnet_tl.data.reading.folders.tree import is_image


class Parts(NamedTuple):
    """An id or path: name without extension, image extension in lower case ("" where it is none), and folders."""

    stem: str
    suffix: str
    folders: tuple[str, ...]


def parts_of(name: str) -> Parts:
    """The parts of an id, a path of any system, or an address; "IMG_2.5" has no extension."""
    if not name.isascii():  # a Mac takes letters and their accents apart
        name = normalize("NFC", name)
    if "://" in name:
        name = unquote(name.split("?")[0])
    *folders, last = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")] or [""]
    if not is_image(last):
        return Parts(last, "", tuple(folders))
    stem, _, suffix = last.rpartition(".")
    return Parts(stem, f".{suffix.lower()}", tuple(folders))


def shared_folders(one: Parts, other: Parts) -> int:
    """How many folders two paths end with in common."""
    equal = (a == b for a, b in zip(reversed(one.folders), reversed(other.folders), strict=False))
    return sum(takewhile(bool, equal))


class Images:
    """Images by what others may call them; `ids` are their paths, and an image's number is its position there."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.parts = [parts_of(name) for name in ids]
        self.by_stem: defaultdict[str, list[int]] = defaultdict(list)
        for number, parts in enumerate(self.parts):
            self.by_stem[parts.stem].append(number)

    def meant_by(self, name: str) -> list[int]:
        """The images that an id may mean: those with its stem, its extension, if any, and most of its folders."""
        parts = parts_of(name)
        alike = [
            (number, shared_folders(parts, self.parts[number]))
            for number in self.by_stem.get(parts.stem, ())
            if not (parts.suffix and self.parts[number].suffix) or parts.suffix == self.parts[number].suffix
        ]
        most = max((shared for _, shared in alike), default=0)
        return [number for number, shared in alike if shared == most]
