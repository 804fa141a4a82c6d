import hashlib
import http.server
import io
import stat
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from resnet_tl.data import catalog, sample
from resnet_tl.data.catalog import SOURCES, cache_folder, fetch, is_present, root_of
from resnet_tl.errors import UserError

JPEG = io.BytesIO()
Image.new("RGB", (8, 8), "green").save(JPEG, "JPEG")


def make_zip(path: Path, names: list[str | zipfile.ZipInfo]) -> str:
    """A zip of small pictures; gives its SHA-256."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, JPEG.getvalue())
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Handler(http.server.SimpleHTTPRequestHandler):
    requests = 0

    def do_GET(self):
        type(self).requests += 1
        if self.path == "/truncated.zip":
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"PK" + bytes(999))
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
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def ants(served, tmp_path, monkeypatch):
    """Makes `hymenoptera` come from the local server; gives a function that sets what it serves."""
    folder, address = served
    monkeypatch.setenv("RESNET_TL_CACHE", str(tmp_path / "cache"))

    def serve(file: str = "ants.zip", names=("top/train/ants/1.jpg", "top/val/ants/1.jpg"), **changes) -> str:
        digest = make_zip(folder / "ants.zip", list(names))
        source = replace(SOURCES["hymenoptera"], archive=f"{address}/{file}", inside="top", **changes)
        monkeypatch.setitem(SOURCES, "hymenoptera", source)
        return digest

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


def test_the_digest_is_printed_when_none_is_published(ants, capsys):
    digest = ants(sha256=None)
    fetch("hymenoptera", progress=False)
    assert digest in capsys.readouterr().err


def test_the_right_digest_passes_silently(ants, capsys):
    ants(sha256=ants())
    assert fetch("hymenoptera", progress=False).is_dir()
    assert capsys.readouterr().err == ""


def test_a_wrong_digest_is_refused_and_leaves_nothing(ants, tmp_path):
    ants(sha256="0" * 64)
    with pytest.raises(UserError, match=r"SHA-256 .* was expected"):
        fetch("hymenoptera")
    assert left_in(tmp_path / "cache") == []
    assert not is_present("hymenoptera")


def test_a_truncated_download_is_refused_and_leaves_nothing(ants, tmp_path):
    ants("truncated.zip")
    with pytest.raises(UserError, match=r"(broke off|could not be downloaded).*--data\.root"):
        fetch("hymenoptera")
    assert left_in(tmp_path / "cache") == []


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


def test_what_is_no_zip_is_refused(ants, served, tmp_path):
    ants("page.html")
    (served[0] / "page.html").write_text("<html>please log in</html>")
    with pytest.raises(UserError, match="no sound zip"):
        fetch("hymenoptera")
    assert left_in(tmp_path / "cache") == []


def test_an_archive_of_something_else_is_refused(ants):
    ants(names=["other/train/1.jpg"])
    with pytest.raises(UserError, match="no folder 'top'"):
        fetch("hymenoptera")


LINK = zipfile.ZipInfo("top/train/link.jpg")
LINK.external_attr = (stat.S_IFLNK | 0o777) << 16


@pytest.mark.parametrize(
    "entry",
    ["../evil.jpg", "top/../../evil.jpg", "/evil.jpg", "top\\..\\..\\evil.jpg", "C:/evil.jpg", LINK],
    ids=["parent", "parent-within", "absolute", "backslashes", "drive", "link"],
)
def test_an_entry_that_leads_out_of_the_folder_is_refused(ants, tmp_path, entry):
    ants(names=["top/train/ants/1.jpg", entry])
    with pytest.raises(UserError, match="leads out of its folder"):
        fetch("hymenoptera")
    assert left_in(tmp_path / "cache") == []
    assert not list(tmp_path.rglob("evil*"))


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(UserError, match=r"Did you mean 'hymenoptera'\?"):
        fetch("hymenoptra")


def test_a_data_set_behind_a_login_says_how_to_get_it(tmp_path):
    with pytest.raises(UserError, match=r"kaggle competitions download.*--data\.root"):
        fetch("plant_seedlings", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_sample_is_drawn_on_fetch(tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "TRAIN_COUNTS", (1, 1, 1, 1, 1))
    monkeypatch.setattr(sample, "VAL_COUNT", 1)
    monkeypatch.setattr(sample, "TEST_COUNT", 1)
    root = fetch("seedlings_sample", tmp_path)
    assert sorted(path.name for path in root.iterdir()) == ["sample_submission.csv", "test", "train", "val"]


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another folder"):
        fetch("seedlings_sample", tmp_path / "file")


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("RESNET_TL_CACHE", str(tmp_path))
    assert root_of("hymenoptera") == tmp_path / "data" / "hymenoptera"


@pytest.mark.parametrize(
    ("platform", "expected"),
    [("linux", ".cache/resnet-tl"), ("darwin", "Library/Caches/resnet-tl"), ("win32", "AppData/Local/resnet-tl")],
)
def test_the_cache_folder_is_the_platforms_own(monkeypatch, tmp_path, platform, expected):
    for name in ("RESNET_TL_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(catalog.sys, "platform", platform)
    assert cache_folder() == tmp_path / expected


def test_the_catalog_imports_nothing_heavy():
    heavy = ("torch", "numpy", "pandas", "PIL")
    code = f"import sys, resnet_tl.data.catalog; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
