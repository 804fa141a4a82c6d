import io
import os
import stat
import struct
import threading
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from resnet_tl.data.reading import archive as module
from resnet_tl.data.reading.archive import unpack, unpacked
from resnet_tl.errors import UserError


def make_zip(path, files, compression=zipfile.ZIP_STORED):
    """A zip of texts or bytes by their names (or ZipInfos); `path` may be a buffer."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def zipped(files) -> bytes:
    return make_zip(io.BytesIO(), files).getvalue()


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "into" / "here").mkdir(parents=True)
    return tmp_path / "into" / "here"


def test_files_come_out_as_they_went_in(tmp_path, folder):
    unpack(make_zip(tmp_path / "a.zip", {"train/cat/1.jpg": "one", "labels.csv": "path,label"}), folder)
    assert files_in(folder) == {"train/cat/1.jpg": b"one", "labels.csv": b"path,label"}


def test_only_what_lies_in_the_wanted_folder_comes(tmp_path, folder):
    names = ["top/cat/1.jpg", "topping/2.jpg", "3.jpg", "__MACOSX/top/._1.jpg"]
    unpack(make_zip(tmp_path / "a.zip", dict.fromkeys(names, "x")), folder, inside="top")
    assert list(files_in(folder)) == ["cat/1.jpg"]


def test_folders_that_are_written_down_and_what_macos_adds_are_left_out(tmp_path, folder):
    unpack(make_zip(tmp_path / "a.zip", {"cat/": "", "cat/1.jpg": "x", "__MACOSX/cat/._1.jpg": "x"}), folder)
    assert list(files_in(folder)) == ["cat/1.jpg"]


def test_backslashes_separate_folders_on_every_machine(tmp_path, folder):
    unpack(make_zip(tmp_path / "a.zip", {"train\\": "", "train\\cat\\1.jpg": "x"}), folder)
    assert list(files_in(folder)) == ["train/cat/1.jpg"]


@pytest.mark.parametrize("says_so", [True, False], ids=["flagged", "as macOS writes it"])
def test_names_may_be_in_any_script(tmp_path, folder, says_so):
    archive = make_zip(tmp_path / "a.zip", {"Löwenzahn/葉.jpg": "x"})
    if not says_so:
        archive.write_bytes(_with_flags(archive.read_bytes(), 0))
    unpack(archive, folder)
    assert list(files_in(folder)) == ["Löwenzahn/葉.jpg"]


def test_names_of_old_programs_are_read_as_those_wrote_them(tmp_path, folder):
    archive = make_zip(tmp_path / "a.zip", {"L_wenzahn.jpg": "x"})
    archive.write_bytes(archive.read_bytes().replace(b"L_wenzahn", "Löwenzahn".encode("cp437")))
    unpack(archive, folder)
    assert list(files_in(folder)) == ["Löwenzahn.jpg"]


def test_a_zip_in_the_zip_becomes_a_folder_as_in_dogs_vs_cats(tmp_path, folder):
    inner = {
        "train.zip": zipped({"train/cat.0.jpg": "cat", "train/dog.0.jpg": "dog"}),
        "test1.zip": zipped({"1.jpg": "first", "more.zip": "not looked into"}),
        "__MACOSX/._train.zip": "x",
        "sub/._x.zip": "no zip at all",
    }
    unpack(make_zip(tmp_path / "a.zip", inner), folder)
    assert sorted(files_in(folder)) == [
        "sub/._x.zip",
        "test1/1.jpg",
        "test1/more.zip",
        "train/cat.0.jpg",
        "train/dog.0.jpg",
    ]


# Hostile and broken archives

LINK = zipfile.ZipInfo("train/link.jpg")
LINK.external_attr = (stat.S_IFLNK | 0o777) << 16
PIPE = zipfile.ZipInfo("train/pipe.jpg")
PIPE.external_attr = (stat.S_IFIFO | 0o666) << 16


@pytest.mark.parametrize(
    "entry",
    [
        "../evil.jpg",
        "a/../../evil.jpg",
        "a/b/..",
        "/evil.jpg",
        "//server/share/evil.jpg",
        "..\\evil.jpg",
        "\\evil.jpg",
        "a\\..\\..\\evil.jpg",
        "C:/evil.jpg",
        "c:evil.jpg",
    ],
)
@pytest.mark.parametrize("is_inner", [False, True], ids=["outer", "inner"])
def test_an_entry_that_leads_out_of_the_folder_is_refused(tmp_path, folder, entry, is_inner):
    files = {"a/1.jpg": "x", entry: "evil"}
    archive = make_zip(tmp_path / "a.zip", {"train.zip": zipped(files)} if is_inner else files)
    with pytest.raises(UserError, match=r"a\.zip has the entry .* leads out of its folder"):
        unpack(archive, folder)
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("entry", [LINK, PIPE], ids=["link", "pipe"])
def test_links_and_other_odd_files_are_refused(tmp_path, folder, entry):
    with pytest.raises(UserError, match="is a link or not a regular file"):
        unpack(make_zip(tmp_path / "a.zip", {"a/1.jpg": "x", entry: "/etc/passwd"}), folder)
    assert files_in(folder) == {}


def test_a_bomb_is_refused_before_anything_is_written(tmp_path, folder):
    archive = make_zip(tmp_path / "a.zip", {"a/1.jpg": bytes(120_000_000)}, zipfile.ZIP_DEFLATED)
    assert archive.stat().st_size < 200_000
    with pytest.raises(UserError, match=r"a\.zip unpacks to more than 100 times its size"):
        unpack(archive, folder)
    assert files_in(folder) == {}


def test_a_bomb_within_a_zip_is_refused(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(module, "ALLOWANCE", 1_000_000)
    inner = make_zip(io.BytesIO(), {"1.jpg": bytes(3_000_000)}, zipfile.ZIP_DEFLATED).getvalue()
    with pytest.raises(UserError, match="unpacks to more than"):
        unpack(make_zip(tmp_path / "a.zip", {"train.zip": inner}), folder)
    assert list(files_in(folder)) == ["train.zip"]


def test_an_archive_that_lies_about_its_size_writes_no_more_than_it_says(tmp_path, folder):
    archive = make_zip(tmp_path / "a.zip", {"1.jpg": bytes(500_000)}, zipfile.ZIP_DEFLATED)
    archive.write_bytes(archive.read_bytes().replace(struct.pack("<I", 500_000), struct.pack("<I", 10)))
    with pytest.raises(UserError, match="no sound zip"):
        unpack(archive, folder)
    assert all(len(content) <= 10 for content in files_in(folder).values())


def test_what_the_disk_cannot_hold_is_refused(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"needs 0\.0 GB where .*into has 0\.0 GB free; make room"):
        unpack(make_zip(tmp_path / "a.zip", {"1.jpg": bytes(2000)}), folder)


def _with_flags(archive: bytes, flags: int) -> bytes:
    """The archive of one entry with other flags, in its local header and in the table of contents."""
    content, table = bytearray(archive), archive.rindex(b"PK\1\2")
    struct.pack_into("<H", content, 6, flags)
    struct.pack_into("<H", content, table + 8, flags)
    return bytes(content)


def test_an_encrypted_archive_is_refused(tmp_path, folder):
    archive = make_zip(tmp_path / "a.zip", {"1.jpg": "x" * 20})
    archive.write_bytes(_with_flags(archive.read_bytes(), 1))
    with pytest.raises(UserError, match=r"a\.zip is encrypted; unpack it with its password"):
        unpack(archive, folder)


def test_an_unknown_method_of_compression_is_refused(tmp_path, folder):
    archive = make_zip(tmp_path / "a.zip", {"1.jpg": "x"})
    content = bytearray(archive.read_bytes())
    struct.pack_into("<H", content, 8, 9)
    struct.pack_into("<H", content, content.rindex(b"PK\1\2") + 10, 9)
    archive.write_bytes(content)
    with pytest.raises(UserError, match=r"cannot be unpacked here .*unpack it yourself"):
        unpack(archive, folder)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("damage", ["truncated", "headless", "changed"])
def test_a_damaged_archive_is_one_sentence(tmp_path, folder, method, damage):
    archive = make_zip(tmp_path / "a.zip", {f"{n}.jpg": os.urandom(3000) for n in range(3)}, method)
    content = archive.read_bytes()
    changed = content[:1000] + b"somewhere else" * 9 + content[1126:]
    archive.write_bytes({"truncated": content[:-2000], "headless": content[2000:], "changed": changed}[damage])
    with pytest.raises(UserError, match=r"a\.zip is no sound zip file .*; copy or download it again\.$"):
        unpack(archive, folder)


@pytest.mark.parametrize("content", [b"", b"<html>please log in</html>", b"PK\5\6", b"Rar!\x1a\x07\x00"])
def test_what_is_no_zip_is_one_sentence(tmp_path, folder, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.zip is no sound zip file"):
        unpack(tmp_path / "a.zip", folder)


@pytest.mark.parametrize("files", [{}, {"cat/": ""}, {"__MACOSX/1.jpg": "x"}])
def test_an_archive_without_files_is_refused(tmp_path, folder, files):
    with pytest.raises(UserError, match=r"a\.zip holds no files"):
        unpack(make_zip(tmp_path / "a.zip", files), folder)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_for_one_file_are_refused(tmp_path, folder):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("1.jpg", "one")
        archive.writestr("1.jpg", "two")
    with pytest.raises(UserError, match=r"two entries for '1\.jpg'"):
        unpack(tmp_path / "a.zip", folder)


def test_a_file_where_a_folder_should_be_is_refused(tmp_path, folder):
    with pytest.raises(UserError, match="cannot be unpacked: "):
        unpack(make_zip(tmp_path / "a.zip", {"cat": "x", "cat/1.jpg": "x"}), folder)


# In the cache


def test_an_archive_is_unpacked_once(tmp_path):
    archive = make_zip(tmp_path / "photos.zip", {"cat/1.jpg": "x"})
    first = unpacked(archive, tmp_path / "cache")
    assert first.parent == tmp_path / "cache"
    assert first.name.startswith("photos-")
    (first / "cat" / "1.jpg").write_text("seen")
    assert unpacked(archive, tmp_path / "cache") == first
    assert files_in(first) == {"cat/1.jpg": b"seen"}


def test_a_touched_archive_is_known_again_and_a_changed_one_is_not(tmp_path):
    archive = make_zip(tmp_path / "photos.zip", {"cat/1.jpg": "one"})
    first = unpacked(archive, tmp_path / "cache")
    os.utime(archive, (1, 1))
    assert unpacked(archive, tmp_path / "cache") == first
    status = archive.stat()
    make_zip(archive, {"cat/1.jpg": "two"})
    os.utime(archive, (1, 1))
    assert archive.stat().st_size == status.st_size
    second = unpacked(archive, tmp_path / "cache")
    assert files_in(second) == {"cat/1.jpg": b"two"}
    assert second != first


def test_a_refused_archive_leaves_nothing_that_is_taken_for_whole(tmp_path):
    archive = make_zip(tmp_path / "photos.zip", {"cat/1.jpg": "x" * 1000, "cat/2.jpg": "y" * 1000})
    sound = archive.read_bytes()
    archive.write_bytes(sound.replace(b"y" * 1000, b"z" * 1000))
    for _ in range(2):
        with pytest.raises(UserError, match="no sound zip"):
            unpacked(archive, tmp_path / "cache")
        assert files_in(tmp_path / "cache").keys() <= {path.name for path in (tmp_path / "cache").glob(".*.lock")}
    archive.write_bytes(sound)
    assert len(files_in(unpacked(archive, tmp_path / "cache"))) == 2


def test_an_interrupt_midway_leaves_nothing_that_is_taken_for_whole(tmp_path, monkeypatch):
    archive = make_zip(tmp_path / "photos.zip", {f"cat/{number}.jpg": "x" for number in range(9)})
    read, calls = zipfile.ZipExtFile.read, []

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return read(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipExtFile, "read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            unpacked(archive, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    assert len(files_in(unpacked(archive, tmp_path / "cache"))) == 9


def test_what_a_killed_process_left_is_not_taken_for_whole(tmp_path):
    """A process that is killed cleans up nothing: its temporary folder stays, and its lock is free."""
    archive = make_zip(tmp_path / "photos.zip", {"cat/1.jpg": "x", "cat/2.jpg": "y"})
    name = unpacked(archive, tmp_path / "elsewhere").name
    (tmp_path / "cache" / f".{name}.abcd" / "cat").mkdir(parents=True)
    (tmp_path / "cache" / f".{name}.lock").touch()
    assert len(files_in(unpacked(archive, tmp_path / "cache"))) == 2


def test_those_who_come_together_unpack_once(tmp_path, monkeypatch):
    archive = make_zip(tmp_path / "photos.zip", {"cat/1.jpg": "x"})
    calls, found = [], []

    def slow(*arguments):
        calls.append(arguments)
        time.sleep(0.2)
        unpack(*arguments)

    monkeypatch.setattr(module, "unpack", slow)
    threads = [threading.Thread(target=lambda: found.append(unpacked(archive, tmp_path / "c"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert len(found) == 4
    assert len(set(found)) == 1


def test_a_very_long_name_fits(tmp_path):
    archive = make_zip(tmp_path / f"{'photos' * 40}.zip", {"cat/1.jpg": "x"})
    assert len(unpacked(archive, tmp_path / "cache").name) < 60


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UserError, match=r"photos\.zip cannot be unpacked: "):
        unpacked(make_zip(tmp_path / "photos.zip", {"cat/1.jpg": "x"}), tmp_path / "cache")
