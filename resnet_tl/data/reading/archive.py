"""Unpacks zip archives, which may come from anyone: inside one folder, within bounds, whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import logging
import lzma
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

from resnet_tl.errors import UserError
from resnet_tl.files import replacing_folder

log = logging.getLogger(__name__)

MAX_RATIO = 100
"""Unpacked bytes per byte of the archive: photos come to 1, blank bitmaps to some tens, a zip bomb to a thousand."""
ALLOWANCE = 100_000_000
"""Unpacked bytes that are granted whatever the ratio."""

_DAMAGES = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError)


def unpacked(archive: Path, cache: Path) -> Path:
    """The folder below `cache` that holds what is in `archive`: unpacked at the first use, found again later.

    It is named after the archive and a digest of the names, sizes and CRC-32 of all files in it, so that it is known
    again without reading all of it. UserErrors are those of `unpack`; then nothing is left behind.
    """
    from filelock import FileLock

    with in_one_sentence(archive.name), opened_zip(archive) as opened:
        entries_of(opened, archive.name)
        files = [(entry.filename, entry.file_size, entry.CRC) for entry in opened.infolist()]
    digest = hashlib.sha256(repr(files).encode()).hexdigest()
    folder = cache / f"{archive.stem[:40]}-{digest[:16]}"
    if folder.is_dir():
        return folder
    with in_one_sentence(archive.name):
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f".{folder.name}.lock"):  # the processes of one fit come here together
            if not folder.is_dir():
                log.info(f"{archive} is unpacked into {folder}; this is done once")
                with replacing_folder(folder) as temporary:
                    unpack(archive, temporary)
    return folder


def unpack(archive: Path, folder: Path, inside: str = "") -> None:
    """Unpacks `archive`, or what lies in its folder `inside`, into the empty `folder`.

    A zip in it becomes a folder of that name (`train.zip` becomes `train/`), one level deep. `__MACOSX` is left out.

    Raises:
        UserError: the archive is damaged or encrypted, has nothing in `inside`, unpacks to more than the bounds or
            the disk allow, or has an entry that is a link or would be written outside of `folder`.
    """
    name = archive.name
    with in_one_sentence(name):
        allowed = ALLOWANCE + MAX_RATIO * archive.stat().st_size
        with opened_zip(archive) as opened:
            files = entries_of(opened, name)
            below = {path.relative_to(inside): entry for path, entry in files.items() if path.is_relative_to(inside)}
            if not below:
                what = f"folder '{inside}'; it is not the data set that was expected" if inside else "files"
                raise UserError(f"{name} holds no {what}.")
            allowed = _write(opened, below, folder, name, allowed)
    for path in below:
        if path.suffix.lower() == ".zip" and not path.name.startswith("."):
            allowed = _unpack_inner(folder / path, name, allowed)


def _unpack_inner(archive: Path, outer: str, allowed: int) -> int:
    """Puts a folder in the place of a zip in the zip: train/ for a train.zip, also where that holds train/ itself."""
    name = f"{archive.name} in {outer}"
    with in_one_sentence(name):
        with opened_zip(archive) as opened:
            files = entries_of(opened, name)
            if {path.parts[0].lower() for path in files} == {archive.stem.lower()}:
                files = {path.relative_to(path.parts[0]): entry for path, entry in files.items()}
            folder = archive.with_suffix("")
            folder.mkdir(exist_ok=True)
            allowed = _write(opened, files, folder, outer, allowed)
        archive.unlink()
    return allowed


def opened_zip(archive: Path) -> zipfile.ZipFile:
    """A zip to read from; zipfile's own errors where it is none."""
    try:
        return zipfile.ZipFile(archive, metadata_encoding="utf-8")  # macOS writes UTF-8 without saying so
    except UnicodeDecodeError:
        return zipfile.ZipFile(archive)


def entries_of(opened: zipfile.ZipFile, name: str) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """The archive's files by their relative paths, after all entries have been found to be harmless."""
    files = {}
    for entry in opened.infolist():
        path = PureWindowsPath(entry.filename)  # takes both slashes, since some programs write the other one
        if path.drive or path.root or ".." in path.parts:
            raise UserError(f"{name} has the entry {entry.filename!r}, which leads out of its folder; it was refused.")
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UserError(
                f"{name} has the entry {entry.filename!r}, which is a link or not a regular file; it was refused."
            )
        if entry.flag_bits & 0x1:
            raise UserError(f"{name} is encrypted; unpack it with its password and name the folder.")
        if path.parts and path.parts[0] != "__MACOSX" and not entry.filename.endswith(("/", "\\")):
            plain = PurePosixPath(*path.parts)
            if plain in files:
                raise UserError(f"{name} has two entries for {str(plain)!r}; it was refused.")
            files[plain] = entry
    return files


def _write(
    opened: zipfile.ZipFile, files: dict[PurePosixPath, zipfile.ZipInfo], folder: Path, name: str, allowed: int
) -> int:
    """Writes the files below `folder` and gives what is left of the `allowed` bytes.

    What the archive says that it will become is refused beforehand: `zipfile` reads no more of an entry than it says.
    """
    declared = sum(entry.file_size for entry in files.values())
    if declared > allowed:
        raise UserError(
            f"{name} unpacks to more than {MAX_RATIO} times its size, as no images do, and was refused; "
            "if you trust it, unpack it yourself and name the folder."
        )
    free = shutil.disk_usage(folder).free
    if declared > free:
        raise UserError(
            f"{name} needs {declared / 1e9:.1f} GB where {folder.parent} has {free / 1e9:.1f} GB free; make room there."
        )
    for path, entry in files.items():
        entry.filename = str(path)
    opened.extractall(folder, list(files.values()))
    return allowed - declared


@contextmanager
def in_one_sentence(name: str) -> Iterator[None]:
    """Turns what `zipfile` meets in the block into a UserError that names the archive."""
    try:
        yield
    except NotImplementedError as error:
        raise UserError(f"{name} cannot be unpacked here ({error}); unpack it yourself and name the folder.") from error
    except (*_DAMAGES, OSError) as error:
        # An OSError without a number, or EINVAL: so bz2 reports damaged data, and zipfile a seek before the beginning.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise UserError(
                f"{name} cannot be unpacked: {error.strerror} ({error.filename or 'while writing'})."
            ) from error
        reason = str(error) or "it ends too early"
        raise UserError(f"{name} is no sound zip file ({reason}); copy or download it again.") from error
