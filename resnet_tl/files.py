"""Writing files so that a reader never sees half of one: temporary name, sync, rename."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resnet_tl.errors import UserError

_CANNOT_WRITE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENAMETOOLONG, errno.EISDIR, errno.EROFS})
_FORMULA = re.compile(r"'*[=+\-@＝＋－＠]")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path in the folder of `path`; at the end it is synced and takes the place of `path`.

    When the block raises, `path` stays as it was. The suffix is kept, since writers choose the format by it. UserError
    where the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=f".part{path.suffix}")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}; make room, or choose another place.") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~current_umask())
        temporary.replace(path)
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        raise UserError(f"{path} cannot be written: {error.strerror}; make room, or choose another place.") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes `text` as UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_cell(value: Any) -> Any:
    """A value for a CSV file that people open: a text that a spreadsheet would take for a formula begins with `'`.

    The rule for all our CSV files: names are written by `as_cell` and read by `from_cell`, which gives back the very
    same text. The one exception is a submission, whose ids and labels a scorer compares character by character.
    """
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) and not _is_number(value) else value


def from_cell(text: str) -> str:
    """The text that `as_cell` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def check_target(path: str | Path, suffix: str = "") -> None:
    """Raises UserError when no file can be written at `path`; for use before the work that makes its content."""
    path = Path(path).absolute()
    if suffix and path.suffix.lower() != suffix and not path.is_dir():
        raise UserError(f"{path} is to be a {suffix} file; give it a name that ends so.")
    if path.is_dir():
        raise UserError(f"{path} is a folder; name the file to write in it.")
    parent = next(folder for folder in path.parents if folder.exists())
    if not parent.is_dir():
        raise UserError(f"{path} cannot be written: {parent} is a file.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"{path} cannot be written: no permission in {parent}.")


def check_report(table: Path, page: Path) -> None:
    """Raises UserError where a table and its page, which is written after it, cannot be written.

    Nor may a table be replaced that is younger than its page: a person has edited it.
    """
    if table.exists() and not (page.exists() and table.stat().st_mtime_ns <= page.stat().st_mtime_ns):
        raise UserError(f"{table} has been edited since it was written; name another place by --output.")
    check_target(page, ".html")
    check_target(table, ".csv")


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Gives an empty temporary folder beside `folder`; at the end it takes that name, on an error it is removed.

    When another process has made `folder` meanwhile, that one is kept.
    """
    folder = Path(folder).absolute()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror}); choose another folder.") from error
    try:
        yield temporary
        temporary.chmod(0o777 & ~current_umask())
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def current_umask() -> int:
    """The permissions that this process takes from what it makes."""
    umask = os.umask(0)
    os.umask(umask)
    return umask
