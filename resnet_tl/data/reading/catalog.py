"""Known data sets: where they come from, under which licence, and how to get them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from resnet_tl.cache import cache_root
from resnet_tl.data.reading.archive import unpack
from resnet_tl.data.reading.download import discard, download
from resnet_tl.errors import UserError, nearest
from resnet_tl.files import replacing_folder


@dataclass(frozen=True)
class DataSource:
    """A data set that `fetch` knows.

    Args:
        images: How many for training + validation (or test), and the classes.
        size_mb: Megabytes (10^6 bytes) to download; 0 when it is drawn here.
        how_to: What to know, or to do by hand, to use it.
        archive: The address of its zip file; None when no plain download exists.
        inside: The folder in the archive that becomes the root.
        sha256: Checksum of the archive, where its origin is sure.
        torchvision: The class of torchvision.datasets that downloads and checks it; None when it comes otherwise.
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
    torchvision: str | None = None


SAMPLE = "seedlings_sample"

_CONVERTED = "Downloaded and checked by torchvision, and kept as PNG files in train/<class> and test/<class>."

SOURCES: dict[str, DataSource] = {
    source.name: source
    for source in (
        DataSource(
            name=SAMPLE,
            title="Seedlings on soil, drawn by resnet-tl",
            images="320 + 80, 5 classes",
            size_mb=0,
            origin="resnet_tl/data/reading/sample.py",
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
                "data/plant_seedlings and use --data.root data/plant_seedlings; the zip itself will do as well."
            ),
        ),
        DataSource(
            name="cifar10",
            title="CIFAR-10: photos of 32 x 32 px",
            images="50000 + 10000 test, 10 classes",
            size_mb=170,
            origin="https://www.cs.toronto.edu/~kriz/cifar.html",
            licence="none stated",
            how_to=_CONVERTED,
            torchvision="CIFAR10",
        ),
        DataSource(
            name="mnist",
            title="MNIST: handwritten digits, 28 x 28 px, grey",
            images="60000 + 10000 test, 10 classes",
            size_mb=12,
            origin="http://yann.lecun.com/exdb/mnist/",
            licence="CC BY-SA 3.0",
            how_to=_CONVERTED,
            torchvision="MNIST",
        ),
        DataSource(
            name="fashion_mnist",
            title="Fashion-MNIST: clothes, 28 x 28 px, grey",
            images="60000 + 10000 test, 10 classes",
            size_mb=31,
            origin="https://github.com/zalandoresearch/fashion-mnist",
            licence="MIT",
            how_to=_CONVERTED,
            torchvision="FashionMNIST",
        ),
    )
}


def root_of(name: str, folder: Path | None = None) -> Path:
    """Where `fetch` puts (or finds) a data set: `folder/name`, by default `data/name` in the cache folder."""
    return (cache_root() / "data" if folder is None else Path(folder)) / name


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
        UserError: the name is unknown, the data set needs a login, or the download failed. No half data set is left;
            what a broken download has brought is kept, so that the next call goes on from there.
    """
    if name not in SOURCES:
        known = ", ".join(SOURCES)
        raise UserError(f"There is no data set '{name}'; it must be one of {known}.{nearest(name, SOURCES)}")
    source, root = SOURCES[name], root_of(name, folder)
    if is_present(name, folder):
        return root
    if name == SAMPLE:
        from resnet_tl.data.reading.sample import draw_sample

        draw_sample(root)
    elif source.torchvision is None and source.archive is None:
        raise UserError(f"{name} cannot be fetched by this command. {source.how_to}")
    else:
        with _turn(root):
            if not is_present(name, folder):  # else another process has made it meanwhile
                with replacing_folder(root) as temporary:
                    if source.torchvision is None:
                        _download_and_unpack(source, root, temporary, progress)
                    else:
                        _download_and_convert(source, temporary)
    return root


@contextmanager
def _turn(root: Path) -> Iterator[None]:
    """Waits while another process makes `root`: two would write into the same unfinished download."""
    from filelock import FileLock

    lock = FileLock(root.with_name(f".{root.name}.lock"))
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise UserError(f"{root} cannot be made ({error.strerror}); choose another folder.") from error
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes it on release
            Path(lock.lock_file).unlink()
        lock.release()


def _download_and_unpack(source: DataSource, root: Path, folder: Path, progress: bool) -> None:
    assert source.archive is not None
    archive = root.with_name(f".{source.name}.zip")
    digest = download(source.archive, archive, progress)
    try:
        _check_digest(source, digest)
        unpack(archive, folder, source.inside)
    except UserError:
        discard(archive)  # what is wrong with it would be wrong the next time
        raise
    archive.unlink()


def _check_digest(source: DataSource, digest: str) -> None:
    if source.sha256 is None:
        print(f"{source.name}: SHA-256 {digest}; no published checksum is known to compare it with.", file=sys.stderr)
    elif digest != source.sha256:
        raise UserError(
            f"{source.archive} has the SHA-256 {digest} where {source.sha256} was expected: "
            "it was changed or damaged, and was removed."
        )


def _download_and_convert(source: DataSource, folder: Path) -> None:
    """Writes what torchvision downloads as `train|test/<class>/<position>.png`, the position as torchvision counts."""
    import torchvision

    assert source.torchvision is not None
    kind = getattr(torchvision.datasets, source.torchvision)
    downloaded = folder / ".torchvision"
    try:
        for split in ("train", "test"):
            # CIFAR-10 comes pickled: torchvision opens it after comparing the MD5 that it knows.
            images = kind(downloaded, train=split == "train", download=True)
            classes = [_folder_of(name) for name in images.classes]
            for name in classes:
                (folder / split / name).mkdir(parents=True)
            for position, (image, label) in enumerate(images):
                image.save(folder / split / classes[label] / f"{position:05d}.png", compress_level=1)
        shutil.rmtree(downloaded)
    except (RuntimeError, OSError, HTTPException) as error:
        raise UserError(
            f"{source.name} could not be downloaded and converted ({_in_one_line(error)}); try again later, or give "
            "a folder or zip of your own with train/<class> and test/<class> as --data.root."
        ) from error


def _folder_of(name: str) -> str:
    """`3` for MNIST's `3 - three`, `T-shirt_top` for `T-shirt/top`."""
    return name.split(" - ")[0].replace("/", "_")


def _in_one_line(error: Exception) -> str:
    return " ".join(str(getattr(error, "reason", error)).split())
