from __future__ import annotations

from pathlib import Path

import pytest

from resnet_tl import cache
from resnet_tl.cli.cache import in_words


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with 2000 bytes of pixels and 700 of activations."""
    monkeypatch.setenv("RESNET_TL_CACHE", str(tmp_path / "kept"))
    for kind, size in (("pixels", 2000), ("activations", 700)):
        about = f"{size} images in photos"
        made = cache.entry(
            kind, "ab" * 32, size, about, lambda folder, size=size: (folder / "data.bin").write_bytes(bytes(size))
        )
        assert made is not None
    return tmp_path / "kept"


def test_list_shows_kind_size_use_and_what(command, filled):
    code, out, _ = command("cache", "list")

    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    (pixels,) = [row for row in rows if row[:1] == ["pixels"]]
    assert pixels[1:3] == ["2.0", "KiB"]
    assert pixels[-4:] == ["2000", "images", "in", "photos"]
    assert any(row[:3] == ["activations", "721", "B"] for row in rows)
    assert out.splitlines()[-1] == f"2.7 KiB of at most 20.0 GiB (RESNET_TL_CACHE_LIMIT, in GiB) in {filled}."


def test_list_of_an_empty_cache_says_where_it_is(command, tmp_path, monkeypatch):
    monkeypatch.setenv("RESNET_TL_CACHE", str(tmp_path / "none"))
    monkeypatch.setenv("RESNET_TL_CACHE_LIMIT", "0.5")

    out = f"0 B of at most 512.0 MiB (RESNET_TL_CACHE_LIMIT, in GiB) in {tmp_path / 'none'}.\n"
    assert command("cache", "list") == (0, out, "")


def test_clear_removes_one_kind(command, filled):
    assert command("cache", "clear", "activations") == (0, f"721 B freed in {filled}.\n", "")
    assert [entry.kind for entry in cache.entries()] == ["pixels"]


def test_clear_removes_all(command, filled):
    code, out, _ = command("cache", "clear")

    assert (code, out) == (0, f"2.7 KiB freed in {filled}.\n")
    assert cache.entries() == []
    assert command("cache", "clear").out == f"0 B freed in {filled}.\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "resnet-tl cache: the following arguments are required: list | clear; see `resnet-tl cache --help`."),
        (
            ["clear", "pixel"],
            "resnet-tl cache clear: KIND: invalid choice: 'pixel' (choose from ",
        ),
    ],
)
def test_a_mistake_is_one_sentence(command, words, sentence):
    code, out, err = command("cache", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert sentence in err


def test_a_limit_that_is_no_number_is_the_users_mistake(command, monkeypatch):
    monkeypatch.setenv("RESNET_TL_CACHE_LIMIT", "much")

    code, _, err = command("cache", "list")

    assert code == 2
    assert err.startswith("resnet-tl: RESNET_TL_CACHE_LIMIT is 'much'; it must be a number of GiB")


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (643_600_000, "613.8 MiB"), (2**51, "2048.0 TiB")],
)
def test_bytes_are_told_with_their_unit(size, words):
    assert in_words(size) == words
