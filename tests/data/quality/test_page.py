from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from resnet_tl.data.index import ImageIndex
from resnet_tl.data.quality.findings import COLUMNS, Finding
from resnet_tl.data.quality.page import SHOWN, write_audit_page
from resnet_tl.data.reading.layouts import read_images


class Tags(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.names.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(index: ImageIndex, found: list[Finding], file: Path) -> str:
    write_audit_page(pd.DataFrame(found, columns=COLUMNS), index, file)
    return file.read_text(encoding="utf-8")


@pytest.fixture
def hostile(tmp_path: Path, photo) -> ImageIndex:
    """Names that would be markup."""
    for name in ("<script>alert(1)</script>".replace("/", "_"), 'b"onload="x', "c&d"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        photo(1).save(tmp_path / "photos" / name / "<img src=x>.png")
    return read_images(tmp_path / "photos")


def test_every_name_is_escaped(hostile: ImageIndex, tmp_path: Path) -> None:
    one, other, third = hostile.ids()
    found = [Finding(one, "leak", "'<b>' & '\"'", other, "exclude"), Finding("", "class_names", "<i>a</i>")]
    found.append(Finding(third, "duplicate", "the same file"))
    page = page_of(hostile, found, tmp_path / "page.html")
    tags = Tags(page)
    assert not {"script", "b", "i"} & set(tags.names)
    assert tags.names.count("img") == 3
    assert "'<b>' & '\"'" in tags.text
    assert "<img src=x>.png" in tags.text


def test_it_needs_nothing_from_outside(hostile: ImageIndex, tmp_path: Path) -> None:
    page = page_of(hostile, [Finding(hostile.id(0), "duplicate", "the same file")], tmp_path / "page.html")
    assert "http:" not in page
    assert "https:" not in page
    assert all(source.startswith("data:image/jpeg;base64,") for source in re.findall(r'<img[^>]* src="([^"]*)"', page))
    assert "default-src 'none'" in page


def test_a_kind_shows_no_more_than_its_share(blobs: Path, tmp_path: Path) -> None:
    index = read_images(blobs)
    found = [Finding(index.id(row % 44), "duplicate", "the same file") for row in range(SHOWN + 7)]
    page = page_of(index, found, tmp_path / "page.html")
    assert Tags(page).names.count("figure") == SHOWN
    assert "The CSV file has the other 7." in page


def test_a_file_that_cannot_be_decoded_says_so(blobs: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "1.png").write_bytes((blobs / "train/red/0.png").read_bytes())
    (tmp_path / "b" / "2.png").write_bytes(b"")
    index = read_images(tmp_path)
    page = page_of(index, [Finding("b/2.png", "unusable", "is empty", "", "exclude")], tmp_path / "page.html")
    assert "cannot be shown" in page
    assert "1 image is suggested for exclusion" in page


def test_nothing_found_is_said(blobs: Path, tmp_path: Path) -> None:
    assert "Nothing was found." in page_of(read_images(blobs), [], tmp_path / "page.html")
