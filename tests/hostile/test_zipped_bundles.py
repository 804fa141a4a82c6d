"""Zips that say that they are model bundles, and would do harm or take the memory."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from resnet_tl.bundle import Bundle
from resnet_tl.bundle_zip import ALLOWANCE, is_bundle_zip, members, read_member
from resnet_tl.errors import UserError

MODEL, WEIGHTS = ("model.json", b'{"format": 1}'), ("weights.safetensors", b"0" * 200)


def zipped(*entries: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as made:
        for name, data in entries:
            made.writestr(name, data)
    return content.getvalue()


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return info


def encrypted() -> bytes:
    content = bytearray(zipped(MODEL, WEIGHTS))
    for place in (content.find(b"PK\x03\x04") + 6, content.find(b"PK\x01\x02") + 8):
        content[place] |= 1
    return bytes(content)


def with_links() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as made:
        made.writestr(*MODEL)
        made.writestr(link("weights.safetensors"), "/etc/passwd")
    return content.getvalue()


HOSTILE: dict[str, bytes | Callable[[], bytes]] = {
    "a path that climbs out": zipped(MODEL, WEIGHTS, ("../../evil.txt", b"x")),
    "an absolute path": zipped(MODEL, WEIGHTS, ("/etc/evil", b"x")),
    "a path of Windows": zipped(MODEL, WEIGHTS, ("C:\\evil", b"x")),
    "code beside the model": zipped(MODEL, WEIGHTS, ("model.py", b"raise SystemExit")),
    "a pickle beside the model": zipped(MODEL, WEIGHTS, ("data.pkl", b"cos\nsystem\n(S'true'\ntR.")),
    "a link for weights": with_links(),
    "an encrypted entry": encrypted(),
    "the same name by two slashes": zipped(
        ("m/model.json", b"{}"), ("m\\model.json", b"{}"), ("m/weights.safetensors", b"")
    ),
    "two models": zipped(("a/model.json", b"{}"), ("a/weights.safetensors", b""), ("b/model.json", b"{}")),
    "a bomb": lambda: zipped(
        MODEL, ("weights.safetensors", b"\0" * (ALLOWANCE + 2_000_000)), compression=zipfile.ZIP_DEFLATED
    ),
    "a model.json of 70 MB": lambda: zipped(
        ("model.json", b" " * 70_000_000), WEIGHTS, compression=zipfile.ZIP_DEFLATED
    ),
    "a model.json that is none": zipped(("model.json", b"\xff\xfe"), WEIGHTS),
    "a list for model.json": zipped(("model.json", b"[1]"), WEIGHTS),
    "an unknown compression": zipped(MODEL, WEIGHTS).replace(
        b"PK\x03\x04\x14\0\0\0\0\0", b"PK\x03\x04\x14\0\0\0\x63\0"
    ),
}


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_unpacks_without_bounds_is_not_read(tmp_path: Path, method: int):
    """A bomb that promises 1 kB: of these methods `zipfile` unpacks all of it before it looks."""
    content = zipped(MODEL, ("weights.safetensors", b"\0" * 1_000_000), compression=method)
    sizes = [size.to_bytes(4, "little") for size in (1_000_000, 1000)]
    (tmp_path / "model.zip").write_bytes(content.replace(*sizes))

    with pytest.raises(UserError, match=r"model.zip is compressed by another method than deflate"):
        members(tmp_path / "model.zip")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in the file system")
def test_a_pipe_is_not_read(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")  # to open it would wait for a writer

    assert not is_bundle_zip(tmp_path / "pipe")


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_zip_ends_in_one_sentence_and_writes_nothing(tmp_path: Path, kind: str):
    file = tmp_path / "model.zip"
    content = HOSTILE[kind]
    file.write_bytes(content() if callable(content) else content)

    with pytest.raises(UserError) as caught:
        Bundle.open(file).load_network()
    assert "\n" not in str(caught.value)
    assert "model.zip" in str(caught.value)
    assert list(tmp_path.iterdir()) == [file]


def test_a_zip_cut_anywhere_is_refused_or_no_model(tmp_path: Path):
    whole, file = zipped(MODEL, WEIGHTS), tmp_path / "model.zip"
    for end in range(0, len(whole), 7):
        file.write_bytes(whole[:end])
        assert not is_bundle_zip(file)


def test_a_zip_with_any_one_byte_changed_is_read_or_refused(tmp_path: Path):
    whole, file = zipped(MODEL, WEIGHTS), tmp_path / "model.zip"
    refused = 0
    for place in range(0, len(whole), 3):
        changed = bytearray(whole)
        changed[place] ^= 0x55
        file.write_bytes(changed)
        if not is_bundle_zip(file):
            continue
        try:
            assert [len(read_member(file, name)) for name in members(file)]
        except UserError:
            refused += 1
    assert refused
