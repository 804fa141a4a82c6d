"""Downloads that go on from where they broke off."""

from __future__ import annotations

import hashlib
import json
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPException, HTTPMessage
from pathlib import Path

from resnet_tl.errors import UserError
from resnet_tl.files import write_text

TIMEOUT = 30
"""Seconds without an answer after which a connection is given up."""
WAITS = (0.5, 1.0, 2.0)
"""Seconds before each further try within one call."""

_Show = Callable[[int, int], None]
"""Takes the bytes that have come and those of the whole file, -1 when unknown."""

_DROPPED = (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError, ssl.SSLError)
_MAY_PASS = frozenset({408, 429, 500, 502, 503, 504})


def download(address: str, target: Path, progress: bool = True) -> str:
    """Fetches `address` into `target` and gives the SHA-256 of the whole file; a `target` that is there is kept.

    What has come lies in `target`.part meanwhile, beside a .json that says of which version of the remote file it is.
    The next call goes on from there, or starts anew where that file has changed or its server sends no parts of files.
    Dropped connections are tried again a few times. One process at a time may fetch the same target.

    Args:
        progress: Shows a bar on a terminal.

    Raises:
        UserError: the download failed, or there is no place to write it.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        if not target.exists():
            with _bar(address, progress) as show:
                _fetch_with_patience(address, part, show)
            part.replace(target)
            _note_of(part).unlink(missing_ok=True)
        with target.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(
            f"{target} cannot be written ({error.strerror}); make room or choose another folder."
        ) from error


def discard(target: Path) -> None:
    """Removes a download with all that belongs to it, so that the next one starts anew."""
    part = target.with_name(f"{target.name}.part")
    for path in (target, part, _note_of(part)):
        path.unlink(missing_ok=True)


class _BrokenOff(Exception):
    """The connection ended before the file did, or what came does not continue what is here."""


@dataclass(frozen=True)
class _Version:
    """Which state of a remote file a part belongs to.

    Args:
        validator: The server's strong ETag, else its Last-Modified; "" when it gave neither, so that nothing is known.
        length: Bytes of the whole file; -1 when the server did not say.
    """

    address: str
    validator: str
    length: int

    @classmethod
    def of(cls, address: str, headers: HTTPMessage) -> _Version:
        tag = headers.get("ETag", "")
        span = re.fullmatch(r"bytes \d+-\d+/(\d+)", headers.get("Content-Range", ""))
        length = span[1] if span else headers.get("Content-Length", -1)
        return cls(address, headers.get("Last-Modified", "") if tag.startswith("W/") or not tag else tag, int(length))

    @classmethod
    def read(cls, part: Path) -> _Version | None:
        try:
            return cls(**json.loads(_note_of(part).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):  # none, or not ours
            return None

    def write(self, part: Path) -> None:
        write_text(_note_of(part), json.dumps(asdict(self)))


def _note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _fetch_with_patience(address: str, part: Path, show: _Show) -> None:
    for wait in (*WAITS, None):
        try:
            return _fetch(address, part, show)
        except urllib.error.HTTPError as error:
            if error.code not in _MAY_PASS:
                raise UserError(
                    f"{address} could not be downloaded ({error}); "
                    "download it by hand and give the archive, or its unpacked folder, as --data.root."
                ) from error
            reason: object = error
        except (*_DROPPED, _BrokenOff) as error:
            reason = getattr(error, "reason", None) or error
        if wait is not None:
            time.sleep(wait)
    kept = part.stat().st_size / 1e6 if part.exists() else 0
    raise UserError(
        f"{address} could not be downloaded ({reason}); type the same command again to go on from the {kept:.1f} MB "
        "that have come, or download it by hand and give the archive, or its unpacked folder, as --data.root."
    )


def _fetch(address: str, part: Path, show: _Show) -> None:
    """Brings `part` to its full length over one connection."""
    version = _Version.read(part) or _Version(address, "", -1)
    present = part.stat().st_size if part.exists() else 0
    if version.address != address or not version.validator:
        present = 0
    if 0 < present == version.length:
        return
    request = urllib.request.Request(address, headers={"User-Agent": "resnet-tl"})
    if present:
        request.add_header("Range", f"bytes={present}-")
        request.add_header("If-Range", version.validator)
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the file has become shorter
            part.unlink()
            raise _BrokenOff("what had come was no part of the file") from error
        raise
    with answer:
        offered = _Version.of(address, answer.headers)
        if answer.status != 206:
            present = 0
            part.unlink(missing_ok=True)  # before the note, which would else be that of other bytes
            offered.write(part)
        elif offered != version or not answer.headers["Content-Range"].startswith(f"bytes {present}-"):
            part.unlink()  # a server that does not look at If-Range
            raise _BrokenOff("the file has changed meanwhile")
        with part.open("ab") as file:
            while chunk := answer.read(1 << 18):
                file.write(chunk)
                present += len(chunk)
                show(present, offered.length)
    if present != offered.length >= 0:
        raise _BrokenOff(f"broke off after {present} of {offered.length} bytes")


@contextmanager
def _bar(address: str, progress: bool) -> Iterator[_Show]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (TextColumn(address.rsplit("/", 1)[-1]), BarColumn(), DownloadColumn())
    speed = (TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, *speed, console=console, disable=not (progress and console.is_terminal)) as bar:
        task = bar.add_task("", total=None)
        yield lambda present, length: bar.update(task, completed=present, total=length if length >= 0 else None)
