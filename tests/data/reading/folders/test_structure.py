"""What is no class although it is a folder: wrappers, copies, masks, parts; and how one insists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from resnet_tl.data.reading.layouts import read_images
from resnet_tl.data.reading.options import Reading
from resnet_tl.errors import UserError

PETS = ("Abyssinian", "great_pyrenees", "english_cocker_spaniel")
OXFORD_PETS = [
    f"oxford-iiit-pet/{part}"
    for name in PETS
    for part in (f"images/{name}_4*.jpg", f"annotations/trimaps/{name}_4*.png")
]
FLOWERS = [f"flowers/{above}{name}/{name[0]}3*.jpg" for name in ("daisy", "rose") for above in ("", "flowers/")]
READ = {
    "wrappers": (
        ["a/b/cat/2*.jpg", "a/b/dog/2*.jpg", "a/readme.txt"],
        "a/b",
        "class folders: <class>; all in a/b/",
        "cat dog",
    ),
    "a wrapper and a loose picture": (
        ["photos/cat/2*.jpg", "photos/dog/2*.jpg", "overview.png"],
        "photos",
        "class folders: <class>; all in photos/; 1 loose image beside photos/ left out",
        "cat dog",
    ),
    "oxford-pets": (
        [*OXFORD_PETS, "oxford-iiit-pet/annotations/list.txt"],
        "oxford-iiit-pet/images",
        "flat names: <class>.<number>; all in oxford-iiit-pet/images/; annotations/ left out (12 images)",
        " ".join(sorted(PETS)),
    ),
    "names with two numbers": (
        [f"{name}_000{n}_79{k}{n}.jpg" for k, name in enumerate(("Sooty_Albatross", "Laysan_Albatross")) for n in "123"],
        "",
        "flat names: <class>.<number>",
        "Laysan_Albatross Sooty_Albatross",
    ),
    "images and masks": (
        [f"{stored}/{name}/3*.png" for stored in ("images", "masks") for name in ("a", "b")],
        "images",
        "class folders: <class>; all in images/; masks/ left out (6 images)",
        "a b",
    ),
    "data and docs": (
        ["data/ant/3*.png", "data/bee/3*.png", "docs/figure1.png"],
        "data",
        "class folders: <class>; all in data/; docs/ left out (1 image)",
        "ant bee",
    ),
    "images and masks in each class": (
        [f"{name}/{stored}/{name}3*.png" for stored in ("images", "masks") for name in ("benign", "malignant")],
        "",
        "class folders: <class>; <class>/masks/ left out (6 images)",
        "benign malignant",
    ),
    "a copy": (
        FLOWERS,
        "flowers",
        "class folders: <class>; all in flowers/; flowers/ left out (6 images, copies of those beside it)",
        "daisy rose",
    ),
    "folds": (
        [f"fold{fold}/{name}/{fold}_2*.png" for fold in (1, 2) for name in ("a", "b")],
        "",
        "class folders: fold<number>/<class>; fold1, fold2 taken together",
        "a b",
    ),
    "one folder in each class": (
        [f"{name}/images/{name}_3*.JPEG" for name in ("n01440764", "n02102040")],
        "",
        "class folders: <class>",
        "n01440764 n02102040",
    ),
    "numbers in each class": (
        ["7/left/2*.png", "7/1/2*.png", "8/1/2*.png", "8/2/2*.png"],
        "",
        "class folders: <class>",
        "7 8",
    ),
    "a lone folder without labels is a class": (
        ["left/3*.png", "right/3*.png"],
        "",
        "class folders: <class>",
        "left right",
    ),
}


@pytest.mark.parametrize(("patterns", "root", "layout", "classes"), READ.values(), ids=READ)
def test_structure_is_passed_through_and_said(
    tree: Callable[..., Path], patterns: list[str], root: str, layout: str, classes: str
) -> None:
    data = tree(*patterns)
    index = read_images(data)
    assert index.root == data / root
    assert index.layout == layout
    assert index.classes == tuple(classes.split())
    assert not index.doubts


def test_sessions_are_taken_together_as_groups(tree: Callable[..., Path]) -> None:
    index = read_images(tree(*(f"session_{day}/{name}/2*.jpg" for day in (1, 2) for name in ("cat", "dog"))))
    assert index.classes == ("cat", "dog")
    assert index.table["group"].tolist() == [path.split("/")[0] for path in index.ids()]
    assert index.layout.endswith("session_1, session_2 taken together, each as a group")


def test_the_same_session_in_two_splits_is_two_groups(tree: Callable[..., Path]) -> None:
    folders = [f"{split}/day{day}/{name}" for split in ("train", "test") for day in (1, 2) for name in ("cat", "dog")]
    index = read_images(tree(*(f"{folder}/2*.jpg" for folder in folders)))
    assert set(index.table["group"]) == {"train/day1", "train/day2", "test/day1", "test/day2"}


REFUSED = {
    "domains": (
        [f"{domain}/{name}/3*.jpg" for domain in ("photo", "sketch") for name in ("cat", "dog")],
        "hold the same",
        "photo",
    ),
    "domains behind a folder": (
        [f"{domain}/images/{name}/3*.jpg" for domain in ("amazon", "dslr") for name in ("bike", "mug")],
        "hold the same",
        "amazon",
    ),
    "splits in folds": (
        [f"fold{n}/{split}/{name}/3*.jpg" for n in (1, 2) for split in ("train", "test") for name in "ab"],
        "hold the same",
        "fold1",
    ),
    "the parts of each object": (
        [f"{name}/{part}/3*.png" for name in ("bottle", "cable") for part in ("train", "test", "defects")],
        "hold the same",
        None,
    ),
    "pairs of pictures": (
        [f"{side}/{stem}3*.png" for side in ("left", "right") for stem in ("w", "x", "yy", "z")],
        "files of the same names",
        None,
    ),
    "what was made of the pictures": (
        [f"{stored}/{name}/3*.jpg" for stored in ("original", "augmented") for name in ("cat", "dog")],
        "hold the same",
        "original",
    ),
    "two that hold pictures": (
        ["jpg/cat/2*.jpg", "jpg/dog/2*.jpg", "raw/cat/2*.jpg", "raw/dog/2*.jpg"],
        "may each hold",
        "jpg",
    ),
    "other images by the same names": (
        ["rose/r2*.jpg", "daisy/d2*.jpg", "more/rose/x2*.jpg", "more/daisy/y2*.jpg"],
        "with other images",
        "more",
    ),
}


@pytest.mark.parametrize(("patterns", "sentence", "likely"), REFUSED.values(), ids=REFUSED)
def test_what_may_be_meant_in_two_ways_is_refused_and_every_way_out_works(
    tree: Callable[..., Path], patterns: list[str], sentence: str, likely: str | None
) -> None:
    data = tree(*patterns)
    with pytest.raises(UserError, match=sentence) as error:
        read_images(data)
    assert str(error.value).endswith("If they are classes, insist by --data.layout class_folders.")
    assert set(read_images(data, reading=Reading("class_folders")).classes) == {path.name for path in data.iterdir()}
    if likely:
        root = re.search(r"--data\.root (.+?)( or |\?|, )", str(error.value))
        assert root
        assert shlex.split(root[1]) == [str(data / likely)]
        assert len(read_images(shlex.split(root[1])[0]).classes) == 2


@pytest.mark.parametrize(
    ("patterns", "insist", "classes"),
    [
        (
            [f"images/{domain}/{name}/2*.jpg" for domain in ("photo", "sketch") for name in ("cat", "dog")]
            + ["masks/x.png"],
            "--data.root {data}/images --data.layout class_folders",
            ["photo", "sketch"],
        ),
        (
            [f"train/{domain}/{name}/2*.jpg" for domain in ("photo", "sketch") for name in ("cat", "dog")]
            + ["test/9.jpg"],
            "--data.layout split_folders",
            ["photo", "sketch"],
        ),
        (
            ["images/IMG_2*.jpg", "images/DSC_2*.jpg", "masks/x.png"],
            "--data.root {data}/images --data.layout flat_names",
            ["DSC", "IMG"],
        ),
    ],
)
def test_one_insists_on_the_very_folder_that_is_in_doubt(
    tree: Callable[..., Path], patterns: list[str], insist: str, classes: list[str]
) -> None:
    data = tree(*patterns)
    with pytest.raises(UserError) as error:
        read_images(data)
    assert str(error.value).endswith(f"insist by {insist.format(data=data)}.")
    *root, _, layout = insist.format(data=data).split()
    assert list(read_images(root[-1] if root else data, reading=Reading(layout)).classes) == classes


def test_folders_of_what_is_stored_may_be_classes_if_one_insists(tree: Callable[..., Path]) -> None:
    data = tree("photos/3*.jpg", "figures/3*.jpg")
    with pytest.raises(UserError, match=r"If figures, photos are classes, insist by --data.layout class_folders"):
        read_images(data)
    index = read_images(data, reading=Reading("class_folders"))
    assert (index.classes, index.doubts) == (("figures", "photos"), ())


@pytest.mark.parametrize(
    ("patterns", "detail"),
    [
        (["control/3*.png", "test/3*.png"], "called like parts of the data, not like what is seen: test"),
        (["bus/3*.png", "car/3*.png", "train/3*.png"], "called like parts of the data, not like what is seen: train"),
        (
            ["100CANON/IMG_3*.png", "2024-01-02/x3*.png"],
            "called like parts of the data, not like what is seen: 100CANON, 2024-01-02",
        ),
        (["cat/3*.png", "images/x3*.png"], "called like parts of the data, not like what is seen: images"),
        (
            ["session1/3*.png", "session2/3*.png"],
            "called like parts of the data, not like what is seen: session1, session2",
        ),
        (
            ["benign/4*.png", "benign/4*_mask.png", "malignant/4*.png"],
            "4 images called like what goes with others, such as 1_mask",
        ),
        (
            ["animals/cat/3*.png", "animals/dog/3*.png", "plants/oak/3*.png", "plants/rose/3*.png"],
            "the classes have folders of their own, such as animals/cat/, which are taken together",
        ),
    ],
)
def test_what_is_read_in_doubt_is_a_finding(tree: Callable[..., Path], patterns: list[str], detail: str) -> None:
    assert read_images(tree(*patterns)).doubts == (("structure", detail),)


def test_a_way_out_of_a_zip_works_as_it_is_typed(tree: Callable[..., Path], tmp_path: Path) -> None:
    import shutil

    data = tree("photo/cat/2*.jpg", "photo/dog/2*.jpg", "sketch/cat/2*.jpg", "sketch/dog/2*.jpg")
    archive = shutil.make_archive(str(tmp_path / "pacs"), "zip", data)
    with pytest.raises(UserError, match=rf"did you mean --data.root {archive}/photo\?"):
        read_images(archive)
    assert read_images(f"{archive}/photo").ids() == ["cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "dog/2.jpg"]
