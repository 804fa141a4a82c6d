"""Files that are called images and are not, folders that never end, and what is done to them meanwhile."""

from __future__ import annotations

import io
import os
import resource
import shutil
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_tl.data.content_hashes import hashes_and_headers
from resnet_tl.data.index import ImageIndex
from resnet_tl.data.pixels.decode import MAX_PIXELS, BadImage, decode, read_file
from resnet_tl.data.quality.audit import Audit, audit_images
from resnet_tl.data.reading.layouts import read_images, unlabelled
from resnet_tl.data.reading.options import Reading
from resnet_tl.data.reading.tables.given_tables import from_file
from resnet_tl.errors import UserError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="pipes, links and limits are those of POSIX")


def audited(index: ImageIndex, channels: int = 3) -> Audit:
    return audit_images(index, hashes_and_headers(index)[0], channels)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *extra: bytes, data: bytes = b"", depth: int = 8, colour: int = 2) -> bytes:
    header = chunk(b"IHDR", struct.pack(">2I5B", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def saved(kind: str, **options) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def tiff_of(width: int, height: int) -> bytes:
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
            (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, width * height & 0xFFFFFFFF)]  # fmt: skip
    body = b"".join(struct.pack("<2H2I", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + body + bytes(4)


def bmp_of(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def gif_of(width: int, height: int, frames: int = 1) -> bytes:
    frame = b"," + struct.pack("<4HB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\x00"
    return b"GIF89a" + struct.pack("<2H3B", width, height, 0x80, 0, 0) + bytes(6) + frame * frames + b";"


def webp_of(width: int, height: int, frames: int = 0) -> bytes:
    size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    small = saved("WEBP")[12:]
    frame = b"ANMF" + struct.pack("<I", 16 + len(small)) + bytes(6) + struct.pack("<I", 29)[:3]
    frame += struct.pack("<I", 39)[:3] + bytes(4) + small
    body = b"VP8X" + struct.pack("<I", 10) + (b"\2" if frames else b"\0") + bytes(3) + size
    body += b"ANIM" + struct.pack("<IIH", 6, 0, 0) + frame * frames if frames else small
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


BOMBS: dict[str, Callable[[], bytes]] = {
    "PNG of 50,000 x 50,000": lambda: png(50_000, 50_000),
    "PNG of 2^31 - 1 squared": lambda: png(2**31 - 1, 2**31 - 1),
    "PNG of 2^32 - 1 by 1": lambda: png(2**32 - 1, 1),
    "16-bit PNG of 16,000 x 16,000": lambda: png(16_000, 16_000, depth=16, colour=6),
    "TIFF of 60,000 x 60,000": lambda: tiff_of(60_000, 60_000),
    "TIFF of 2^32 - 1 squared": lambda: tiff_of(2**32 - 1, 2**32 - 1),
    "BMP of 30,000 x 30,000": lambda: bmp_of(30_000, 30_000),
    "BMP of 2^31 - 1, upside down": lambda: bmp_of(2**31 - 1, -(2**31)),
    "GIF of 65,535 x 65,535": lambda: gif_of(65_535, 65_535),
    "GIF of many frames of that size": lambda: gif_of(65_535, 65_535, 1000),
    "WebP of 16,383 x 16,383": lambda: webp_of(16_383, 16_383, 3),
    "WebP of 2^24 squared": lambda: webp_of(2**24, 2**24),
    "JPEG of 65,500 x 65,500": lambda: saved("JPEG").replace(
        struct.pack(">2H", 40, 30), struct.pack(">2H", 65_500, 65_500)
    ),
}


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_that_claims_to_be_huge(name: str) -> None:
    content, before = BOMBS[name](), peak_megabytes()
    assert len(content) < 100_000
    with pytest.raises(BadImage) as caught:
        decode(content)
    assert "\n" not in str(caught.value)
    assert peak_megabytes() - before < 100


def test_text_and_profiles_that_unpack_to_gigabytes() -> None:
    """A PNG is read, or refused, without unpacking what nobody asked for."""
    bomb = zlib.compress(bytes(200_000_000), 9)
    rows = bytes(3 * (1 + 3 * 3))
    before = peak_megabytes()
    for extra in (
        chunk(b"zTXt", b"Comment\0\0" + bomb),
        chunk(b"iTXt", b"Comment\0\1\0\0\0" + bomb),
        chunk(b"iCCP", b"profile\0\0" + bomb),
        chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(bytes(900_000), 9)) * 200,
        chunk(b"tEXt", b"Comment\0" + bytes(10_000_000)),
        chunk(b"eXIf", b"II*\0" + struct.pack("<IH", 8, 65_535) + bytes(1000)),
    ):
        try:
            assert decode(png(3, 3, extra, data=rows)).shape == (3, 3, 3)
        except BadImage as error:
            assert "\n" not in str(error)
    assert peak_megabytes() - before < 300


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_only_the_first_of_many_frames_is_decoded(kind: str) -> None:
    frames = [Image.new("RGB", (300, 300), (number, 0, 0)) for number in range(60)]
    buffer = io.BytesIO()
    frames[7].save(buffer, kind, save_all=True, append_images=frames, **({"lossless": True} if kind == "WEBP" else {}))
    start = time.perf_counter()
    assert decode(buffer.getvalue())[0, 0].tolist() == [7, 0, 0]
    assert time.perf_counter() - start < 2


@pytest.mark.slow
def test_the_largest_images_are_decoded_one_at_a_time(tmp_path: Path) -> None:
    """Eight threads, eight files of a few kilobytes that are 240 megapixels each: one of them in memory at a time."""
    side = int((MAX_PIXELS * 0.96) ** 0.5)
    Image.new("1", (side, side)).save(tmp_path / "0.png")
    code = (
        "import resource, sys; from concurrent.futures import ThreadPoolExecutor\n"
        "from resnet_tl.data.pixels.decode import decode\n"
        "list(ThreadPoolExecutor(8).map(lambda _: decode(sys.argv[1]).shape, range(8)))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 ** 2)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "0.png"], capture_output=True, text=True, check=True)
    # The results of `decode` are held by the list: 8 x 0.7 GB; on top of them one image at work, not eight.
    assert float(done.stdout) < 8 * 0.75 + 3


def impostors(folder: Path) -> dict[str, str]:
    """Things that are called images: name -> what is said of them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "page.jpg").write_text("<!DOCTYPE html><script>alert(1)</script>")
    (folder / "drawing.jpg").write_text('<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>')
    (folder / "text.png").write_text("hello")
    (folder / "script.gif").write_text("#!/bin/sh\necho")
    (folder / "postscript.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    (folder / "xbm.bmp").write_text("#define a_width 4\n#define a_height 4\nstatic char a_bits[] = {0};")
    (folder / "zeros.tiff").write_bytes(bytes(10_000))
    os.mkfifo(folder / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(folder / "s.jpg"))
    os.symlink("/dev/zero", folder / "endless.jpg")
    os.symlink("/dev/stdin", folder / "stdin.jpg")
    os.symlink("/etc/passwd", folder / "passwd.jpg")
    os.symlink("missing", folder / "dangling.jpg")
    os.symlink("round.jpg", folder / "round.jpg")
    with (folder / "sparse.jpg").open("wb") as file:
        file.write(saved("JPEG"))
        file.truncate(2_000_000_000)
    return {
        "empty.jpg": "is empty", "page.jpg": "HTML", "drawing.jpg": "an SVG", "text.png": "is not an image",
        "script.gif": "is not an image", "postscript.jpg": "is not an image", "xbm.bmp": "is not an image",
        "zeros.tiff": "is not an image", "pipe.jpg": "not a regular file", "s.jpg": "cannot be read",
        "endless.jpg": "not a regular file", "stdin.jpg": "", "passwd.jpg": "is not an image",
        "dangling.jpg": "No such file", "round.jpg": "cannot be read", "sparse.jpg": "2,000 MB; the limit is",
    }  # fmt: skip


def test_what_is_no_image_is_told_in_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    reasons = impostors(Path("x"))
    start, before = time.perf_counter(), peak_megabytes()
    index = unlabelled(tmp_path / "x")
    assert {Path(path).name for path in index.ids()} == reasons.keys()
    _, sizes, _ = hashes_and_headers(index)
    assert not sizes.any()
    bad = audited(index).bad
    assert {index.id(row) for row in bad} == reasons.keys()
    for row, reason in bad.items():
        assert reasons[index.id(row)] in reason, index.id(row)
        assert "root:" not in reason  # nothing of what a file holds is told
    assert time.perf_counter() - start < 10
    assert peak_megabytes() - before < 200


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_file_cut_off_anywhere(kind: str) -> None:
    content = saved(kind)
    for length in range(0, len(content), max(1, len(content) // 150)):
        try:
            decode(content[:length])
        except BadImage as error:
            assert "\n" not in str(error)


@pytest.mark.skipif(not hasattr(os, "setuid") or os.getuid() != 0, reason="root reads everything; else see below")
def test_what_may_not_be_read_is_named_also_when_the_tests_run_as_root(blobs: Path) -> None:
    folder = Path("/tmp") / f"resnet-tl-{os.getpid()}"
    shutil.copytree(blobs, folder)
    try:
        (folder / "train" / "red" / "0.png").chmod(0)
        (folder / "train" / "green").chmod(0)
        reader, writer = os.pipe()
        if not (child := os.fork()):
            os.setuid(65534)
            for work, path in ((decode, folder / "train" / "red" / "0.png"), (read_images, folder)):
                try:
                    work(path)
                except UserError as error:
                    os.write(writer, f"{error}\n".encode())
            os._exit(0)
        os.close(writer)
        os.waitpid(child, 0)
        with os.fdopen(reader) as told:
            lines = told.read().splitlines()
        assert len(lines) == 2
        assert all("Permission denied" in line for line in lines)
    finally:
        (folder / "train" / "green").chmod(0o755)
        shutil.rmtree(folder)


# Folders and tables


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def test_links_that_lead_out_are_followed_and_loops_end(tmp_path: Path) -> None:
    """Photos on another disk are often linked to; docs/security.md says so."""
    touch(tmp_path, "far/cats/1.jpg", "data/dog/1.jpg")
    os.symlink(tmp_path / "far" / "cats", tmp_path / "data" / "cat")
    os.symlink(tmp_path / "data", tmp_path / "data" / "dog" / "loop")
    os.symlink(tmp_path / "data" / "cat", tmp_path / "far" / "cats" / "loop")
    index = read_images(tmp_path / "data")
    assert {"cat/1.jpg", "dog/1.jpg"} <= set(index.ids())
    assert index.classes == ("cat", "dog")


def test_a_folder_of_many_levels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(150):
        os.mkdir("d")
        os.chdir("d")
    touch(Path(), "1.jpg")
    os.chdir(tmp_path)
    with pytest.raises(UserError, match="more than 100 folders deep"):
        read_images(tmp_path)


@pytest.mark.parametrize(
    "path",
    ["../" * 40 + "etc/passwd", "/etc/passwd", "/dev/zero", "/dev/stdin", "/proc/self/environ", "/proc/self/mem"],
)
def test_a_table_may_name_any_file_but_nothing_of_it_is_told(path: str, tmp_path: Path) -> None:
    """Absolute paths and `..` are allowed: the user gave the table. What is no image stays what it is."""
    touch(tmp_path, "a.jpg")
    (tmp_path / "list.csv").write_text(f"path,label\na.jpg,cat\n{path},dog\n")
    try:
        index = from_file(tmp_path / "list.csv", Reading(), learns=True)
    except UserError as error:
        assert "do not exist" in str(error) or "does not exist" in str(error) or "that does not" in str(error)
        return
    bad = audited(index).bad
    assert len(bad) == 2
    assert all("root:" not in reason and "PATH=" not in reason for reason in bad.values())


@pytest.mark.parametrize(
    "content",
    [b"path,label\n" + b"a" * 5_000 + b".jpg,cat\n", b"path,label\na\0b.jpg,cat\n", b"path,label\n\n\n", b"path\n",
     b'path,label\n"a.jpg,cat\n', b"path,label\na.jpg,cat,dog,bird\n", b"\xff\xfep\0a\0", b"", b"\0" * 100,
     b"path,path,label\na,b,c\n", b"path,label\n../../../../x.jpg,cat\n", b"path,label\n" + b"," * 10_000,
     b"path,label\na.jpg,\x1b[2J\n", b"label,path\ncat,.\n", b"path,label\n,\n", b'path,label\na.jpg,"cat\ndog"\n'],
)  # fmt: skip
def test_tables_that_make_no_sense(content: bytes, tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "list.csv").write_bytes(content)
    for read in (lambda: read_images(tmp_path / "list.csv"), lambda: audit_all(unlabelled(tmp_path / "list.csv"))):
        with pytest.raises(UserError) as caught:
            read()
        assert "\x1b" not in str(caught.value)


def audit_all(index) -> None:
    """Bad images are said one by one; here as an error."""
    raise UserError(str(audited(index).bad))


# A folder that changes meanwhile


def test_files_that_vanish_change_or_come_between_two_looks(blobs: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("RESNET_TL_CACHE", str(tmp_path / "cache"))  # the blobs were checked before
    folder = shutil.copytree(blobs, tmp_path / "data")
    index = read_images(folder)
    contents = hashes_and_headers(index)[0]
    index.path(0).unlink()
    shutil.copy(index.path(5), index.path(1))
    touch(folder, "train/red/new.png")
    with pytest.raises(UserError, match="has changed while the images were read"):
        audit_images(index, contents)
    shutil.rmtree(folder / "train")
    assert "No such file" in audited(index).bad[0]


def test_a_file_that_vanishes_during_a_fit_ends_it_in_one_sentence(blobs: Path, tmp_path: Path, fit) -> None:
    """After the audit, before the second epoch; nothing is kept, so that each epoch reads the files."""
    import lightning as L

    folder = shutil.copytree(blobs, tmp_path / "data")

    class Vandal(L.Callback):
        def on_train_epoch_end(self, *_) -> None:
            shutil.rmtree(folder / "train", ignore_errors=True)

    data = {"root": folder, "pixel_cache": "off", "augmentation": "light"}
    with pytest.raises(UserError, match="cannot be read: No such file"):
        fit(3, data=data, trainer={"callbacks": [Vandal()]})


def test_a_file_is_not_read_beyond_the_limit_even_while_it_grows(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x" * 1000)
    assert len(read_file(tmp_path / "a.jpg")) == 1000


# A million files


def test_a_folder_of_many_files_is_read_in_little_time_and_memory(tmp_path: Path) -> None:
    """4,000 empty files; the slow test has 200,000."""
    seconds, megabytes = index_of_many(tmp_path, 4_000)
    assert seconds < 5
    assert megabytes < 30


@pytest.mark.slow
def test_a_folder_of_very_many_files(tmp_path: Path) -> None:
    seconds, megabytes = index_of_many(tmp_path, 200_000)
    print(f"200,000 files: {seconds:.1f} s, {megabytes:.0f} MB")
    assert seconds < 30
    assert megabytes < 500


def index_of_many(root: Path, count: int) -> tuple[float, float]:
    """Seconds and further megabytes that it takes to index and split `count` files in ten classes."""
    for label in range(10):
        folder = root / "data" / f"class {label}"
        folder.mkdir(parents=True)
        for number in range(count // 10):
            os.close(os.open(folder / f"photo {number}.jpg", os.O_CREAT | os.O_WRONLY))
    code = (
        "import resource, sys, time; import pandas, numpy\n"
        "from resnet_tl.data.reading.layouts import read_images; from resnet_tl.data.splits import assign_splits\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "before, start = peak(), time.perf_counter()\n"
        "index = assign_splits(read_images(sys.argv[1]))\n"
        "print(time.perf_counter() - start, peak() - before, len(index))"
    )
    done = subprocess.run([sys.executable, "-c", code, root / "data"], capture_output=True, text=True, check=True)
    seconds, megabytes, number = map(float, done.stdout.split())
    assert number == count
    return seconds, megabytes
