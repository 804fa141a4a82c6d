from __future__ import annotations

from pathlib import Path

import pytest

from resnet_tl.data.exclude import without_excluded
from resnet_tl.data.layouts import read_images
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
    with pytest.raises(UserError, match=r"list\.csv"):
        without_excluded(read_images(blobs), tmp_path / "list.csv")
