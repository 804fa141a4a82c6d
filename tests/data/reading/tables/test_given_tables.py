from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from resnet_tl.data.index import ImageIndex
from resnet_tl.data.reading.layouts import from_dataframe, read_images, unlabelled
from resnet_tl.data.reading.options import Reading
from resnet_tl.errors import UserError


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"only the name is read here")
    return root


def write_csv(root: Path, text: str) -> Path:
    (root / "images.csv").write_text(text, encoding="utf-8")
    return root / "images.csv"


def named(index: ImageIndex) -> list[tuple[str, str, str]]:
    """(path, class name, split) of every row."""
    return [
        (path, index.classes[label] if label >= 0 else "", split)
        for path, label, split in zip(index.ids(), index.labels, index.table["split"], strict=True)
    ]


def as_it_says(refused: Callable[[], object]) -> ImageIndex:
    """What is read when the options that a refusal shows are typed."""
    with pytest.raises(UserError) as caught:
        refused()
    typed = re.search(r"--data\.root.*", str(caught.value))
    assert typed, str(caught.value)
    options: dict[str, str] = {}
    words = iter(shlex.split(typed[0].partition(" (or another")[0]))
    for word in words:
        options[word.removeprefix("--data.")] = next(words)
    return read_images(options.pop("root"), reading=Reading(**options))


def test_a_csv_gives_labels_splits_and_groups_in_its_own_order(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.jpg", "a/1.jpg", "c/3.jpg", "d/4.jpg")
    lines = ["\ufeffpath,label,split,group,note", "b/2.jpg,NA,train,p7,", "./a/1.jpg,07,train,p8,x"]
    lines += ["c\\3.jpg,NA,valid,,", "d/4.jpg,,predict,,"]
    index = read_images(write_csv(tmp_path, "\n".join(lines)))
    assert named(index) == [
        ("b/2.jpg", "NA", "train"),
        ("a/1.jpg", "07", "train"),
        ("c/3.jpg", "NA", "val"),
        ("d/4.jpg", "", "predict"),
    ]
    assert index.classes == ("07", "NA")
    assert index.table["group"].tolist() == ["p7", "p8", "", ""]
    assert index.layout == "table images.csv (path, label, split, group; unused: note)"


def test_paths_outside_the_root_stay_absolute(tmp_path: Path) -> None:
    touch(tmp_path, "here/1.jpg", "there/2.jpg")
    frame = pd.DataFrame({"path": ["1.jpg", tmp_path / "there" / "2.jpg"], "label": ["a", "b"]})
    index = from_dataframe(frame, tmp_path / "here")
    assert index.ids() == ["1.jpg", (tmp_path / "there" / "2.jpg").as_posix()]
    assert index.path(1).is_file()


@pytest.mark.parametrize("labels", [[1, 10, 2], [1.0, 10.0, 2.0], ["1", "10", "2"], pd.Categorical(["1", "10", "2"])])
def test_labels_of_a_data_frame_may_be_numbers(tmp_path: Path, labels: object) -> None:
    touch(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    index = from_dataframe(pd.DataFrame({"path": ["1.jpg", "2.jpg", "3.jpg"], "label": labels}), tmp_path)
    assert index.classes == ("1", "10", "2")
    assert index.labels.tolist() == [0, 1, 2]


# Columns

SIX = [f"img/{number}.jpg" for number in range(6)]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("image,category", "path: image, label: category"),
        ("Image ID,Class", "path: Image ID, label: Class"),
        ("file_name,species", "path: file_name, label: species"),
        ("filepaths,labels", "path: filepaths, label: labels"),
        ("img,classname", "path: img, label: classname"),
        ("id_code,diagnosis", "path: id_code, label: diagnosis"),
    ],
)
@pytest.mark.parametrize("name", ["img/{}.jpg", "{}.jpg", "{}", "img/{}"])
def test_columns_are_found_by_name_and_by_what_is_in_them(tmp_path: Path, header: str, said: str, name: str) -> None:
    touch(tmp_path, *SIX)
    rows = "\n".join(f"{name.format(number)},{'ab'[number % 2]}" for number in range(6))
    index = read_images(write_csv(tmp_path, f"{header}\n{rows}"))
    assert named(index) == [(path, "ab"[number % 2], "") for number, path in enumerate(SIX)]
    assert index.layout == f"table images.csv ({said})"


