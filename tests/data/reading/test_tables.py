from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from resnet_tl.data.index import ImageIndex
from resnet_tl.data.reading.layouts import from_dataframe, read_images
from resnet_tl.data.reading.options import Reading
from resnet_tl.data.reading.tables import images_in
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
    assert index.layout == "CSV file images.csv: train, val, predict"


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


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("file,label\n1.jpg,a", "no column 'path', only file, label"),
        ("path,labl\n1.jpg,a", "no column 'label'.*'labl'"),
        ("path,label\n1.jpg,a\n1.jpg,b", "names a path twice, such as 1.jpg"),
        ("path,label\n1.jpg,a\n./1.jpg,b", "twice"),
        ("path,label\n1.jpg,a\n9.jpg,b", "does not exist, such as .*9.jpg"),
        ("path,label\n1.jpg,a\n2.jpg,", "no label for 2.jpg"),
        ("path,label\n1.jpg,a|b\n2.jpg,a", r"'a\|b', which looks like several labels.*write its name without '\|'"),
        ("path,label\n1.jpg,a;b\n2.jpg,a", "'a;b', which looks like several labels.*write its name without ';'"),
        ('path,label\n1.jpg,rust\n2.jpg,scab\n3.jpg,"rust, scab"', "'rust, scab', which looks like several"),
        ("id," + ",".join(f"c{n}" for n in range(1, 30)) + "\n", "only id, c1, .*, c9 and 20 more"),
        ("path,label_1,label_2\n1.jpg,a,b\n2.jpg,b,c", "several label columns"),
        ("path,label,split\n1.jpg,a,train\n2.jpg,b,trian", "split 'trian'.*Did you mean 'train'"),
        ("path,label,split\n1.jpg,a,train\n2.jpg,b,", "give all or none"),
        ("path,label,split\n1.jpg,a,train\n2.jpg,b,train\n3.jpg,c,val", "'c' is in val but not in train"),
        ("path,label,split\n1.jpg,a,val\n2.jpg,b,val", "no images to train on"),
        ("path,label\n", "no rows"),
        ("", "is empty; its first line must name its columns"),
        ("path;label\n1.jpg;a", "separates its columns by ';'; separate them by commas"),
        ("Path,label\n1.jpg,a", "has no column 'path', only Path, label. Rename 'Path' to 'path'."),
        ("path,lable\n1.jpg,a", "has no column 'label', only path, lable. Rename 'lable' to 'label'."),
        ('path,label\n"1.jpg,a', "cannot be read as a CSV"),
    ],
)
def test_a_csv_that_makes_no_sense_is_refused_in_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    touch(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    with pytest.raises(UserError, match=sentence):
        read_images(write_csv(tmp_path, text))


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


def test_lists_in_a_data_frame_are_several_labels(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "2.jpg")
    frame = pd.DataFrame({"path": ["1.jpg", "2.jpg"], "label": [["a", "b"], ["a"]]})
    with pytest.raises(UserError, match="more than one label"):
        from_dataframe(frame, tmp_path)


def test_the_paths_of_a_csv_need_no_labels(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "b/2.jpg")
    listed = images_in(write_csv(tmp_path, "id,path\n1,1.jpg\n2,b\\2.jpg"), Reading())
    assert listed[0] == [str(tmp_path / "1.jpg"), str(tmp_path / "b" / "2.jpg")]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("id,file\n1,1.jpg", "no column 'path'"), ("path\n9.jpg", r"does not exist, such as .*9\.jpg")],
)
def test_a_csv_without_paths_is_refused_in_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        images_in(write_csv(tmp_path, text), Reading())
