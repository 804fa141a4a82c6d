"""Zip files that mean harm; what tests/data/test_archive.py shows of plain ones is not repeated here."""

from __future__ import annotations

import io
import stat
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest

from resnet_tl.data.reading.archive import ALLOWANCE, unpack
from resnet_tl.data.reading.layouts import read_images
from resnet_tl.errors import UserError

WAYS_OUT = [
    "../evil.jpg", "..\\evil.jpg", "a/../../evil.jpg", "a/b/../../../evil.jpg", "a\\..\\..\\evil.jpg", "/evil.jpg",
    "//evil.jpg", "\\evil.jpg", "\\\\host\\share\\evil.jpg", "//host/share/evil.jpg", "C:evil.jpg", "C:/evil.jpg",
    "C:\\evil.jpg", "c:\\..\\evil.jpg", "\\\\?\\C:\\evil.jpg", "./../evil.jpg", "a/./../../evil.jpg", "..", "../",
    "/etc/passwd", "a/..", "....//../evil.jpg", "a/b/c/../../../../evil.jpg", "/../evil.jpg", "..//evil.jpg",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "outer" / "inner"
    made.mkdir(parents=True)
    return made


def zipped(path: Path, entries: list[tuple[str | zipfile.ZipInfo, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def everything_below(path: Path) -> set[str]:
    return {file.relative_to(path).as_posix() for file in path.rglob("*")}


@pytest.mark.parametrize("name", WAYS_OUT)
def test_no_entry_leads_out(name: str, tmp_path: Path, folder: Path) -> None:
    archive = zipped(tmp_path / "a.zip", [("ok.jpg", b"x"), (zipfile.ZipInfo(name), b"evil")])
    before = everything_below(tmp_path)
    with pytest.raises(UserError, match=r"was refused|no sound zip") as caught:
        unpack(archive, folder)
    assert "\n" not in str(caught.value)
    assert everything_below(tmp_path) == before


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_no_links_no_devices(kind: int, tmp_path: Path, folder: Path) -> None:
    entry = zipfile.ZipInfo("a/link.jpg")
    entry.external_attr = (kind | 0o777) << 16
    with pytest.raises(UserError, match="is a link or not a regular file"):
        unpack(zipped(tmp_path / "a.zip", [(entry, b"/etc/passwd")]), folder)
    assert everything_below(folder) == set()


def test_a_link_and_a_file_through_it(tmp_path: Path, folder: Path) -> None:
    link = zipfile.ZipInfo("a")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(UserError, match="is a link"):
        unpack(zipped(tmp_path / "a.zip", [(link, str(tmp_path).encode()), ("a/evil.jpg", b"x")]), folder)
    assert everything_below(folder) == set()


def test_control_characters_in_names_do_not_reach_the_terminal(tmp_path: Path, folder: Path) -> None:
    for name in ("../\x1b[2J.jpg", "../a\nresnet-tl: all is well\n.jpg", "../\u202egpj.exe"):
        with pytest.raises(UserError) as caught:
            unpack(zipped(tmp_path / "a.zip", [(zipfile.ZipInfo(name), b"x")]), folder)
        assert str(caught.value).isprintable()


def overlapping(copies: int, kernel: bytes) -> bytes:
    """Many entries of the directory that all lead to the same packed bytes (Fifield 2019, A better zip bomb)."""
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = packed.compress(kernel) + packed.flush()
    crc, name = zlib.crc32(kernel), b"000.bmp"
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 0, crc, len(data), len(kernel), len(name), 0) + name
    directory = b"".join(
        struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 8, 0, 0, crc, len(data), len(kernel), 7, 0, 0, 0, 0, 0, 0)
        + b"%03d.bmp" % number
        for number in range(copies)
    )
    body = local + data
    return body + directory + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, copies, copies, len(directory), len(body), 0)


def test_overlapping_entries(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "a.zip").write_bytes(overlapping(900, bytes(1_000_000)))
    with pytest.raises(UserError, match=r"more than 100 times its size|no sound zip"):
        unpack(tmp_path / "a.zip", folder)
    assert everything_below(folder) == set()


def test_bombs_within_bombs_share_one_budget(tmp_path: Path, folder: Path) -> None:
    """Ten archives in an archive, each within the allowance by itself; and those in them stay packed."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.bmp", bytes(ALLOWANCE // 4))
    with pytest.raises(UserError, match="more than 100 times its size"):
        unpack(zipped(tmp_path / "a.zip", [(f"{number}.zip", inner.getvalue()) for number in range(10)]), folder)
    content = inner.getvalue()
    for depth in range(5):
        content = zipped(tmp_path / f"{depth}.zip", [("next.zip", content)]).read_bytes()
    (tmp_path / "deep").mkdir()
    unpack(tmp_path / "4.zip", tmp_path / "deep")
    assert everything_below(tmp_path / "deep") == {"next", "next/next.zip"}  # one level, as Kaggle packs


def test_names_that_differ_in_case_alone_stay_apart_or_are_refused(tmp_path: Path, folder: Path) -> None:
    archive = zipped(tmp_path / "a.zip", [("Cat/1.jpg", b"upper"), ("cat/1.jpg", b"lower"), ("cat/1.JPG", b"third")])
    try:
        unpack(archive, folder)
    except UserError as error:  # a file system without case
        assert "two entries" in str(error)
    else:
        assert (folder / "Cat" / "1.jpg").read_bytes() == b"upper"
        assert (folder / "cat" / "1.jpg").read_bytes() == b"lower"


def test_a_name_of_65_kilobytes(tmp_path: Path, folder: Path) -> None:
    for name in ("a" * 65_000 + ".jpg", "d/" * 3_000 + "x.jpg", "a" * 256 + ".jpg"):
        with pytest.raises(UserError, match="cannot be unpacked"):
            unpack(zipped(tmp_path / "a.zip", [(name, b"x")]), folder / str(len(name)))


@pytest.mark.slow
def test_seventy_thousand_entries(tmp_path: Path, folder: Path) -> None:
    """More than the 65,535 of the old format."""
    unpack(zipped(tmp_path / "a.zip", [(f"{n % 7}/{n}.jpg", b"") for n in range(70_000)]), folder)
    assert sum(len(list(part.iterdir())) for part in folder.iterdir()) == 70_000


def test_an_archive_damaged_anywhere_is_one_sentence_and_leaves_nothing_outside(tmp_path: Path) -> None:
    """A bit of each third byte turned over, and every length of what may be left of it."""
    whole = zipped(tmp_path / "a.zip", [("cat/1.jpg", bytes(300)), ("dog/2.jpg", b"photo" * 50)]).read_bytes()
    variants = [whole[:length] for length in range(len(whole))]
    for place in range(0, len(whole), 3):
        for bit in (0, 5, 7):
            variants.append(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
    for number, content in enumerate(variants):
        (tmp_path / "bad.zip").write_bytes(content)
        target = tmp_path / "into" / str(number)
        target.mkdir(parents=True)
        try:
            unpack(tmp_path / "bad.zip", target)
        except UserError as error:
            assert "\n" not in str(error)
    assert {path.name for path in tmp_path.iterdir()} == {"a.zip", "bad.zip", "into"}
    assert len(variants) > 400


def test_a_directory_of_lies_takes_little_memory(tmp_path: Path, folder: Path) -> None:
    """An end record that promises 4 GB of directory in a file of a hundred bytes."""
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFE, 0xFFFE, 0xFFFFFFF0, 0, 0)
    (tmp_path / "a.zip").write_bytes(b"PK\3\4" + bytes(100) + end)
    tracemalloc.start()
    with pytest.raises(UserError, match="no sound zip"):
        unpack(tmp_path / "a.zip", folder)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_a_data_set_in_a_hostile_zip_is_refused_by_the_command(tmp_path: Path, command, is_one_sentence) -> None:
    for name in ("../evil.jpg", "cat/\x1b[31m.jpg", "cat/a\nb.jpg"):
        archive = zipped(tmp_path / "a.zip", [(zipfile.ZipInfo(name), b"x"), ("dog/1.jpg", b"x")])
        done = command("data", "show", archive, "--output", tmp_path / "sheet.png")
        assert done.code == 2
        *said, refusal = done.err.splitlines()  # one that is harmless until its names are read is unpacked first
        assert is_one_sentence(refusal), done.err
        assert all(map(str.isprintable, (*said, refusal)))
        archive.unlink()


def test_a_zip_that_is_a_pipe_or_a_folder_does_not_hang(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.zip")
    with pytest.raises(UserError):
        read_images(tmp_path / "pipe.zip")