def test_without_a_header_the_columns_are_known_by_what_is_in_them(tmp_path: Path) -> None:
    touch(tmp_path, *SIX)
    rows = "\n".join(f"{number},{'ab'[number % 2]},{path},train" for number, path in enumerate(SIX))
    index = read_images(write_csv(tmp_path, rows))
    assert [label for _, label, _ in named(index)] == list("ababab")
    assert set(index.table["split"]) == {"train"}
    index = read_images(write_csv(tmp_path, "\n".join(f"{n},{'ab'[n % 2]}" for n in range(6))))
    assert named(index) == [(path, "ab"[n % 2], "") for n, path in enumerate(SIX)]


@pytest.mark.parametrize("start", ["C:\\Users\\me\\photos\\", "/home/me/", "https://example.org/files/", "old/place/"])
def test_paths_of_another_place_are_known_by_their_ends(tmp_path: Path, start: str) -> None:
    touch(tmp_path, *SIX, "other/0.jpg")
    rows = "\n".join(f"{start}{path},{'ab'[number % 2]}" for number, path in enumerate(SIX))
    index = read_images(write_csv(tmp_path, f"path,label\n{rows}"))
    assert index.ids() == SIX
    assert "found by the end of their paths, as img/0.jpg; 1 other image left out" in index.layout


def test_a_path_that_is_missing_does_not_mean_a_file_of_its_name_elsewhere(tmp_path: Path) -> None:
    touch(tmp_path, "train/0.jpg", "train/1.jpg")
    table = write_csv(tmp_path, "path,label\ntrain/0.jpg,a\ntrain/1.jpg,b\nval/1.jpg,a\n")
    with pytest.raises(UserError, match=r"1 of its 3 images does not exist \(val/1\.jpg\)"):
        read_images(table)


def test_where_paths_stand_nothing_else_of_the_disk_is_looked_through(tmp_path: Path) -> None:
    touch(tmp_path, *SIX, "d/" * 120 + "1.jpg")  # too deep to be read
    rows = "\n".join(f"{path},{'ab'[n % 2]},p{n}" for n, path in enumerate(SIX))
    assert len(read_images(write_csv(tmp_path, f"path,label,group\n{rows}"))) == 6


