from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from resnet_tl.data.reading.tables.table_files import read_table
from resnet_tl.errors import UserError

ROWS = "path,label\n1.jpg,Mädchen\n2.jpg,Vögel\n"


def written(folder: Path, content: str | bytes, name: str = "list.csv") -> Path:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder / name


@pytest.mark.parametrize(
    ("content", "notes"),
    [
        (ROWS.encode(), []),
        (ROWS.encode("utf-8-sig"), []),
        (ROWS.encode("utf-16"), []),
        (codecs.BOM_UTF16_BE + ROWS.encode("utf-16-be"), []),
        (ROWS.encode("latin-1"), ["not in UTF-8, read as Windows-1252"]),
        (ROWS.replace("\n", "\r\n").encode(), []),
        (ROWS.replace("\n", "\r").encode(), []),
        (b"sep=,\r\n" + ROWS.encode(), []),
    ],
    ids=["UTF-8", "with a mark", "UTF-16", "big endian", "Latin-1", "CRLF", "CR", "Excel"],
)
def test_a_table_is_the_same_in_every_encoding(tmp_path: Path, content: bytes, notes: list[str]) -> None:
    table = read_table(written(tmp_path, content))
    assert table.frame.to_dict("list") == {"path": ["1.jpg", "2.jpg"], "label": ["Mädchen", "Vögel"]}
    assert table.notes == notes


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_found(tmp_path: Path, separator: str) -> None:
    text = f"path{separator}label\n1.jpg{separator}a, b\n2.jpg{separator}c"
    if separator == ",":
        text = text.replace("a, b", '"a, b"')
    assert read_table(written(tmp_path, text)).frame["label"].tolist() == ["a, b", "c"]


def test_blanks_separate_the_values_of_a_plain_text(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, "img/1.jpg 0\nimg/2.jpg 1\n", "train.txt"))
    assert not table.has_header
    assert table.frame.to_dict("list") == {"column 1": ["img/1.jpg", "img/2.jpg"], "column 2": ["0", "1"]}


def test_json_lines_keep_their_values(tmp_path: Path) -> None:
    text = '{"file_name": "1.jpg", "label": 3}\n\n{"file_name": "2.jpg", "objects": [1, 2]}\n'
    frame = read_table(written(tmp_path, text, "metadata.jsonl")).frame
    assert frame["file_name"].tolist() == ["1.jpg", "2.jpg"]
    assert frame["label"].iloc[0] == 3
    assert frame["objects"].iloc[1] == [1, 2]


def test_an_unnamed_column_of_numbers_is_left_out_and_names_lose_their_blanks(tmp_path: Path) -> None:
    assert list(read_table(written(tmp_path, ",path , label\n0,1.jpg,a\n")).frame.columns) == ["path", "label"]


def test_text_stays_as_it_stands(tmp_path: Path) -> None:
    assert read_table(written(tmp_path, "path,label\n007,NA\n1.0,None\n")).frame.to_numpy().tolist() == [
        ["007", "NA"],
        ["1.0", "None"],
    ]


def test_the_beginning_of_a_table_has_whole_rows(tmp_path: Path) -> None:
    path = written(tmp_path, "path,label\n" + "1.jpg,ä\n" * 50)
    for most in range(30, 45):
        assert set(read_table(path, most).frame["label"]) == {"ä"}


@pytest.mark.parametrize(
    ("content", "name", "sentence"),
    [
        ("", "list.csv", "is empty"),
        (b"\xff\xfe\0\0\0", "list.csv", "is no text, so no table"),
        ("path,label\n1.jpg,a,b\n", "list.csv", "more values than its first line has columns"),
        ('path,label\n"1.jpg,a\n', "list.csv", "cannot be read as a table"),
        ("{}\n[1]\n", "list.jsonl", "no object .* in line 2"),
        ('{"path": "1.jpg"\n', "list.jsonl", "no JSON in line 1"),
    ],
)
def test_what_is_no_table_is_refused_in_a_sentence(tmp_path: Path, content: bytes, name: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read_table(written(tmp_path, content, name))


def test_a_missing_table_names_its_neighbour(tmp_path: Path) -> None:
    written(tmp_path, ROWS, "labels.csv")
    with pytest.raises(UserError, match=r"label\.csv does not exist. Did you mean 'labels\.csv'"):
        read_table(tmp_path / "label.csv")
