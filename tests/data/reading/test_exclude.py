from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from resnet_tl.data.quality.findings import write_findings
from resnet_tl.data.reading.exclude import without_excluded
from resnet_tl.data.reading.layouts import read_images
from resnet_tl.errors import UserError


def gone(blobs: Path, file: Path, text: str) -> set[str]:
    file.write_text(text)
    index = read_images(blobs)
    return set(index.ids()) - set(without_excluded(index, file).ids())


def test_all_paths_of_a_plain_list_are_left_out(blobs: Path, tmp_path: Path) -> None:
    listed = f"path\ntrain/red/0.png\n{blobs}/train/red/1.png\n./val/red/../red/0.png\ntrain/red/0.png\n"
    assert gone(blobs, tmp_path / "list.txt", listed) == {"train/red/0.png", "train/red/1.png", "val/red/0.png"}


def test_where_there_are_suggestions_only_those_to_exclude_count(blobs: Path, tmp_path: Path) -> None:
    listed = "path,suggestion\ntrain/red/0.png,exclude\ntrain/red/1.png,look\ntrain/red/2.png,\n,look\n"
    assert gone(blobs, tmp_path / "list.csv", listed) == {"train/red/0.png"}


def test_a_file_that_was_removed_since_the_check_needs_not_be_left_out(blobs: Path, tmp_path: Path) -> None:
    listed = "path,suggestion\ntrain/red/0.png,exclude\ntrain/red/broken.png,exclude\n"
    assert gone(blobs, tmp_path / "list.csv", listed) == {"train/red/0.png"}


def test_a_list_of_other_images_is_refused(blobs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none of the images that .* names, such as cat/0\.png, is in .* any more"):
        gone(blobs, tmp_path / "list.csv", "path,suggestion\ncat/0.png,exclude\ncat/1.png,exclude\n")


def test_a_name_that_no_file_can_have_is_one_that_is_not_there(blobs: Path, tmp_path: Path) -> None:
    listed = f"path,suggestion\ntrain/red/0.png,exclude\n{'x' * 5000},exclude\n"
    assert gone(blobs, tmp_path / "list.csv", listed) == {"train/red/0.png"}


def test_the_path_as_it_is_written_comes_first(tmp_path: Path) -> None:
    names = ("cat/1.png", " cat/1.png", "cat/2.png", "dog/1.png", "back\\slash/1.png", "back/slash/1.png")
    for name in names:
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / name)
    for folder in ("photos/ cat", "photos/dog", "photos/back\\slash", "photos/back/slash"):
        Image.new("RGB", (8, 8)).save(tmp_path / folder / "2.png")
    findings = pd.DataFrame({"path": [" cat/1.png", "back\\slash/1.png"], "partner": "", "suggestion": "exclude"})
    write_findings(findings, tmp_path / "findings.csv")

    index = read_images(tmp_path / "photos")
    left = without_excluded(index, tmp_path / "findings.csv")
    assert set(index.ids()) - set(left.ids()) == {" cat/1.png", "back\\slash/1.png"}


def test_nothing_to_exclude_excludes_nothing(blobs: Path, tmp_path: Path) -> None:
    assert gone(blobs, tmp_path / "list.csv", "path,finding,detail,partner,suggestion\n") == set()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("path\ntrain/red/00.png\n", r"names an image that is not in .*, such as train/red/00\.png; .* Did you mean"),
        ("path\nx.png\ny.png\n", r"names 2 images that are not in .*, such as x\.png"),
        ("file\nx.png\n", "has no column 'path', only file"),
        ("path,suggestion\ntrain/red/0.png,remove\n", "has the suggestion 'remove'; it must be exclude or look"),
        (
            "path\n" + "".join(f"train/red/{n}.png\n" for n in range(8)),
            "no usable training image of class 'red' is left",
        ),
    ],
)
def test_a_mistake_is_said_in_one_sentence(blobs: Path, tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        gone(blobs, tmp_path / "list.csv", text)


def test_a_missing_file_is_said(blobs: Path, tmp_path: Path) -> None:
    (tmp_path / "lists.csv").touch()
    with pytest.raises(UserError, match=r"/list\.csv does not exist\. Did you mean 'lists\.csv'"):
        without_excluded(read_images(blobs), tmp_path / "list.csv")
