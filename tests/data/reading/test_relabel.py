from __future__ import annotations

import logging
from pathlib import Path

import pytest

from resnet_tl.data.dataset import read_dataset
from resnet_tl.data.reading.exclude import without_excluded
from resnet_tl.data.reading.layouts import read_images
from resnet_tl.data.reading.relabel import relabelled
from resnet_tl.errors import UserError


def changes(blobs: Path, file: Path, text: str) -> dict[str, str]:
    file.write_text(text)
    index = read_images(blobs)
    after = relabelled(index, file)
    assert after.ids() == index.ids()
    assert after.classes == index.classes
    differ = (after.labels != index.labels).nonzero()[0]
    return {index.id(row): index.classes[after.labels[row]] for row in differ}


def test_a_plain_list_gives_other_labels(blobs: Path, tmp_path: Path) -> None:
    listed = f"path,label\ntrain/red/0.png,blue\n{blobs}/val/red/1.png,green\ntrain/blue/0.png,blue\n"
    assert changes(blobs, tmp_path / "list.csv", listed) == {"train/red/0.png": "blue", "val/red/1.png": "green"}


def test_a_column_of_suggestions_is_taken_where_there_is_no_other(blobs: Path, tmp_path: Path) -> None:
    assert changes(blobs, tmp_path / "list.csv", "path,suggested\ntrain/red/0.png,blue\n") == {
        "train/red/0.png": "blue"
    }


SUSPECTS = (
    "path,label,suggested,action\ntrain/red/0.png,red,blue,relabel\ntrain/red/1.png,red,blue,exclude\n"
    "train/red/2.png,red,blue,keep\ntrain/red/3.png,red,blue,\n"
)


def test_of_suspects_each_list_takes_the_rows_that_a_person_chose_for_it(blobs: Path, tmp_path: Path) -> None:
    assert changes(blobs, tmp_path / "suspects.csv", SUSPECTS) == {"train/red/0.png": "blue"}
    index = read_images(blobs)
    left = without_excluded(index, tmp_path / "suspects.csv")
    assert set(index.ids()) - set(left.ids()) == {"train/red/1.png"}


def test_a_data_set_with_both_is_another_one_and_says_how_many(blobs: Path, tmp_path: Path, caplog) -> None:
    file = tmp_path / "suspects.csv"
    file.write_text(SUSPECTS + "val/red/0.png,red,green,relabel\n")
    caplog.set_level(logging.INFO)
    plain, changed = read_dataset(blobs), read_dataset(blobs, relabel=file, exclude=file)
    assert plain.identity() != changed.identity()
    assert len(plain.index) - len(changed.index) == 1
    assert f"{file}: 2 of 44 images get another label (1 train, 1 val), those that validate or test too" in caplog.text
    assert f"{file}: 1 of 44 images are left out" in caplog.text


def test_a_list_that_nobody_has_edited_changes_nothing_and_says_so(blobs: Path, tmp_path: Path, caplog) -> None:
    file = tmp_path / "suspects.csv"
    file.write_text("path,label,suggested,action\ntrain/red/0.png,red,blue,keep\n")
    caplog.set_level(logging.INFO)
    assert read_dataset(blobs, relabel=file, exclude=file).identity() == read_dataset(blobs).identity()
    assert "no row has the action relabel, so that no image gets another label" in caplog.text
    assert "0 of 44 images are left out" in caplog.text


def test_an_action_may_be_written_in_any_case(blobs: Path, tmp_path: Path) -> None:
    text = "path,label,suggested,action\ntrain/red/0.png,red,blue, Relabel\ntrain/red/1.png,red,blue,KEEP\n"
    assert changes(blobs, tmp_path / "list.csv", text) == {"train/red/0.png": "blue"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("path,label\nx.png,red\n", r"names an image that is not in .*, such as x\.png"),
        ("path,label\ntrain/red/0.png,blu\n", r"the label 'blu'; it must be one of blue, green, red\. Did you mean"),
        ("path,label\ntrain/red/0.png,\n", "gives an image no label; it must be one of"),
        ("path\ntrain/red/0.png\n", "has no column 'label' or 'suggested', only path"),
        ("path,label,suggested\ntrain/red/0.png,red,blue\n", "none that says action"),
        (
            "path,label,suggested,action\na,red,blue,remove\n",
            "the action 'remove'; it must be relabel, exclude or keep",
        ),
        ("path,label\ntrain/red/0.png,blue\ntrain/red/0.png,green\n", "two different labels"),
        (
            "path,label\n" + "".join(f"train/red/{n}.png,blue\n" for n in range(8)),
            "no usable training image of class 'red' is left",
        ),
    ],
)
def test_a_mistake_is_said_in_one_sentence(blobs: Path, tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        changes(blobs, tmp_path / "list.csv", text)