def test_of_equal_ids_those_of_the_own_split_are_meant(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{part}/{number}.jpg" for part in ("train_images", "test_images") for number in range(4)))
    index = read_images(write_csv(tmp_path, "id,label\n0,a\n1,b\n2,a\n3,b"))
    assert index.ids() == [f"train_images/{number}.jpg" for number in range(4)]
    index = read_images(write_csv(tmp_path, "id,label,split\n0,a,train\n1,b,train\n2,a,test\n3,b,test"))
    assert index.ids()[2:] == ["test_images/2.jpg", "test_images/3.jpg"]


@pytest.mark.parametrize("hot", [("1", "0"), ("1.0", "0.0"), ("True", "False"), ("0.7", "0.15")])
def test_a_column_for_each_class_gives_the_largest(tmp_path: Path, hot: tuple[str, str]) -> None:
    touch(tmp_path, *SIX)
    rows = "\n".join(f"{n},{','.join(hot[k != n % 3] for k in range(3))}" for n in range(6))
    index = read_images(write_csv(tmp_path, f"image_id,rust,scab,healthy\n{rows}"))
    assert [label for _, label, _ in named(index)] == ["rust", "scab", "healthy"] * 2
    assert index.layout == "table images.csv (path: image_id, label: 3 columns)"


@pytest.mark.parametrize(
    ("header", "cells"),
    [("is_valid", ["False", "True"]), ("is_valid", ["0", "1"]), ("set", ["Training", "valid"]), ("split", "train val")],
)
def test_splits_come_as_words_and_as_flags(tmp_path: Path, header: str, cells: list[str] | str) -> None:
    touch(tmp_path, *SIX)
    words = cells.split() if isinstance(cells, str) else cells
    rows = "\n".join(f"{path},{'ab'[n % 2]},{words[n > 3]}" for n, path in enumerate(SIX))
    index = read_images(write_csv(tmp_path, f"path,label,{header}\n{rows}"))
    assert index.table["split"].tolist() == ["train"] * 4 + ["val"] * 2


def test_floats_that_number_classes_lose_their_zeros_and_folds_are_no_splits(tmp_path: Path) -> None:
    touch(tmp_path, *SIX)
    rows = "\n".join(f"{path},{n % 2}.0,{n % 3},{n % 3}" for n, path in enumerate(SIX))
    index = read_images(write_csv(tmp_path, f"path,label,fold,split\n{rows}"))
    assert index.classes == ("0", "1")
    assert index.layout == "table images.csv (path, label; unused: fold, split)"


def test_names_of_classes_come_before_their_numbers(tmp_path: Path) -> None:
    touch(tmp_path, *SIX)
    rows = "\n".join(f"{path},{n % 2},{'ab'[n % 2]}" for n, path in enumerate(SIX))
    assert read_images(write_csv(tmp_path, f"Filename,Label,ClassName\n{rows}")).classes == ("a", "b")


def test_accents_and_capital_suffixes_are_the_same_however_they_are_written(tmp_path: Path) -> None:
    touch(tmp_path, "Ma\u0308dchen/1.JPG", "Ma\u0308dchen/2.jpg")
    index = read_images(write_csv(tmp_path, "path,label\nM\u00e4dchen/1.jpg,a\nM\u00e4dchen/2.jpg,b"))
    assert index.ids() == ["Ma\u0308dchen/1.JPG", "Ma\u0308dchen/2.jpg"]


def test_named_columns_come_first(tmp_path: Path) -> None:
    touch(tmp_path, *SIX)
    rows = "\n".join(f"{n},{n + 1},{'ab'[n % 2]},{'xyz'[n % 3]},{n // 2}" for n in range(5))
    table = write_csv(tmp_path, f"id,next,label,kind,camera\n{rows}")
    reading = Reading(path_column="next", label_column="kind", group_column="camera")
    index = read_images(table, reading=reading)
    assert index.ids() == SIX[1:]
    assert index.classes == ("x", "y", "z")
    assert index.table["group"].tolist() == ["0", "0", "1", "1", "2"]
    with pytest.raises(UserError, match=r"no column 'kin' as --data\.label_column kin says.*Did you mean 'kind'"):
        read_images(table, reading=replace(reading, label_column="kin"))


def test_images_lie_where_the_image_folder_says(tmp_path: Path) -> None:
    touch(tmp_path, "tables/images.csv", *(f"{place}/{path}" for place in ("old", "new") for path in SIX))
    table = write_csv(tmp_path / "tables", "image,label\n" + "\n".join(f"{n},{'ab'[n % 2]}" for n in range(6)))
    index = read_images(table, reading=Reading(image_folder="../new"))
    assert index.path(0) == tmp_path / "new" / "img" / "0.jpg"
    with pytest.raises(UserError, match=r"--data\.image_folder nwe is no folder in"):
        read_images(table, reading=Reading(image_folder="nwe"))


# What is wrong


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("path,label\n1.jpg,a\n1.jpg,b", r"gives 1 image more than one label \(1\.jpg: a, b\)"),
        ("path,label\n1.jpg,a\n./1.jpg,b", "more than one label"),
        ("path,label,split\n1.jpg,a,train\n1.jpg,a,val\n2.jpg,b,train", r"more than one split \(1\.jpg: train, val\)"),
        ("path,label\n1.jpg,a\n9.jpg,b", r"1 of its 2 images does not exist \(9\.jpg\); correct them\."),
        ("path,label\n8.jpg,a\n9.jpg,b", r"nothing in its column 'path' \(8\.jpg, 9\.jpg\) is an image below"),
        ("path,label\n1.jpg,a\n2.jpg,", r"1 row has no label \(2\.jpg\); label them, remove them, or give .* predict"),
        ("path,label\n1.jpg,a\n,b", "1 row names no image"),
        ("path,label\n1.jpg,a|b\n2.jpg,a", r"'a\|b' looks like several labels.*write its name without '\|'"),
        ("path,label\n1.jpg,a;b\n2.jpg,a", "'a;b' looks like several labels.*write its name without ';'"),
        ('path,label\n1.jpg,rust\n2.jpg,scab\n3.jpg,"rust, scab"', "'rust, scab' looks like several"),
        ("path,label\n1.jpg,1 2\n2.jpg,1", "'1 2' looks like several labels"),
        ("path,label_1,label_2\n1.jpg,a,b\n2.jpg,b,c", "several label columns, label_1, label_2"),
        ("path,label,split\n1.jpg,a,train\n2.jpg,b,trian", r"'trian' is no split.*Did you mean 'train'\?$"),
        ("path,label,split\n1.jpg,a,train\n2.jpg,b,", "1 row has no split; give all or none"),
        ("path,label,is_valid\n1.jpg,a,maybe\n2.jpg,b,1", "'maybe' in column 'is_valid' is neither true nor false"),
        ("path,label,split\n1.jpg,a,train\n2.jpg,b,train\n3.jpg,c,val", "'c' is in val but not in train"),
        ("path,label,split\n1.jpg,a,val\n2.jpg,b,val", "no images to train on"),
        ("path,a,b\n1.jpg,1,0\n2.jpg,1,1\n3.jpg,0,0", r"1 row has no label \(3\.jpg\).*1 row has several.*2\.jpg"),
        ("path,a,b\n1.jpg,1,0\n2.jpg,0.5,0.5", r"1 row has several classes, such as 2\.jpg with a, b"),
        ("path,label\n", "no rows"),
        ("path,label,split\n1.jpg,,trian\n9.jpg,a|b,train", "1 of its 2 images.*1 row has no label.*no split|'trian'"),
    ],
)  # fmt: skip
def test_a_table_that_makes_no_sense_is_refused_in_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    touch(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    with pytest.raises(UserError, match=sentence):
        read_images(write_csv(tmp_path, text))


@pytest.mark.parametrize(
    ("header", "row", "classes"),
    [
        ("image,lable,age", "{n},{ab},{n}", "ab"),
        ("image,age,dx", "{n},{n},{ab}", "ab"),
        ("image,species,breed", "{n},{ab},{xyz}", "xyz"),
        ("image,label_1,label_2", "{n},{ab},{xyz}", "ab"),
        ("image,rust,scab", "{n},{zero_one},1", "01"),
    ],
)
def test_a_refusal_shows_what_is_to_be_typed(tmp_path: Path, header: str, row: str, classes: str) -> None:
    touch(tmp_path, *SIX)
    rows = (row.format(n=n, ab="ab"[n % 2], xyz="xyz"[n % 3], zero_one=n % 2) for n in range(6))
    table = write_csv(tmp_path, "\n".join([header, *rows]))
    index = as_it_says(lambda: read_images(table))
    assert index.classes == tuple(classes)
    assert len(index) == 6


def test_a_refusal_names_the_folder_of_the_images(tmp_path: Path) -> None:
    touch(tmp_path, "the tables/images.csv", *SIX)
    table = write_csv(tmp_path / "the tables", "id,kind,size\n" + "\n".join(f"{n},{'ab'[n % 2]},{n}" for n in range(6)))
    assert as_it_says(lambda: read_images(table)).classes == ("a", "b")


def test_names_that_fit_several_images_are_refused_with_the_folder_to_type(tmp_path: Path) -> None:
    touch(tmp_path, *SIX, *(path.replace("img", "masks") for path in SIX))
    table = write_csv(tmp_path, "id,label\n" + "\n".join(f"{n},{'ab'[n % 2]}" for n in range(6)))
    with pytest.raises(UserError, match=r"6 names fit more than one image \(0 fits img/0\.jpg, masks/0\.jpg\)"):
        read_images(table)
    assert as_it_says(lambda: read_images(table)).path(0) == tmp_path / "img" / "0.jpg"


def test_two_columns_of_images_are_refused_with_the_one_to_type(tmp_path: Path) -> None:
    touch(tmp_path, *SIX, *(path.replace("img", "masks") for path in SIX))
    rows = "\n".join(f"{path},{path.replace('img', 'masks')},{'ab'[n % 2]}" for n, path in enumerate(SIX))
    table = write_csv(tmp_path, f"left,right,label\n{rows}")
    assert as_it_says(lambda: read_images(table)).ids() == SIX


def test_missing_files_are_left_out_and_counted_when_they_may(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "2.jpg")
    table = write_csv(tmp_path, "path,label\n1.jpg,a\n2.jpg,b\n3.jpg,a\n")
    with pytest.raises(UserError, match=r"leave them out with --data\.on_bad_image skip"):
        read_images(table, reading=Reading(on_bad_image="stop"))
    index = read_images(table, reading=Reading(on_bad_image="skip"))
    assert index.ids() == ["1.jpg", "2.jpg"]
    assert index.missing == ("3.jpg",)
    assert index.layout == "table images.csv (path, label); 1 image that it names is not there"
    write_csv(tmp_path, "path,label\n1.jpg,a\n2.jpg,b\n3.jpg,c\n")
    with pytest.raises(UserError, match="none of the images of class 'c' is there"):
        read_images(table, reading=Reading(on_bad_image="skip"))


def test_rows_that_say_the_same_again_count_once(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "2.jpg")
    index = read_images(write_csv(tmp_path, "path,label\n1.jpg,a\n2.jpg,b\n./1.jpg,a\n"))
    assert len(index) == 2
    assert index.layout == "table images.csv (path, label); 1 row says what another has said"


@pytest.mark.parametrize(
    "labels", ["hot dog,dog,hot", "bell pepper,pepper,bell", "sea lion,lion,sea", "rust scab,scab,rust"]
)
def test_class_names_of_several_words_are_not_lists(tmp_path: Path, labels: str) -> None:
    touch(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    rows = "\n".join(f"{number}.jpg,{label}" for number, label in enumerate(labels.split(","), start=1))
    index = read_images(write_csv(tmp_path, f"path,label\n{rows}"))
    assert index.classes == tuple(sorted(labels.split(",")))


def test_a_comma_in_a_class_name_is_no_list_unless_all_parts_are_classes(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    index = read_images(write_csv(tmp_path, 'path,label\n1.jpg,"fox, red"\n2.jpg,fox\n3.jpg,"a,"'))
    assert index.classes == ("a,", "fox", "fox, red")


# Data frames


def test_lists_in_a_data_frame_are_several_labels(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "2.jpg")
    frame = pd.DataFrame({"path": ["1.jpg", "2.jpg"], "label": [["a", "b"], ["a"]]})
    with pytest.raises(UserError, match="more than one label"):
        from_dataframe(frame, tmp_path)


def test_a_data_frame_is_refused_in_the_words_of_python(tmp_path: Path) -> None:
    touch(tmp_path, *SIX)
    frame = pd.DataFrame({"image": SIX, "Lable": list("ababab"), "age": range(6)})
    with pytest.raises(UserError, match=r'say it: path_column="image", label_column="Lable"$'):
        from_dataframe(frame, tmp_path)
    reading = Reading(path_column="image", label_column="Lable")
    assert from_dataframe(frame, tmp_path, reading).classes == ("a", "b")
    with pytest.raises(UserError, match="two columns of one name"):
        from_dataframe(frame.set_axis(["image", "a", "a"], axis=1), tmp_path)


# Images to predict


@pytest.mark.parametrize(
    "text", ["id,path\n1,img/1.jpg\n2,img\\2.jpg", "image_id\n1\n2", "img/1.jpg\nimg/2.jpg", "1\n2"]
)
def test_a_table_of_images_to_predict_needs_no_labels(tmp_path: Path, text: str) -> None:
    touch(tmp_path, *SIX)
    assert unlabelled(write_csv(tmp_path, text)).ids() == ["img/1.jpg", "img/2.jpg"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("id,kind\n1,a", "nothing in its column 'id' \\(1\\) is an image below"),
        ("path\n9.jpg", "nothing in its column 'path' \\(9\\.jpg\\) is an image below"),
        ("path\n0.jpg\n9.jpg", "1 of its 2 images does not exist \\(9\\.jpg\\)"),
    ],
)
def test_a_table_without_images_is_refused_in_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    touch(tmp_path, "0.jpg")
    with pytest.raises(UserError, match=sentence):
        unlabelled(write_csv(tmp_path, text))
