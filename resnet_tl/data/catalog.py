"""Known data sets: where they come from, under which licence, and how to get them."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import sys
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath

from resnet_tl.errors import UserError, nearest
from resnet_tl.files import replacing_folder

TIMEOUT = 30
"""Seconds without an answer after which a download is given up."""


@dataclass(frozen=True)
class DataSource:
    """A data set that `fetch` knows.

    Args:
        images: How many for training + validation, and the classes.
        size_mb: Megabytes (10^6 bytes) to download; 0 when it is drawn here.
        how_to: What to know, or to do by hand, to use it.
        archive: The address of its zip file; None when no plain download exists.
        inside: The folder in the archive that becomes the root.
        sha256: Checksum of the archive, where its origin is sure.
    """

    name: str
    title: str
    images: str
    size_mb: float
    origin: str
    licence: str
    how_to: str
    archive: str | None = None
    inside: str = ""
    sha256: str | None = None


SAMPLE = "seedlings_sample"

SOURCES: dict[str, DataSource] = {
    source.name: source
    for source in (
        DataSource(
            name=SAMPLE,
            title="Seedlings on soil, drawn by resnet-tl",
            images="320 + 80, 5 classes",
            size_mb=0,
            origin="resnet_tl/data/sample.py",
            licence="Apache-2.0",
            how_to="Drawn in a few seconds, without a network; test/ has no labels, as in a competition.",
        ),
        DataSource(
            name="hymenoptera",
            title="Ants and bees",
            images="244 + 153, 2 classes",
            size_mb=47,
            origin="https://pytorch.org/tutorials/beginner/transfer_learning_tutorial.html",
            licence="none stated (ImageNet)",
            how_to="train/ants/imageNotFound.gif is no photo of an ant: it is left as it came, for the audit and you.",
            archive="https://download.pytorch.org/tutorial/hymenoptera_data.zip",
            inside="hymenoptera_data",
        ),
        DataSource(
            name="cats_and_dogs",
            title="Cats and dogs, a small part of Kaggle's Dogs vs. Cats",
            images="2000 + 1000, 2 classes",
            size_mb=69,
            origin="https://www.kaggle.com/competitions/dogs-vs-cats",
            licence="none stated (Asirra)",
            how_to="Layout train/<class>, validation/<class>.",
            archive="https://storage.googleapis.com/mledu-datasets/cats_and_dogs_filtered.zip",
            inside="cats_and_dogs_filtered",
        ),
        DataSource(
            name="plant_seedlings",
            title="Plant seedlings (Kaggle)",
            images="4750, 12 classes",
            size_mb=1700,
            origin="https://www.kaggle.com/competitions/plant-seedlings-classification",
            licence="CC BY-SA; Kaggle's rules",
            how_to=(
                "It needs a Kaggle login: accept the rules at "
                "https://www.kaggle.com/competitions/plant-seedlings-classification, run `kaggle competitions download "
                "-c plant-seedlings-classification` (or press Download All there), unzip the file into "
                "data/plant_seedlings and use --data.root data/plant_seedlings."
            ),
        ),
    )
}


def cache_folder() -> Path:
    """Where resnet-tl keeps what it fetched: $RESNET_TL_CACHE, else the platform's place for caches."""
    if chosen := os.environ.get("RESNET_TL_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "resnet-tl"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "resnet-tl"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "resnet-tl"


def root_of(name: str, folder: Path | None = None) -> Path:
    """Where `fetch` puts (or finds) a data set: `folder/name`, by default `data/name` in the cache folder."""
    return (cache_folder() / "data" if folder is None else Path(folder)) / name


def is_present(name: str, folder: Path | None = None) -> bool:
    """Whether the data set has been fetched; a root appears whole, so that it being there is enough."""
    root = root_of(name, folder)
    return root.is_dir() and any(root.iterdir())


def fetch(name: str, folder: Path | None = None, progress: bool = True) -> Path:
    """Gets a data set by its name in `SOURCES` and gives its root; what is there already is not fetched again.

    Args:
        folder: Where the folder `name` is made; by default `data` in the cache folder.
        progress: Shows a bar on a terminal.

    Raises:
        UserError: the name is unknown, the data set needs a login, or the download failed. Nothing is left behind.
    """
    if name not in SOURCES:
        known = ", ".join(SOURCES)
        raise UserError(f"There is no data set '{name}'; it must be one of {known}.{nearest(name, SOURCES)}")
    source, root = SOURCES[name], root_of(name, folder)
    if is_present(name, folder):
        return root
    if name == SAMPLE:
        from resnet_tl.data.sample import draw_sample

        draw_sample(root)
    elif source.archive is None:
        raise UserError(f"{name} cannot be fetched by this command. {source.how_to}")
    else:
        with replacing_folder(root) as temporary:
            part = temporary.with_name(f"{temporary.name}.zip.part")
            try:
                digest = _download(source.archive, part, progress)
                _check_digest(source, digest)
                _unzip(part, source.inside, temporary)
            finally:
                part.unlink(missing_ok=True)
    return root


def _download(address: str, path: Path, progress: bool) -> str:
    """Streams `address` into `path` and gives the SHA-256 of what came."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (TextColumn(address.rsplit("/", 1)[-1]), BarColumn(), DownloadColumn())
    bar = Progress(
        *columns,
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not (progress and console.is_terminal),
    )
    digest, received = hashlib.sha256(), 0
    request = urllib.request.Request(address, headers={"User-Agent": "resnet-tl"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer, path.open("wb") as file, bar:
            length = answer.headers.get("Content-Length")
            task = bar.add_task("", total=int(length) if length else None)
            while chunk := answer.read(1 << 18):
                file.write(chunk)
                digest.update(chunk)
                received += len(chunk)
                bar.update(task, completed=received)
    except (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError) as error:
        raise UserError(_by_hand(address, f"could not be downloaded ({getattr(error, 'reason', error)})")) from error
    if length and received != int(length):
        raise UserError(_by_hand(address, f"broke off after {received} of {length} bytes"))
    return digest.hexdigest()


def _by_hand(address: str, what_happened: str) -> str:
    return (
        f"{address} {what_happened}; try again, or download and unzip it by hand "
        "and give the unzipped folder as --data.root."
    )


def _check_digest(source: DataSource, digest: str) -> None:
    if source.sha256 is None:
        print(f"{source.name}: SHA-256 {digest}; no published checksum is known to compare it with.", file=sys.stderr)
    elif digest != source.sha256:
        raise UserError(
            f"{source.archive} has the SHA-256 {digest} where {source.sha256} was expected: "
            "it was changed or damaged, and was removed."
        )


def _unzip(archive: Path, inside: str, folder: Path) -> None:
    """Unpacks what lies in the archive's folder `inside` into `folder`; an entry that leads out of it is refused."""
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = opened.infolist()
            for entry in entries:
                _refuse_unsafe(entry)
            wanted = [(entry, PurePosixPath(entry.filename)) for entry in entries if not entry.is_dir()]
            wanted = [(entry, path) for entry, path in wanted if path.is_relative_to(inside)]
            if not wanted:
                raise UserError(f"The archive holds no folder '{inside}'; it is not the data set that was expected.")
            for entry, path in wanted:
                target = folder / path.relative_to(inside)
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(entry) as packed, target.open("wb") as file:
                    shutil.copyfileobj(packed, file)
    except zipfile.BadZipFile as error:
        raise UserError(f"The downloaded archive is no sound zip file ({error}); try again.") from error


def _refuse_unsafe(entry: zipfile.ZipInfo) -> None:
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    leads_out = path.is_absolute() or ".." in path.parts or ":" in entry.filename
    if leads_out or stat.S_ISLNK(entry.external_attr >> 16):
        raise UserError(f"The archive's entry '{entry.filename}' leads out of its folder; nothing was unpacked.")
