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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from resnet_tl.errors import UserError
from resnet_tl.files import replacing_folder

log = logging.getLogger(__name__)

MAX_ENTRIES = 5_000_000
"""Files and folders in an archive; ImageNet has 1.4 million."""
MAX_RATIO = 100
"""Unpacked bytes per byte of the archive: photos come to 1, blank bitmaps to some tens, a zip bomb to a thousand."""
ALLOWANCE = 100_000_000
"""Unpacked bytes that are granted whatever the ratio."""
TAIL = 1 << 28
"""Bytes at the end of an archive that its digest is made of."""

_LINKS_AND_SUCH = (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK)
_DAMAGES = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError)


def unpacked(archive: Path, cache: Path) -> Path:
    """The folder below `cache` that holds what is in `archive`: unpacked at the first use, found again later.

    The folder is named after the archive and a digest of its end, where a zip keeps the name, size and CRC-32 of every
    file in it. So an archive that was copied, moved or touched is known again, and one with other content is not,
    without reading many gigabytes at each start.

    Raises:
        UserError: as `unpack` does; then nothing is left behind.
    """
    from filelock import FileLock

    folder = cache / f"{archive.stem[:40]}-{_digest_of_end(archive)}"
    if folder.is_dir():
        return folder
    with _in_one_sentence(archive.name):
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
    with _in_one_sentence(name):
        budget = _Budget(name, folder, ALLOWANCE + MAX_RATIO * archive.stat().st_size, MAX_ENTRIES)
        with _opened(archive) as opened:
            entries = _below(inside, _checked(opened, name, budget))
            if not entries:
                what = f"folder '{inside}'; it is not the data set that was expected" if inside else "files"
                raise UserError(f"{name} holds no {what}.")
            written = _write(opened, entries, folder, name)
    for path in written:
        if path.suffix.lower() == ".zip" and not path.name.startswith("."):
            _unpack_inner(path, f"{path.name} in {name}", budget)


def _unpack_inner(archive: Path, name: str, budget: _Budget) -> None:
    """Puts a folder in the place of a zip in the zip: train/ for a train.zip, also where that holds train/ itself."""
    with _in_one_sentence(name):
        with _opened(archive) as opened:
            entries = _checked(opened, name, budget)
            tops = {path.parts[0] for _, path in entries}
            if len(tops) == 1 and next(iter(tops)).lower() == archive.stem.lower():
                entries = _below(next(iter(tops)), entries)
            _write(opened, entries, archive.with_suffix(""), name)
        archive.unlink()


@dataclass
class _Budget:
    """What an archive, and the zips in it, may still unpack to."""

    archive: str
    folder: Path
    bytes: int
    entries: int

    def admit(self, entries: Sequence[zipfile.ZipInfo]) -> None:
        """Refuses what the archive says that it will become; `zipfile` reads no more of an entry than it says."""
        declared = sum(entry.file_size for entry in entries)
        self.entries -= len(entries)
        self.bytes -= declared
        if self.entries < 0:
            raise UserError(f"{self.archive} holds more than {MAX_ENTRIES} files, and was not unpacked.")
        if self.bytes < 0:
            raise UserError(
                f"{self.archive} unpacks to more than {MAX_RATIO} times its size, as no images do, and was refused; "
                "if you trust it, unpack it yourself and name the folder."
            )
        free = shutil.disk_usage(self.folder).free
        if declared > free:
            raise UserError(
                f"{self.archive} needs {declared / 1e9:.1f} GB where {self.folder.parent} has {free / 1e9:.1f} GB "
                "free; make room there."
            )


def _opened(archive: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive, metadata_encoding="utf-8")  # macOS writes UTF-8 without saying so
    except UnicodeDecodeError:
        return zipfile.ZipFile(archive)


_Entries = list[tuple[zipfile.ZipInfo, PurePosixPath]]


def _checked(opened: zipfile.ZipFile, name: str, budget: _Budget) -> _Entries:
    """The archive's files with their relative paths, after all entries have been found to be harmless."""
    entries = opened.infolist()
    budget.admit(entries)
    files = []
    for entry in entries:
        path = PureWindowsPath(entry.filename)  # takes both slashes, since some programs write the other one
        if path.drive or path.root or ".." in path.parts:
            raise UserError(f"{name} has the entry {entry.filename!r}, which leads out of its folder; it was refused.")
        if stat.S_IFMT(entry.external_attr >> 16) in _LINKS_AND_SUCH:
            raise UserError(
                f"{name} has the entry {entry.filename!r}, which is a link or no plain file; it was refused."
            )
        if entry.flag_bits & 0x1:
            raise UserError(f"{name} is encrypted; unpack it with its password and name the folder.")
        if path.parts and path.parts[0] != "__MACOSX" and not entry.filename.endswith(("/", "\\")):
            files.append((entry, PurePosixPath(*path.parts)))
    return files


def _below(folder: str, entries: _Entries) -> _Entries:
    if not folder:
        return entries
    return [(entry, path.relative_to(folder)) for entry, path in entries if path.is_relative_to(folder)]


def _write(opened: zipfile.ZipFile, entries: _Entries, folder: Path, name: str) -> list[Path]:
    """Writes the entries below `folder` and gives the paths of the files."""
    written = []
    for entry, path in entries:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with opened.open(entry) as packed, target.open("xb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)
        except FileExistsError as error:
            raise UserError(f"{name} has two entries for {str(path)!r}; it was refused.") from error
        written.append(target)
    return written


@contextmanager
def _in_one_sentence(name: str) -> Iterator[None]:
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


def _digest_of_end(archive: Path) -> str:
    digest = hashlib.sha256()
    with _in_one_sentence(archive.name), archive.open("rb") as file:
        size = file.seek(0, 2)
        digest.update(f"{size}\n".encode())
        file.seek(max(0, size - TAIL))
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()[:16]
