"""What one insists on is obeyed or refused; no file and no folder disappears without a count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from resnet_tl.data.dataset import read_dataset
from resnet_tl.data.reading.layouts import read_images
from resnet_tl.data.reading.options import Layout, Reading
from resnet_tl.errors import UserError


@pytest.mark.parametrize(
    ("layout", "patterns", "classes"),
    [
        ("class_folders", ["train/a/2*.jpg", "val/a/2*.jpg"], ("train", "val")),
        ("class_folders", ["images/2*.png", "masks/2*.png"], ("images", "masks")),
        ("flat_names", ["IMG_2*.jpg", "DSC_2*.jpg"], ("DSC", "IMG")),
        ("flat_names", ["2020/cat_2*.jpg", "2021/dog_2*.jpg"], ("cat", "dog")),
        ("flat_names", ["train/x/cat_2*.jpg", "train/y/dog_2*.jpg", "val/z/dog_2*.jpg"], ("cat", "dog")),
    ],
)
def test_an_insisted_layout_is_obeyed(
    tree: Callable[..., Path], layout: Layout, patterns: list[str], classes: tuple[str, ...]
) -> None:
    assert read_images(tree(*patterns), reading=Reading(layout)).classes == classes


@pytest.mark.parametrize(
    ("layout", "patterns", "sentence"),
    [
        (
            "class_folders",
            ["cat.2*.jpg", "dog.2*.jpg"],
            "no folders with images in them, so it cannot be read as class_f",
        ),
        (
            "split_folders",
            ["cat/2*.jpg", "dog/2*.jpg"],
            "no folders such as train/ and val/, so it cannot be read as spl",
        ),
        ("split_folders", ["val/a/2*.jpg", "test/a/2*.jpg"], "has val/ but no train/"),
        ("flat_names", ["cat/x.jpg", "dog/y.jpg"], "carries no class in its name"),
    ],
)
def test_or_refused_with_the_reason(
    tree: Callable[..., Path], layout: Layout, patterns: list[str], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        read_images(tree(*patterns), reading=Reading(layout))


@pytest.mark.parametrize(
    ("patterns", "sentence"),
    [
        (
            ["IMG_9*.jpg", "DSC_9*.jpg"],
            "'DSC' is what a camera or a program writes.* insist by --data.layout flat_names",
        ),
        (["Train_4*.jpg", "Test_4*.jpg"], "'Test' is a split"),
    ],
)
def test_names_that_say_no_class_are_refused(tree: Callable[..., Path], patterns: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read_images(tree(*patterns))


def test_files_that_are_not_read_are_counted_by_suffix_with_the_way_out(tree: Callable[..., Path]) -> None:
    index = read_images(tree("cat/3*.jpg", "dog/3*.jpg", "dog/4*.NEF", "dog/x.mov", "notes.txt"))
    assert index.layout.endswith("5 files not read: 1 .mov, 4 .nef (convert them to PNG or JPEG)")
    unread = [detail for kind, detail in index.doubts if kind == "unread"]
    assert unread == ["dog/1.NEF", "dog/2.NEF", "dog/3.NEF", "dog/4.NEF", "dog/x.mov"]


def test_a_class_that_is_lost_wholly_stops_a_fit_before_anything_is_decoded(tree: Callable[..., Path]) -> None:
    data = tree("cat/3*.jpg", "dog/3*.jpg", "bird/4*.dcm")
    assert ("lost_class", "no image of the class 'bird' can be read, only 4 .dcm (convert them to PNG or JPEG)") in (
        read_images(data).doubts
    )
    with pytest.raises(
        UserError, match=r"class 'bird' can be read, only 4 .dcm .*; to go on without it, move its files"
    ):
        read_dataset(data)


@pytest.mark.parametrize(
    ("patterns", "name"),
    [
        (["cat/3*.jpg", "dog/3*.dcm"], "dog"),  # one class only is left
        (["train/cat/3*.jpg", "train/dog/3*.dcm", "val/cat/3*.jpg", "val/dog/3*.jpg"], "dog"),  # val has it
    ],
)
def test_a_lost_class_is_the_reason_that_is_given(tree: Callable[..., Path], patterns: list[str], name: str) -> None:
    with pytest.raises(UserError, match=f"no image of the class '{name}' can be read, only 3 .dcm"):
        read_images(tree(*patterns))


def test_a_class_lost_among_flat_names_is_found(tree: Callable[..., Path]) -> None:
    index = read_images(tree("cat_3*.jpg", "dog_3*.jpg", "bird_3*.dcm"))
    assert [kind for kind, _ in index.doubts].count("lost_class") == 1


def test_a_root_of_files_that_are_not_read_says_which(tree: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"holds no images that can be read, only 2 .dcm, 2 .nii"):
        read_images(tree("cat/2*.dcm", "dog/2*.nii"))


def test_folders_without_images_are_named(tree: Callable[..., Path]) -> None:
    data = tree("cat/3*.jpg", "dog/3*.jpg", "bird/2*.txt")
    (data / "fish").mkdir()
    index = read_images(data)
    assert index.layout == "class folders: <class>; no images in bird/, fish/"
    assert index.doubts == (
        ("empty_folder", "bird/ holds 2 other files"),
        ("empty_folder", "fish/ holds 0 other files"),
    )
