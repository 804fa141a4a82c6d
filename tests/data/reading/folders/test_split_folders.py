"""Which folders are splits, whatever they are called, and which only look like ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from resnet_tl.data.reading.layouts import read_images
from resnet_tl.data.reading.options import Reading
from resnet_tl.errors import UserError

AB = ("a", "b")
READ = {
    "Training, Testing": (
        [f"{split}/{name}/2*.jpg" for split in ("Training", "Testing") for name in AB],
        "split folders: Training/<class>, Testing/<class>",
        {"train": 4, "test": 4},
    ),
    "folders that hold themselves": (
        [f"seg_{split}/seg_{split}/{name}/2*.jpg" for split in ("train", "test") for name in AB]
        + ["seg_pred/seg_pred/3*.jpg"],
        "split folders: seg_train/seg_train/<class>, seg_test/seg_test/<class>; "
        "seg_pred/ left out (3 images without labels)",
        {"train": 4, "test": 4},
    ),
    "an affix of their own": (
        [f"flowers_{split}/{name}/2*.jpg" for split in ("train", "test") for name in AB],
        "split folders: flowers_train/<class>, flowers_test/<class>",
        {"train": 4, "test": 4},
    ),
    "other folders beside them": (
        [f"fruits/{split}/{name}/2*.jpg" for split in ("Training", "Test") for name in AB]
        + ["fruits/test-multiple_fruits/3*.jpg", "fruits/papers/x.pdf"],
        "split folders: Training/<class>, Test/<class>; all in fruits/; test-multiple_fruits/ left out (3 images)",
        {"train": 4, "test": 4},
    ),
    "images/train beside labels/train": (
        [f"images/{split}/{name}/2*.jpg" for split in ("train", "val") for name in AB] + ["labels/train/3*.txt"],
        "split folders: train/<class>, val/<class>; all in images/",
        {"train": 4, "val": 4},
    ),
    "splits within classes": (
        [f"{name}/{split}/2*.jpg" for split in ("train", "val") for name in AB],
        "split folders: <class>/train, <class>/val",
        {"train": 4, "val": 4},
    ),
    "test beside the classes": (
        [f"{above}{name}/2*.jpg" for above in ("", "test/") for name in AB],
        "split folders: <class>, test/<class>",
        {"train": 4, "test": 4},
    ),
    "unlabelled beside the classes": (
        ["a/2*.jpg", "b/2*.jpg", "unlabelled/3*.jpg"],
        "class folders: <class>; unlabelled/ left out (3 images without labels)",
        {"": 4},
    ),
    "flat names beside test": (
        ["cat.2*.jpg", "dog.2*.jpg", "test/3*.jpg"],
        "flat names: <class>.<number>; test/ left out (3 images without labels)",
        {"": 4},
    ),
    "flat names within train/train": (
        ["train/train/cat.2*.jpg", "train/train/dog.2*.jpg", "test/test/3*.jpg"],
        "flat names: train/train/<class>.<number>; test/ left out (3 images without labels)",
        {"": 4},
    ),
    "one folder below test": (
        ["train/a/2*.jpg", "train/b/2*.jpg", "test/unknown/3*.jpg"],
        "class folders: train/<class>; test/ left out (3 images without labels)",
        {"": 4},
    ),
    "parts of a heap below test": (
        ["train/a/2*.jpg", "train/b/2*.jpg", "test/batch1/3*.jpg", "test/batch2/3*.jpg"],
        "class folders: train/<class>; test/ left out (6 images without labels)",
        {"": 4},
    ),
    "one class below test": (
        ["train/a/2*.jpg", "train/b/2*.jpg", "test/b/3*.jpg"],
        "split folders: train/<class>, test/<class>",
        {"train": 4, "test": 3},
    ),
    "a second test folder": (
        ["train/a/2*.jpg", "train/b/2*.jpg", "test/a/2*.jpg", "test1/3*.jpg"],
        "split folders: train/<class>, test/<class>; test1/ left out (3 images without labels)",
        {"train": 4, "test": 2},
    ),
    "vehicles below train and test": (
        [f"{split}/{name}/2*.jpg" for split in ("train", "test") for name in ("bus", "train")],
        "split folders: train/<class>, test/<class>",
        {"train": 4, "test": 4},
    ),
    "train_station": (["airport/2*.jpg", "train_station/2*.jpg", "test_lab/2*.jpg"], "class folders: <class>", {"": 6}),
}


@pytest.mark.parametrize(("patterns", "layout", "splits"), READ.values(), ids=READ)
def test_splits_are_known_by_their_names_and_by_what_they_hold(
    tree: Callable[..., Path], patterns: list[str], layout: str, splits: dict[str, int]
) -> None:
    index = read_images(tree(*patterns))
    assert index.layout == layout
    assert index.table["split"].value_counts().to_dict() == splits
    assert not index.doubts


@pytest.mark.parametrize(
    ("patterns", "sentence", "splits"),
    [
        (
            ["cat/2*.jpg", "dog/2*.jpg", "test/3*.jpg"],
            "test/ beside cat, dog may be a class or a split",
            ["cat", "dog"],
        ),
        (
            ["flowers/rose/2*.jpg", "flowers/tulip/2*.jpg", "test/rose/2*.jpg"],
            r"flowers/ beside test/ may be what to train on; did you mean .*flowers\?",
            ["rose", "tulip"],
        ),
        (
            ["bus/u/2*.jpg", "bus/v/2*.jpg", "car/w/2*.jpg", "car/x/2*.jpg", "train/y/2*.jpg", "train/z/2*.jpg"],
            r"train/ beside bus, car may be a class or a split; did you mean .*train\?",
            ["y", "z"],
        ),
    ],
)
def test_what_may_be_a_class_or_a_split_is_refused_and_one_insists_on_either(
    tree: Callable[..., Path], patterns: list[str], sentence: str, splits: list[str]
) -> None:
    data = tree(*patterns)
    with pytest.raises(UserError, match=sentence) as error:
        read_images(data)
    ways = "If they are classes, insist by --data.layout class_folders; if splits, by --data.layout split_folders."
    assert str(error.value).endswith(ways)
    assert set(read_images(data, reading=Reading("class_folders")).classes) == {path.name for path in data.iterdir()}
    assert list(read_images(data, reading=Reading("split_folders")).classes) == splits


def test_a_class_and_a_split_in_one_name_are_refused(tree: Callable[..., Path]) -> None:
    data = tree(*(f"{name}_{split}/2*.jpg" for name in ("cats", "dogs") for split in ("train", "test")))
    with pytest.raises(
        UserError, match="seem to name a class and a split each: put folders of the classes into train/"
    ):
        read_images(data)


@pytest.mark.parametrize(
    ("patterns", "sentence"),
    [
        (["train_1/a/2*.jpg", "train_2/a/2*.jpg"], "has both train_1/ and train_2/; keep one of them, or rename one"),
        (
            ["train/a/2*.jpg", "train/b/2*.jpg", "val/images/2*.jpg"],
            "val has images but no class folders as train/ has",
        ),
    ],
)
def test_splits_that_do_not_fit_together_are_refused(
    tree: Callable[..., Path], patterns: list[str], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        read_images(tree(*patterns))


def test_insisted_splits_may_have_words_of_their_own(tree: Callable[..., Path]) -> None:
    data = tree(*(f"{folder}/{name}/2*.jpg" for folder in ("my_train_2", "their_test") for name in AB))
    index = read_images(data, reading=Reading("split_folders"))
    assert index.table["split"].value_counts().to_dict() == {"train": 4, "test": 4}


def test_images_to_be_judged_need_no_train(tree: Callable[..., Path]) -> None:
    index = read_images(tree("Testing/a/2*.jpg", "Testing/b/2*.jpg"), learns=False)
    assert index.table["split"].unique().tolist() == ["test"]


@pytest.mark.parametrize("patterns", [["pred/2*.jpg"], ["test/2*.dcm", "pred/2*.jpg"]])
def test_images_without_labels_cannot_be_judged(tree: Callable[..., Path], patterns: list[str]) -> None:
    with pytest.raises(UserError, match=r"has no images with labels|no train/"):
        read_images(tree(*patterns), learns=False)
