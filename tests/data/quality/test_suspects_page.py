from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from resnet_tl.data.index import ImageIndex
from resnet_tl.data.quality.suspects_page import MOST, write_suspects_page
from resnet_tl.data.reading.layouts import read_images


def page_of(index: ImageIndex, pairs: list[tuple[str, str]], file: Path, suspect: str = "yes") -> str:
    """Of a table whose rows show the first image again and again."""
    rows = [
        {
            "path": index.id(0),
            "label": label,
            "suggested": suggested,
            "probability_of_label": 0.001,
            "probability_of_suggested": 0.9995,
            "score": 0.9,
            "suspect": suspect,
            "copies": 2,
            "action": "keep",
        }
        for label, suggested in pairs
    ]
    write_suspects_page(pd.DataFrame(rows), index, file, ["a line"])
    return file.read_text(encoding="utf-8")


def test_frequent_pairs_have_their_own_section_and_rare_ones_share_one(blobs: Path, tmp_path: Path) -> None:
    pairs = [("red", "blue")] * 5 + [("red", "green")] * 6 + [("blue", "red")] * 2
    page = page_of(read_images(blobs), pairs, tmp_path / "page.html")
    titles = re.findall(r"<h2[^>]*>(.*?) *</h2>", page)
    assert titles == ["Labelled red, looks like green (6)", "Labelled red, looks like blue (5)", "Others (2)"]
    assert "looks like blue, over 99.9 % sure; 2 more of this picture" in page
    assert "what to do" not in page


def test_no_more_than_so_many_are_drawn_and_the_others_counted(blobs: Path, tmp_path: Path) -> None:
    page = page_of(read_images(blobs), [("red", "blue")] * (MOST + 7), tmp_path / "page.html")
    assert page.count("<figure>") == MOST
    assert "The CSV file has the other 7." in page


def test_where_none_is_suspect_the_least_probable_are_shown(blobs: Path, tmp_path: Path) -> None:
    page = page_of(read_images(blobs), [("red", "blue")] * 3, tmp_path / "page.html", suspect="no")
    assert "The least probable labels, none of them suspect (3)" in page


def test_class_names_are_escaped(blobs: Path, tmp_path: Path) -> None:
    page = page_of(read_images(blobs), [("<b>red</b>", "<script>")] * 6, tmp_path / "page.html")
    assert "<b>" not in page
    assert "<script" not in page
    assert "&lt;b&gt;red&lt;/b&gt;" in page
