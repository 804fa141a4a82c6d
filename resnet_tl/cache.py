"""The cache folder: computed things that are whole or absent, the least recently used of them removed for new ones."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from resnet_tl.errors import UserError
from resnet_tl.files import current_umask

log = logging.getLogger(__name__)

KINDS = ("audits", "pixels", "activations", "symmetries")
ABOUT = "about.txt"  # one line for people; its time is that of the last use
LIMIT = 20 << 30
FREE_SHARE = 0.5
"""A new entry may take this share of what is free on the disk."""


@dataclass(frozen=True)
class CacheEntry:
    """One whole thing in the cache."""

    kind: str
    key: str
    path: Path
    size: int
    used: float
    about: str


def cache_root() -> Path:
    """Where resnet-tl keeps what it fetched or computed: $RESNET_TL_CACHE, else the platform's place for caches."""
    if chosen := os.environ.get("RESNET_TL_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "resnet-tl"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "resnet-tl"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "resnet-tl"


def limit() -> int:
    """The most bytes of all entries together: $RESNET_TL_CACHE_LIMIT in GiB, else 20 GiB; UserError for no number."""
    chosen = os.environ.get("RESNET_TL_CACHE_LIMIT")
    if not chosen:
        return LIMIT
    try:
        gibibytes = float(chosen)
    except ValueError:
        gibibytes = -1
    if not 0 <= gibibytes < float("inf"):
        raise UserError(f"RESNET_TL_CACHE_LIMIT is '{chosen}'; it must be a number of GiB, such as 20, or 0 for none.")
    return int(gibibytes * 2**30)


def has_room(size: int) -> bool:
    """Whether an entry of `size` bytes may be made, if need be in place of older ones."""
    root = cache_root()
    existing = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    held = sum(entry.size for entry in entries())
    return size <= limit() and size <= FREE_SHARE * (shutil.disk_usage(existing).free + held)


def find(kind: str, key: str) -> Path | None:
    """The folder of a whole entry, marked as used now; None when there is none that can be read."""
    folder = cache_root() / kind / key
    if not os.access(folder / ABOUT, os.R_OK):
        return None
    with suppress(OSError):  # not ours to mark, or just removed
        os.utime(folder / ABOUT)
    return folder


def entry(kind: str, key: str, size: int, about: str, write: Callable[[Path], None]) -> Path | None:
    """The folder of an entry: found, or made by `write` in a temporary folder that takes its place when it is whole.

    Processes that want the same entry wait for the first of them. One that is killed leaves nothing that could be
    taken for whole.

    Returns:
        None where it cannot be kept: too large, the disk full, or the cache folder not ours to write.
    """
    if folder := find(kind, key):
        return folder
    home = cache_root() / kind
    if not has_room(size):
        return None
    try:
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / f"{key}.lock"):
            if folder := find(kind, key):
                return folder
            _make_room(size)
            return _make(home, key, about, write)
    except OSError as error:  # the disk is full, the folder is not ours, the file system does not do this
        log.info(f"{about}: not kept in {cache_root()}: {error.strerror or error}.")
        return None


def entries() -> list[CacheEntry]:
    """Every whole entry, the least recently used first."""
    found = []
    for about in cache_root().glob(f"*/*/{ABOUT}"):
        folder = about.parent
        if folder.parent.name not in KINDS or folder.name.startswith("."):
            continue
        try:
            size = sum(file.stat().st_size for file in folder.iterdir())
            used, text = about.stat().st_mtime, about.read_text(encoding="utf-8").strip()
        except FileNotFoundError:  # another process has just removed it
            continue
        found.append(CacheEntry(folder.parent.name, folder.name, folder, size, used, text))
    return sorted(found, key=lambda entry: entry.used)


def clear(kind: str | None = None) -> int:
    """Removes all entries, or those of one kind, and what killed processes left; gives the bytes that it freed."""
    chosen = [entry for entry in entries() if kind in (None, entry.kind)]
    for one in chosen:
        _remove(one.path)
    for name in KINDS if kind is None else (kind,):
        _sweep(cache_root() / name)
    return sum(entry.size for entry in chosen)


def _make(home: Path, key: str, about: str, write: Callable[[Path], None]) -> Path:
    folder = home / key
    for stale in home.glob(f".{key}.*"):  # we hold the lock, so that whoever made it was killed
        shutil.rmtree(stale, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(dir=home, prefix=f".{key}."))
    try:
        write(temporary)
        (temporary / ABOUT).write_text(about + "\n", encoding="utf-8")
        for file in temporary.iterdir():
            with file.open("rb+") as written:
                os.fsync(written.fileno())
        temporary.chmod(0o777 & ~current_umask())
        if folder.exists() and not (folder / ABOUT).is_file():  # one who removed it was killed half-way
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _make_room(size: int) -> None:
    """Removes the least recently used entries until `size` more bytes are within the limit."""
    held = entries()
    total = sum(entry.size for entry in held)
    for one in held:
        if total + size <= limit() and size <= FREE_SHARE * shutil.disk_usage(cache_root()).free:
            return
        _remove(one.path)
        total -= one.size


def _remove(folder: Path) -> None:
    """The name goes first, in one step, so that one who is stopped here leaves nothing that is taken for whole."""
    gone = folder.with_name(f".{folder.name}.gone")
    try:
        folder.rename(gone)
    except OSError:  # another process was as fast, or, on Windows, it is in use
        return
    shutil.rmtree(gone, ignore_errors=True)


def _sweep(home: Path) -> None:
    """Removes what killed processes left half made or half removed: nobody holds the lock of its key any more."""
    for file in home.glob("*.lock"):
        try:
            with FileLock(file).acquire(blocking=False):
                for temporary in home.glob(f".{file.stem}.*"):
                    shutil.rmtree(temporary, ignore_errors=True)
        except Timeout:
            pass
