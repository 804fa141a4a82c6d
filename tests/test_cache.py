"""The cache folder: whole or absent, the least recently used gives way."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resnet_tl import cache
from resnet_tl.cache import cache_root, clear, entries, entry, find
from resnet_tl.errors import UserError


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("RESNET_TL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def keep(key: str, size: int = 10, kind: str = "pixels") -> Path | None:
    return entry(kind, key, size, f"about {key}", lambda folder: (folder / "data").write_bytes(bytes(size)) and None)


@pytest.mark.parametrize(
    ("platform", "expected"),
    [("linux", ".cache/resnet-tl"), ("darwin", "Library/Caches/resnet-tl"), ("win32", "AppData/Local/resnet-tl")],
)
def test_its_place_is_the_platforms_own(monkeypatch, tmp_path, platform, expected):
    for name in ("RESNET_TL_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(cache.sys, "platform", platform)
    assert cache_root() == tmp_path / expected


def test_an_entry_is_made_once_and_found_again():
    calls = []

    def write(folder: Path) -> None:
        calls.append(1)
        (folder / "data").write_text("hello")

    first = entry("pixels", "ab", 5, "five letters", write)
    assert entry("pixels", "ab", 5, "five letters", write) == first == find("pixels", "ab")
    assert len(calls) == 1
    assert (first / "data").read_text() == "hello"
    (one,) = entries()
    assert (one.kind, one.key, one.about) == ("pixels", "ab", "five letters")


def test_nothing_is_left_when_the_writer_fails(root):
    def write(folder: Path) -> None:
        (folder / "data").write_text("half")
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        entry("pixels", "ab", 5, "", write)
    assert find("pixels", "ab") is None
    assert [path.name for path in (root / "pixels").iterdir()] == ["ab.lock"]


def test_a_killed_writer_leaves_nothing_that_is_taken_for_whole_and_is_swept_away(root):
    code = """
import time
from resnet_tl.cache import entry
def write(folder):
    (folder / "data").write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(60)
entry("pixels", "ab", 5, "", write)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ})
    assert process.stdout.readline() == b"writing\n"
    assert find("pixels", "ab") is None
    clear()
    assert list((root / "pixels").glob(".ab.*")), "the one who still writes is left in peace"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert find("pixels", "ab") is None
    assert entries() == []
    assert keep("ab")
    assert sorted(path.name for path in (root / "pixels").iterdir()) == ["ab", "ab.lock"]


def test_processes_that_want_the_same_wait_for_the_first(root):
    code = """
import time
from resnet_tl.cache import entry
def write(folder):
    (folder / "data").write_text("once")
    time.sleep(0.5)
    print("wrote", flush=True)
entry("pixels", "ab", 5, "", write)
"""
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(3)]
    outputs = [process.communicate()[0] for process in processes]
    assert sorted(outputs) == [b"", b"", b"wrote\n"]


def test_the_least_recently_used_gives_way(monkeypatch):
    monkeypatch.setattr(cache, "LIMIT", 300)
    for number, key in enumerate(("aa", "bb", "cc")):
        os.utime(keep(key, 70) / "about.txt", (1000 + number, 1000 + number))
    find("pixels", "aa")
    assert keep("dd", 100)
    assert [one.key for one in entries()] == ["cc", "aa", "dd"]


def test_what_is_larger_than_the_limit_is_not_kept_and_removes_nothing(monkeypatch):
    keep("aa")
    monkeypatch.setenv("RESNET_TL_CACHE_LIMIT", "0.0000001")
    assert keep("bb", 200) is None
    assert [one.key for one in entries()] == ["aa"]


def test_a_limit_that_is_no_number_is_refused(monkeypatch):
    monkeypatch.setenv("RESNET_TL_CACHE_LIMIT", "lots")
    with pytest.raises(UserError, match="RESNET_TL_CACHE_LIMIT is 'lots'; it must be a number of GiB"):
        keep("aa")


def test_a_folder_that_cannot_be_written_keeps_nothing(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RESNET_TL_CACHE", str(tmp_path / "file" / "below"))
    assert keep("aa") is None
    assert find("pixels", "aa") is None


def test_what_was_half_removed_is_made_again(root):
    (keep("aa") / "about.txt").unlink()
    assert find("pixels", "aa") is None
    assert keep("aa") == find("pixels", "aa") == root / "pixels" / "aa"


def test_an_entry_is_readable_for_whoever_the_umask_allows():
    umask = os.umask(0o022)
    try:
        assert keep("aa").stat().st_mode & 0o777 == 0o755
    finally:
        os.umask(umask)


def test_a_disk_that_fails_keeps_nothing(caplog):
    def write(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with caplog.at_level("INFO", "resnet_tl"):
        assert entry("pixels", "aa", 5, "five letters", write) is None
    assert "five letters: not kept in" in caplog.text
    assert "No space left on device" in caplog.text
    assert entries() == []


def test_clear_removes_one_kind_or_all():
    keep("aa")
    keep("bb", kind="audits")
    assert clear("audits") >= 10
    assert [one.key for one in entries()] == ["aa"]
    assert clear() >= 10
    assert entries() == []


def test_to_use_an_entry_is_remembered():
    os.utime(keep("aa") / "about.txt", (1000, 1000))
    find("pixels", "aa")
    assert entries()[0].used > time.time() - 60
