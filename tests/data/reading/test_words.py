from __future__ import annotations

import pytest

from resnet_tl.data.reading.words import class_in_name, is_structure, numbered_as, says_no_class, split_in, split_of


@pytest.mark.parametrize(
    ("names", "split"),
    [
        (
            "Training train_images train-set training_set seg_train imgs_train train2017 trainSet trainset TRAIN",
            "train",
        ),
        ("valid validation Val val2017 dev eval holdout validation_images imagesVal", "val"),
        ("test1 Test_12 images_test testing TestImages test_set testdata", "test"),
        ("pred seg_pred unlabelled unlabeled predict submission", "predict"),
        ("trainer train_station testudo contrast validated bus control latest devil protest train_test_split", ""),
    ],
)
def test_a_split_is_a_word_among_words_of_structure(names: str, split: str) -> None:
    assert {name: split_of(name) for name in names.split()} == dict.fromkeys(names.split(), split)


def test_a_split_may_be_spoken_of_beside_other_words() -> None:
    assert split_in("flowers_train") == "train"
    assert split_of("flowers_train") == ""


def test_folders_are_called_by_what_is_stored_in_them_whatever_the_case() -> None:
    assert all(
        map(is_structure, ("images", "JPEGImages", "SegmentationClass", "ground_truth", "Annotations", "raw-img"))
    )
    assert not any(map(is_structure, ("cat", "no_mask", "mask", "image_of_cat", "2007")))


def test_numbered_folders_have_their_words_in_common() -> None:
    assert numbered_as(["fold1", "fold2"]) == ("fold",)
    assert numbered_as(["fold1", "part2"]) == numbered_as(["cat", "dog"]) == ()


@pytest.mark.parametrize(
    ("stem", "name"), [("cat (3)", "cat"), ("red fox(12)", "red fox"), ("cat_0 (1)", "cat"), ("IMG_0001 (2)", "IMG")]
)
def test_numbers_in_brackets_count_as_windows_counts(stem: str, name: str) -> None:
    assert class_in_name(stem) == name


@pytest.mark.parametrize("stem", ["20240102_101112", "2024-01-02", "101112"])
def test_a_date_is_no_class(stem: str) -> None:
    assert class_in_name(stem) == ""


@pytest.mark.parametrize(
    ("names", "first"),
    [
        (["IMG"], "IMG"),
        (["DSC", "IMG"], "DSC"),
        (["WhatsApp Image 2024-01-02 at 10.11"], "WhatsApp Image 2024-01-02 at 10.11"),
        (["Screenshot", "cat"], "Screenshot"),
        (["Test", "Train"], "Test"),
        (["cat", "dog", "test"], "test"),
        (["2007", "2008"], "2007"),
        (["train_cat", "train_dog", "test_cat"], "train_cat"),
        (["train_cat", "train_dog"], ""),
        (["P"], "P"),
        (["A", "B", "P"], ""),
        (["bus", "car", "train"], ""),
        (["image_cat", "image_dog"], ""),
        (["1", "2"], ""),
    ],
)
def test_cameras_splits_and_years_say_no_class(names: list[str], first: str) -> None:
    assert says_no_class(names)[0] == first
