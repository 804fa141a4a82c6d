import gzip
import hashlib
import http.server
import io
import pickle
import socket
import stat
import struct
import subprocess
import sys
import tarfile
import threading
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image

from resnet_tl.data.reading import catalog
from resnet_tl.data.reading.catalog import SOURCES, fetch, is_present, root_of
from resnet_tl.data.reading.layouts import read_images
from resnet_tl.errors import UserError

JPEG = io.BytesIO()
Image.new("RGB", (8, 8), "green").save(JPEG, "JPEG")


def make_zip(path: Path, names: list[str | zipfile.ZipInfo]) -> None:
    """A zip of small pictures."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, JPEG.getvalue())


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; the answer for `broken.zip` ends early, and for `silent.zip` there is none."""

    requests = 0
    closing = threading.Event()

    def do_GET(self):
        type(self).requests += 1
        if self.path == "/silent.zip":
            self.closing.wait(20)
        elif self.path == "/broken.zip":
            content = (Path(self.directory) / "ants.zip").read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:300])
        else:
            super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def served(tmp_path):
    """A folder, and the address under which a local server offers it."""
    folder = tmp_path / "served"
    folder.mkdir()
    Handler.requests = 0
    Handler.closing.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        Handler.closing.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def ants(served, tmp_path, monkeypatch):
    """Makes `hymenoptera` come from the local server; gives a function that sets what it serves."""
    folder, address = served
    monkeypatch.setenv("RESNET_TL_CACHE", str(tmp_path / "cache"))

    def serve(file: str = "ants.zip", names=("top/train/ants/1.jpg", "top/val/ants/1.jpg")) -> None:
        make_zip(folder / "ants.zip", list(names))
        source = replace(SOURCES["hymenoptera"], archive=f"{address}/{file}", inside="top")
        monkeypatch.setitem(SOURCES, "hymenoptera", source)

    return serve


def left_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()] + [p for p in folder.rglob(".*") if p.is_dir()]


def test_fetch_downloads_unpacks_and_gives_the_root(ants, tmp_path):
    ants()
    root = fetch("hymenoptera")
    assert root == tmp_path / "cache" / "data" / "hymenoptera"
    assert sorted(path.relative_to(root).as_posix() for path in left_in(root)) == ["train/ants/1.jpg", "val/ants/1.jpg"]
    assert len(left_in(tmp_path / "cache")) == 2
    assert Image.open(root / "train/ants/1.jpg").size == (8, 8)


def test_what_is_there_is_not_downloaded_again(ants):
    ants()
    assert not is_present("hymenoptera")
    fetch("hymenoptera")
    assert is_present("hymenoptera")
    fetch("hymenoptera")
    assert Handler.requests == 1


def test_a_folder_can_be_chosen(ants, tmp_path):
    ants()
    assert fetch("hymenoptera", tmp_path / "mine") == tmp_path / "mine" / "hymenoptera"
    assert is_present("hymenoptera", tmp_path / "mine")
    assert not is_present("hymenoptera")


def test_an_empty_folder_of_that_name_is_no_data_set(ants, tmp_path):
    ants()
    (tmp_path / "mine" / "hymenoptera").mkdir(parents=True)
    assert (fetch("hymenoptera", tmp_path / "mine") / "train/ants/1.jpg").is_file()


def test_what_lies_beside_the_wanted_folder_is_left_out(ants):
    ants(names=["top/train/ants/1.jpg", "__MACOSX/top/train/ants/._1.jpg", "topping/2.jpg"])
    root = fetch("hymenoptera")
    assert [path.relative_to(root).as_posix() for path in left_in(root)] == ["train/ants/1.jpg"]


def test_a_download_that_breaks_off_leaves_nothing_and_may_be_tried_again(ants, tmp_path):
    ants("broken.zip")
    with pytest.raises(UserError, match=r"no sound zip file .*; copy or download it again"):
        fetch("hymenoptera")
    assert left_in(tmp_path / "cache") == []
    ants()
    assert (fetch("hymenoptera") / "train/ants/1.jpg").is_file()


def test_a_server_that_does_not_answer_is_not_waited_for(ants, tmp_path, monkeypatch):
    monkeypatch.setattr(catalog, "TIMEOUT", 0.2)
    ants("silent.zip")
    with pytest.raises(UserError, match=r"silent\.zip could not be downloaded \(timed out\); .*by hand"):
        fetch("hymenoptera")
    assert socket.getdefaulttimeout() is None
    assert left_in(tmp_path / "cache") == []


