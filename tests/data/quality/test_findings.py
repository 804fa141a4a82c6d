"""All kinds of findings, on small folders of real image files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from resnet_tl.data.content_hashes import hashes_and_headers
from resnet_tl.data.index import ImageIndex
from resnet_tl.data.quality.audit import audit_images
from resnet_tl.data.quality.duplicates import find_duplicates
from resnet_tl.data.quality.findings import KINDS, counts, find_all, in_one_line, stops, write_findings
from resnet_tl.data.reading.exclude import without_excluded
from resnet_tl.data.reading.layouts import from_dataframe, read_images

FEW = {"tiny_class"}  # every class of a test is


def check(index: ImageIndex) -> pd.DataFrame:
    contents = hashes_and_headers(index)[0]
    audit = audit_images(index, contents)
    return find_all(index, audit, contents, find_duplicates(index, contents, audit))


def lines(findings: pd.DataFrame) -> set[tuple[str, ...]]:
    """(finding, path, partner, suggestion) of every line but those on tiny classes."""
    shown = findings[~findings["finding"].isin(FEW)]
    return set(zip(shown["finding"], shown["path"], shown["partner"], shown["suggestion"], strict=True))


@pytest.fixture
def photos(tmp_path: Path, photo: Callable[..., Image.Image]) -> Path:
    """`{train,val}/{cat,dog}/*.png`: 4 + 2 photos of each, all of them sound and different."""
    for seed, (split, number) in enumerate([("train", n) for n in range(4)] + [("val", n) for n in range(2)]):
        for offset, name in enumerate(("cat", "dog")):
            path = tmp_path / "photos" / split / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            photo(seed * 2 + offset).save(path)
    return tmp_path / "photos"


def test_sound_photos_give_no_findings(photos: Path) -> None:
    findings = check(read_images(photos))
    assert lines(findings) == set()
    assert not stops(findings)
    assert in_one_line(findings) == "few images to train on: 2"


def test_every_finding_has_a_known_kind_and_the_gravest_come_first(photos: Path) -> None:
    shutil.copy(photos / "train/cat/0.png", photos / "val/cat/x.png")
    shutil.copy(photos / "train/cat/1.png", photos / "train/cat/x.jpg")
    (photos / "train/dog/y.jpg").write_bytes(b"")
    findings = check(read_images(photos))
    assert list(findings.columns) == ["path", "finding", "detail", "partner", "suggestion"]
    assert list(counts(findings)) == ["unusable", "leak", "tiny_class", "duplicate"]
    assert [KINDS[kind].severity for kind in counts(findings)] == ["stop", "stop", "warning", "note"]
    assert stops(findings)


# Files


def test_a_bad_file_is_to_be_excluded(photos: Path) -> None:
    (photos / "train/cat/bad.jpg").write_bytes(b"<html>")
    findings = check(read_images(photos))
    assert lines(findings) == {("unusable", "train/cat/bad.jpg", "", "exclude")}
    assert findings["detail"].iloc[0] == "is not an image (HTML?)"


# The same picture twice


def test_of_two_copies_in_train_the_second_may_go(photos: Path) -> None:
    shutil.copy(photos / "train/cat/0.png", photos / "train/cat/x.png")
    shutil.copy(photos / "val/dog/0.png", photos / "val/dog/x.png")
    assert lines(check(read_images(photos))) == {
        ("duplicate", "train/cat/x.png", "train/cat/0.png", "exclude"),
        ("duplicate", "val/dog/x.png", "val/dog/0.png", "look"),
    }


def test_of_two_copies_in_two_splits_the_one_that_is_trained_on_goes(photos: Path, photo) -> None:
    shutil.copy(photos / "val/cat/0.png", photos / "train/cat/x.png")
    photo(1).save(photos / "val/dog/y.jpg", quality=50)
    findings = check(read_images(photos))
    assert lines(findings) == {
        ("leak", "train/cat/x.png", "val/cat/0.png", "exclude"),
        ("near_leak", "train/dog/0.png", "val/dog/y.jpg", "exclude"),
    }
    assert findings["detail"].tolist()[0] == "the same file, in train and val"


def test_a_copy_in_all_splits_stays_in_test_alone(photos: Path) -> None:
    for name in ("cat", "dog"):
        (photos / "test" / name).mkdir(parents=True)
        shutil.move(photos / "train" / name / "3.png", photos / "test" / name / "3.png")
    shutil.copy(photos / "test/cat/3.png", photos / "val/cat/x.png")
    shutil.copy(photos / "test/cat/3.png", photos / "train/cat/x.png")
    index = read_images(photos)
    findings = check(index)
    gone = set(findings.loc[findings["suggestion"] == "exclude", "path"])
    assert gone == {"train/cat/x.png", "val/cat/x.png"}


def test_all_copies_with_contradictory_labels_go(photos: Path) -> None:
    shutil.copy(photos / "train/cat/0.png", photos / "train/dog/x.png")
    shutil.copy(photos / "train/cat/0.png", photos / "train/cat/y.png")
    shutil.copy(photos / "train/cat/1.png", photos / "val/dog/z.png")
    findings = check(read_images(photos))
    gone = set(findings.loc[findings["suggestion"] == "exclude", "path"])
    assert gone == {"train/cat/0.png", "train/dog/x.png", "train/cat/y.png", "train/cat/1.png", "val/dog/z.png"}
    assert counts(findings)["contradiction"] == 5
    assert counts(findings)["leak"] == 1
    assert "labelled 'cat' and 'dog'" in findings.loc[findings["finding"] == "contradiction", "detail"].iloc[0]


def test_near_duplicates_in_one_split_or_with_two_labels_need_a_persons_look(photos: Path, photo) -> None:
    photo(0).save(photos / "train/cat/x.jpg", quality=50)
    photo(2).save(photos / "train/dog/y.jpg", quality=50)
    assert lines(check(read_images(photos))) == {
        ("near_duplicate", "train/cat/x.jpg", "train/cat/0.png", "look"),
        ("contradiction", "train/cat/1.png", "train/dog/y.jpg", "look"),
        ("contradiction", "train/dog/y.jpg", "train/cat/1.png", "look"),
    }


def test_following_the_suggestions_leaves_nothing_that_stops(photos: Path, tmp_path: Path) -> None:
    (photos / "train/cat/bad.jpg").write_bytes(b"")
    shutil.copy(photos / "val/cat/0.png", photos / "train/cat/x.png")
    shutil.copy(photos / "train/cat/0.png", photos / "train/dog/y.png")
    shutil.copy(photos / "train/cat/1.png", photos / "train/cat/z.png")
    before = read_images(photos)
    write_findings(check(before), tmp_path / "findings.csv")
    after = without_excluded(before, tmp_path / "findings.csv")
    assert lines(check(after)) == set()
    assert len(after) == len(before) - 5
    assert [after.id(row) for row in after.rows("val")] == [before.id(row) for row in before.rows("val")]


# Classes and groups


def test_names_that_differ_by_case_space_or_unicode_form_only(tmp_path: Path, photo) -> None:
    for number, name in enumerate(("Cat", "cat", "ｄog", "dog", "caf\u00e9", "cafe\u0301", "bird  x", "bird x", "owl")):
        (tmp_path / name).mkdir()
        for copy in range(2):
            photo(10 * number + copy).save(tmp_path / name / f"{copy}.png")
    findings = check(read_images(tmp_path))
    details = findings.loc[findings["finding"] == "class_names", "detail"].tolist()
    assert len(details) == 4
    assert "'Cat', 'cat' differ by case, white space or Unicode form only" in details
    assert any(r"'cafe\u0301', 'caf\xe9'" in detail for detail in details)


def frame(counts_by_split: dict[str, tuple[int, int]], photos: Path) -> pd.DataFrame:
    """Rows of split and class; the files are copies, which are findings of their own."""
    rows = []
    for split, numbers in counts_by_split.items():
        for name, number in zip(("cat", "dog"), numbers, strict=True):
            for copy in range(number):
                path = f"{split}-{name}-{copy}.png"
                shutil.copy(photos / "train/cat/0.png", photos / path)
                rows.append({"path": path, "label": name, "split": split})
    return pd.DataFrame(rows)


def test_a_class_with_few_images_to_train_on_is_told(photos: Path) -> None:
    findings = check(from_dataframe(frame({"train": (9, 10), "val": (5, 5)}, photos), photos))
    assert findings.loc[findings["finding"] == "tiny_class", "detail"].tolist() == ["'cat' has 9 to train on"]


def test_a_group_in_two_splits_stops(photos: Path) -> None:
    table = pd.DataFrame({"path": [f"train/{name}/{n}.png" for name in ("cat", "dog") for n in range(4)]})
    table["label"] = ["cat"] * 4 + ["dog"] * 4
    table["split"] = ["train", "train", "train", "val"] * 2
    table["group"] = ["g1", "g2", "g3", "g1", "", "", "", ""]
    findings = check(from_dataframe(table, photos))
    (detail,) = findings.loc[findings["finding"] == "group_in_two_splits", "detail"]
    assert detail == "'g1' has images in train, val"
    assert stops(findings)


# The file


def test_no_class_is_emptied_by_the_suggestions(photos: Path) -> None:
    for number in range(1, 4):
        (photos / f"train/dog/{number}.png").unlink()
    shutil.copy(photos / "train/dog/0.png", photos / "val/dog/x.png")
    assert lines(check(read_images(photos))) == {("leak", "train/dog/0.png", "val/dog/x.png", "look")}


def test_a_path_that_a_spreadsheet_would_run_is_written_so_that_it_does_not(photos: Path, tmp_path: Path) -> None:
    for name in ("=1+1", "dog"):
        (tmp_path / "odd" / name).mkdir(parents=True)
    shutil.copy(photos / "train/cat/0.png", tmp_path / "odd/=1+1/a.png")
    shutil.copy(photos / "train/cat/0.png", tmp_path / "odd/=1+1/b.png")
    shutil.copy(photos / "train/cat/1.png", tmp_path / "odd/dog/c.png")
    index = read_images(tmp_path / "odd")
    write_findings(check(index), tmp_path / "findings.csv")
    assert "\n./=1+1/b.png,duplicate,the same file,./=1+1/a.png,exclude\n" in (tmp_path / "findings.csv").read_text()
    assert without_excluded(index, tmp_path / "findings.csv").ids() == ["=1+1/a.png", "dog/c.png"]
