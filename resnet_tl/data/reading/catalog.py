"""Known data sets: where they come from, under which licence, and how to get them."""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from resnet_tl.cache import cache_root
from resnet_tl.data.reading.archive import unpack
from resnet_tl.errors import UserError, listed, nearest
from resnet_tl.files import replacing_folder

TIMEOUT = 30
"""Seconds without an answer after which a download is given up."""


@dataclass(frozen=True)
class DataSource:
    """A data set that `fetch` knows; data/README.md says where it comes from."""

    images: str  # how many for training + validation (or test), and the classes
    size_mb: float  # megabytes (10^6 bytes) to download; 0 when it comes with this package
    licence: str
    archive: str = ""  # the address of its zip file
    inside: str = ""  # the folder in the archive that becomes the root
    torchvision: str = ""  # the class of torchvision.datasets that downloads and checks it
    by_hand: str = ""  # what to do where `fetch` cannot get it


SAMPLE = "seedlings_sample"
SAMPLE_ARCHIVE = Path(__file__).with_name("seedlings_sample.zip")
"""Drawn once by docs/make_seedlings_sample.py."""

SOURCES: dict[str, DataSource] = {
    SAMPLE: DataSource("320 + 80, 5 classes", 0, "Apache-2.0"),
    "hymenoptera": DataSource(
        "244 + 153, 2 classes",
        47,
        "none stated (ImageNet)",
        archive="https://download.pytorch.org/tutorial/hymenoptera_data.zip",
        inside="hymenoptera_data",
    ),
    "cats_and_dogs": DataSource(
        "2000 + 1000, 2 classes",
        69,
        "none stated (Asirra)",
        archive="https://storage.googleapis.com/mledu-datasets/cats_and_dogs_filtered.zip",
        inside="cats_and_dogs_filtered",
    ),
    "plant_seedlings": DataSource(
        "4750, 12 classes",
        1700,
        "CC BY-SA; Kaggle's rules",
        by_hand="It needs a Kaggle login: accept the rules at "
        "https://www.kaggle.com/competitions/plant-seedlings-classification, run `kaggle competitions download "
        "-c plant-seedlings-classification` (or press Download All there) and give the zip as --data.root.",
    ),
    "cifar10": DataSource("50000 + 10000 test, 10 classes", 170, "none stated", torchvision="CIFAR10"),
    "mnist": DataSource("60000 + 10000 test, 10 classes", 12, "CC BY-SA 3.0", torchvision="MNIST"),
    "fashion_mnist": DataSource("60000 + 10000 test, 10 classes", 31, "MIT", torchvision="FashionMNIST"),
}


def root_of(name: str, folder: Path | None = None) -> Path:
    """Where `fetch` puts (or finds) a data set: `folder/name`, by default `data/name` in the cache folder."""
    return (cache_root() / "data" if folder is None else Path(folder)) / name


def is_present(name: str, folder: Path | None = None) -> bool:
    """Whether the data set has been fetched; a root appears whole, so that it being there is enough."""
    root = root_of(name, folder)
    return root.is_dir() and any(root.iterdir())


def fetch(name: str, folder: Path | None = None) -> Path:
    """Gets a data set by its name in `SOURCES` and gives its root; what is there already is not fetched again.

    Args:
        folder: Where the folder `name` is made; by default `data` in the cache folder.

    Raises:
        UserError: the name is unknown, the data set needs a login, or the download failed; no half data set is left.
    """
    if name not in SOURCES:
        raise UserError(f"There is no data set '{name}'; it must be one of {listed(SOURCES)}.{nearest(name, SOURCES)}")
    source, root = SOURCES[name], root_of(name, folder)
    if is_present(name, folder):
        return root
    if source.by_hand:
        raise UserError(f"{name} cannot be fetched by this command. {source.by_hand}")
    with replacing_folder(root) as temporary:
        if source.torchvision:
            _download_and_convert(name, source.torchvision, temporary)
        elif source.archive:
            _download_and_unpack(source, temporary)
        else:
            unpack(SAMPLE_ARCHIVE, temporary)
    return root


@contextmanager
def _in_one_sentence(what: str, way_out: str) -> Iterator[None]:
    """Ends a download in a UserError; a connection that gives no answer is not waited for any longer."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)  # neither torch nor torchvision sets one
    try:
        yield
    except (RuntimeError, OSError, HTTPException) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split())
        raise UserError(f"{what} could not be downloaded ({reason}); {way_out}.") from error
    finally:
        socket.setdefaulttimeout(before)


def _download_and_unpack(source: DataSource, folder: Path) -> None:
    from torch.hub import download_url_to_file

    archive = folder / ".download.zip"
    by_hand = "try again later, or download it by hand and give the zip, or its unpacked folder, as --data.root"
    with _in_one_sentence(source.archive, by_hand):
        download_url_to_file(source.archive, str(archive), progress=sys.stderr.isatty())
    unpack(archive, folder, source.inside)
    archive.unlink()


def _download_and_convert(name: str, kind: str, folder: Path) -> None:
    """Writes what torchvision downloads as `train|test/<class>/<position>.png`, the position as torchvision counts."""
    import torchvision

    downloaded = folder / ".torchvision"
    with _in_one_sentence(name, "try again later, or give a folder or zip of your own as --data.root"):
        for split in ("train", "test"):
            # CIFAR-10 comes pickled: torchvision opens it after comparing the MD5 that it knows.
            images = getattr(torchvision.datasets, kind)(downloaded, train=split == "train", download=True)
            # `3` for MNIST's `3 - three`, `T-shirt_top` for `T-shirt/top`.
            classes = [title.split(" - ")[0].replace("/", "_") for title in images.classes]
            for class_name in classes:
                (folder / split / class_name).mkdir(parents=True)
            for position, (image, label) in enumerate(images):
                image.save(folder / split / classes[label] / f"{position:05d}.png", compress_level=1)
        shutil.rmtree(downloaded)