def test_a_zip_of_the_users_own_beside_the_data_set_is_left_alone(ants, tmp_path):
    ants()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "hymenoptera.zip").write_text("my own")
    fetch("hymenoptera", tmp_path / "mine")
    assert (tmp_path / "mine" / "hymenoptera.zip").read_text() == "my own"


def test_a_data_set_that_another_process_has_made_meanwhile_is_kept(tmp_path, monkeypatch):
    def slow_unpack(archive, folder):
        (folder / "ours.txt").touch()
        (tmp_path / "seedlings_sample").mkdir()
        (tmp_path / "seedlings_sample" / "theirs.txt").touch()

    monkeypatch.setattr(catalog, "unpack", slow_unpack)
    assert [path.name for path in left_in(fetch("seedlings_sample", tmp_path))] == ["theirs.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["seedlings_sample"]


def test_a_missing_address_says_what_to_do_by_hand(ants, tmp_path):
    ants("elsewhere.zip")
    with pytest.raises(UserError, match=r"File not found.*by hand.*--data\.root"):
        fetch("hymenoptera")
    assert left_in(tmp_path / "cache") == []


def test_no_network_says_what_to_do_by_hand(ants, monkeypatch):
    ants()
    monkeypatch.setitem(SOURCES, "hymenoptera", replace(SOURCES["hymenoptera"], archive="http://127.0.0.1:9/ants.zip"))
    with pytest.raises(UserError, match=r"could not be downloaded .*by hand.*--data\.root"):
        fetch("hymenoptera")


def test_what_is_no_zip_is_refused_and_asked_for_again(ants, served, tmp_path):
    ants("page.html")
    (served[0] / "page.html").write_text("<html>please log in</html>")
    for _ in range(2):
        with pytest.raises(UserError, match="no sound zip"):
            fetch("hymenoptera")
    assert Handler.requests == 2
    assert left_in(tmp_path / "cache") == []


def test_an_archive_of_something_else_is_refused(ants):
    ants(names=["other/train/1.jpg"])
    with pytest.raises(UserError, match="no folder 'top'"):
        fetch("hymenoptera")


LINK = zipfile.ZipInfo("top/train/link.jpg")
LINK.external_attr = (stat.S_IFLNK | 0o777) << 16


@pytest.mark.parametrize("entry", ["../evil.jpg", LINK], ids=["parent", "link"])
def test_an_entry_that_leads_out_of_the_folder_is_refused(ants, tmp_path, entry):
    ants(names=["top/train/ants/1.jpg", entry])
    with pytest.raises(UserError, match=r"leads out of its folder|is a link"):
        fetch("hymenoptera")
    assert left_in(tmp_path / "cache") == []
    assert not list(tmp_path.rglob("evil*"))


# Data sets that torchvision downloads: its own code runs, on small files in the true formats.

CLASSES = ["airplane", "automobile", "bird"]
PICTURES = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
LABELS = [0, 2, 1, 2, 0]


def cifar_batch(pictures: np.ndarray, labels: list[int]) -> bytes:
    return pickle.dumps({"data": pictures.transpose(0, 3, 1, 2).reshape(len(labels), -1), "labels": labels})


def idx(values: np.ndarray) -> bytes:
    """The format of MNIST's files, gzipped: type, sizes, bytes."""
    return gzip.compress(struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes())


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def cifar10(served, monkeypatch):
    folder, address = served
    files = {
        "data_batch_1": cifar_batch(PICTURES[:2], LABELS[:2]),
        "data_batch_2": cifar_batch(PICTURES[2:4], LABELS[2:4]),
        "test_batch": cifar_batch(PICTURES[4:], LABELS[4:]),
        "batches.meta": pickle.dumps({"label_names": CLASSES}),
    }
    with tarfile.open(folder / "cifar.tar.gz", "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    kind = torchvision.datasets.CIFAR10
    monkeypatch.setattr(kind, "url", f"{address}/cifar.tar.gz")
    monkeypatch.setattr(kind, "tgz_md5", md5((folder / "cifar.tar.gz").read_bytes()))
    monkeypatch.setattr(kind, "train_list", [[name, md5(files[name])] for name in ("data_batch_1", "data_batch_2")])
    monkeypatch.setattr(kind, "test_list", [["test_batch", md5(files["test_batch"])]])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5(files["batches.meta"])})
    return folder


@pytest.fixture(params=["MNIST", "FashionMNIST"])
def digits(request, served, monkeypatch):
    """A kind of MNIST; gives its name and grey pictures."""
    folder, address = served
    pictures, labels = PICTURES[:, :28, :28, 0], np.array(LABELS, dtype=np.uint8)
    parts = {"train": slice(0, 4), "t10k": slice(4, 5)}
    files = {f"{part}-images-idx3-ubyte.gz": idx(pictures[rows]) for part, rows in parts.items()}
    files |= {f"{part}-labels-idx1-ubyte.gz": idx(labels[rows]) for part, rows in parts.items()}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    kind = getattr(torchvision.datasets, request.param)
    monkeypatch.setattr(kind, "mirrors", [f"{address}/"])
    monkeypatch.setattr(kind, "resources", [(name, md5(content)) for name, content in files.items()])
    return "mnist" if request.param == "MNIST" else "fashion_mnist", pictures


def test_cifar10_becomes_class_folders_of_png_files(cifar10, tmp_path):
    root = fetch("cifar10", tmp_path)
    index = read_images(root)
    assert index.classes == ("airplane", "automobile", "bird")
    assert index.layout == "split folders: train/<class>, test/<class>; no images in test/automobile/, test/bird/"
    assert sorted(index.ids()) == [
        "test/airplane/00000.png",
        "train/airplane/00000.png",
        "train/automobile/00002.png",
        "train/bird/00001.png",
        "train/bird/00003.png",
    ]
    assert np.array_equal(np.asarray(Image.open(root / "train/automobile/00002.png")), PICTURES[2])
    assert np.array_equal(np.asarray(Image.open(root / "test/airplane/00000.png")), PICTURES[4])
    assert sorted(path.name for path in root.iterdir()) == ["test", "train"]
    assert {path.name for path in tmp_path.iterdir()} == {"served", "cifar10"}


def test_mnist_and_its_like_become_class_folders_of_grey_png_files(digits, tmp_path):
    name, pictures = digits
    root = fetch(name, tmp_path)
    first = {"mnist": "2", "fashion_mnist": "Pullover"}[name]
    picture = Image.open(root / "train" / first / "00001.png")
    assert picture.mode == "L"
    assert np.array_equal(np.asarray(picture), pictures[1])
    assert len(read_images(root)) == 5
    assert len(list((root / "train").iterdir())) == 10
    assert sorted(path.name for path in root.iterdir()) == ["test", "train"]


def test_the_folders_are_plain_digits_and_names_without_a_slash(digits, tmp_path):
    name, _ = digits
    folders = sorted(path.name for path in (fetch(name, tmp_path) / "train").iterdir())
    clothes = ["Ankle boot", "Bag", "Coat", "Dress", "Pullover", "Sandal", "Shirt", "Sneaker", "T-shirt_top", "Trouser"]
    assert folders == {"mnist": list("0123456789"), "fashion_mnist": clothes}[name]


def test_cifar10_is_converted_once(cifar10, tmp_path):
    fetch("cifar10", tmp_path)
    requests = Handler.requests
    fetch("cifar10", tmp_path)
    assert Handler.requests == requests


def test_a_changed_cifar10_is_refused_and_leaves_nothing(cifar10, tmp_path):
    (cifar10 / "cifar.tar.gz").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"cifar10 could not be downloaded .*corrupted.*--data\.root"):
        fetch("cifar10", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"served"}


def test_mnist_without_a_network_says_what_to_do_by_hand(digits, tmp_path, monkeypatch):
    name, _ = digits
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(
        UserError, match=r"could not be downloaded .*folder or zip of your own.*--data\.root"
    ) as refused:
        fetch(name, tmp_path)
    assert "\n" not in str(refused.value)
    assert {path.name for path in tmp_path.iterdir()} == {"served"}


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(UserError, match=r"Did you mean 'hymenoptera'\?"):
        fetch("hymenoptra")


def test_a_data_set_behind_a_login_says_how_to_get_it(tmp_path):
    with pytest.raises(UserError, match=r"kaggle competitions download.*--data\.root"):
        fetch("plant_seedlings", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another folder"):
        fetch("seedlings_sample", tmp_path / "file")


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("RESNET_TL_CACHE", str(tmp_path))
    assert root_of("hymenoptera") == tmp_path / "data" / "hymenoptera"


def test_the_catalog_imports_nothing_heavy():
    heavy = ("torch", "numpy", "pandas", "PIL")
    code = f"import sys, resnet_tl.data.reading.catalog; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
