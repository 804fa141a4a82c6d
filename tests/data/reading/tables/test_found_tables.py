from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from resnet_tl.data.reading.layouts import read_images
from resnet_tl.data.reading.options import Reading
from resnet_tl.errors import UserError


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text or "only the name is read here", encoding="utf-8")
    return root


def images(pattern: str, count: int) -> dict[str, str]:
    return {pattern.format(number, "ab"[number % 2]): "" for number in range(count)}


def rows(header: str, pattern: str, count: int) -> str:
    lines = (pattern.format(n, "ab"[n % 2], int(n % 2 == 0), n % 2, n // 2) for n in range(count))
    return "\n".join([header, *lines]) + "\n"


SAMPLE = rows("image_id,label", "t{0}.jpg,0", 4)
KAGGLE = {**images("train_images/{0}.jpg", 6), **images("test_images/t{0}.jpg", 4), "sample_submission.csv": SAMPLE}


@pytest.mark.parametrize(
    ("files", "layout"),
    [
        (
            {**KAGGLE, "train.csv": rows("image_id,label", "{0}.jpg,{1}", 6)},
            "table train.csv (path: image_id, label); 4 other images left out, no row names them",
        ),
        (
            {**KAGGLE, "train.csv": rows("id_code,diagnosis", "{0},{1}", 6), "test.csv": rows("id_code", "t{0}", 4)},
            "table train.csv (path: id_code, label: diagnosis); 4 other images left out, no row names them",
        ),
        (
            {**images("images/Train_{0}.jpg", 6), **images("images/Test_{0}.jpg", 4),
             "train.csv": rows("image_id,a,b", "Train_{0},{2},{3}", 6), "test.csv": rows("image_id", "Test_{0}", 4),
             "sample_submission.csv": rows("image_id,a,b", "Test_{0},0.5,0.5", 4)},
            "table train.csv (path: image_id, label: 2 columns); 4 other images left out, no row names them",
        ),
        (
            {**images("train/{0}.jpg", 6), **images("test/{0}.jpg", 4), "labels.csv": rows("id,breed", "{0},{1}", 6)},
            "table labels.csv (path: id, label: breed); 4 other images left out, no row names them",
        ),
        (
            {**images("imgs/train/{1}/img_{0}.jpg", 6), **images("imgs/test/img_{0}.jpg", 4),
             "driver_imgs_list.csv": rows("subject,classname,img", "p{4},{1},img_{0}.jpg", 6)},
            "table driver_imgs_list.csv (path: img, label: classname, group: subject); "
            "4 other images left out, no row names them",
        ),
        (
            {**images("data/{0}.jpg", 6), "metadata.csv": rows("file_name,label", "data/{0}.jpg,{1}", 6)},
            "table metadata.csv (path: file_name, label)",
        ),
        (
            {**images("dataset/pics/{0}.jpg", 6), "dataset/notes/list.tsv": rows("image\tclass", "{0}\t{1}", 6)},
            "table notes/list.tsv (path: image, label: class)",
        ),
    ],
    ids=["cassava", "aptos", "plant pathology", "dog breed", "state farm", "Hugging Face", "wrapped"],
)  # fmt: skip
def test_a_table_among_its_images_labels_them(tmp_path: Path, files: dict[str, str], layout: str) -> None:
    index = read_images(write(tmp_path, files))
    assert index.layout == layout
    assert index.classes == ("a", "b")
    assert [index.classes[label] for label in index.labels] == list("ababab")
    assert set(index.table["split"]) == {""}


def test_a_group_comes_from_the_table_beside_class_folders(tmp_path: Path) -> None:
    files = {**images("{1}/{0}.jpg", 6), "list.csv": rows("subject,classname,img", "p{4},{1},{0}.jpg", 6)}
    assert read_images(write(tmp_path, files)).table["group"].tolist() == ["p0", "p0", "p1", "p1", "p2", "p2"]


def test_a_table_without_classes_adds_its_groups_and_splits_to_class_folders(tmp_path: Path) -> None:
    write(tmp_path / "one", {**images("{1}/{0}.jpg", 6), "patients.csv": rows("image,patient", "{0}.jpg,{4}", 6)})
    index = read_images(tmp_path / "one")
    assert index.table["group"].tolist() == ["0", "1", "2", "0", "1", "2"]
    assert index.layout == "class folders: <class>; group: patient of patients.csv"

    write(tmp_path / "one", {"split.csv": rows("image,set", "{0}.jpg,train", 4) + "4.jpg,val\n5.jpg,val\n"})
    index = read_images(tmp_path / "one")
    assert index.counts().to_numpy().tolist() == [[2, 1], [2, 1]]
    assert index.table["group"].nunique() == 3

    text = rows("image,split", "{1}/{0}.jpg,train", 4) + "a/4.jpg,val\nb/5.jpg,val\n"
    write(tmp_path / "two", {**images("{1}/{0}.jpg", 8), "split.csv": text})
    index = read_images(tmp_path / "two")
    assert index.counts().to_numpy().tolist() == [[2, 1], [2, 1]]
    assert index.layout.endswith("split: split of split.csv; 2 images left out, it says no split of theirs")


def test_a_table_that_repeats_the_splits_of_the_folders_adds_nothing(tmp_path: Path) -> None:
    text = rows("filepaths,labels,data set", "train/{1}/{0}.jpg,{1},train", 6)
    text += rows("", "valid/{1}/{0}.jpg,{1},valid", 4) + "train/a/gone.jpg,a,train\n"
    files = {**images("train/{1}/{0}.jpg", 6), **images("valid/{1}/{0}.jpg", 4), "birds.csv": text}
    assert read_images(write(tmp_path, files)).layout == "split folders: train/<class>, valid/<class>"


@pytest.mark.parametrize(
    ("split", "folder", "name", "path"),
    [("test", "Test", "Test.csv", "Test/{0}.jpg"), ("test", "test", "test_labels.csv", "{0}"),
     ("val", "val/images", "val/labels.csv", "images/{0}.jpg")],
)  # fmt: skip
def test_a_table_of_images_to_judge_by_leaves_the_class_folders_to_learn_from(
    tmp_path: Path, split: str, folder: str, name: str, path: str
) -> None:
    files = {
        **images("train/{1}/{0}.jpg", 6),
        **images(folder + "/{0}.jpg", 4),
        name: rows("Path,ClassId", path + ",{1}", 4),
    }
    index = read_images(write(tmp_path, files))
    assert index.counts()[["train", split]].to_numpy().tolist() == [[3, 2], [3, 2]]
    assert index.layout == f"class folders: train/<class>; {split}: 4 images of {name} (path: Path, label: ClassId)"
    assert read_images(tmp_path, learns=False).classes == ("a", "b")

    write(tmp_path, {name: rows("Path,ClassId", path + ",{1}x", 4)})
    with pytest.raises(UserError, match=f"class 'ax' is in {split} but not in train"):
        read_images(tmp_path)


@pytest.mark.parametrize("name", ["_classes.csv", "metadata.jsonl"])
def test_each_split_may_have_its_table(tmp_path: Path, name: str) -> None:
    for split, count in (("train", 6), ("valid", 4), ("test", 2)):
        write(tmp_path / split, images("{0}_jpg.rf.1.jpg", count))
        if name == "_classes.csv":
            text = rows("filename, a, b", "{0}_jpg.rf.1.jpg, {2}, {3}", count)
        else:
            lines = [{"file_name": f"{n}_jpg.rf.1.jpg", "label": "ab"[n % 2], "size": [n, n]} for n in range(count)]
            text = "\n".join(map(json.dumps, lines))
        write(tmp_path / split, {name: text})
    index = read_images(tmp_path)
    assert index.counts().to_numpy().tolist() == [[3, 2, 1], [3, 2, 1]]
    assert index.layout.startswith(f"tables train/{name}, valid/{name}, test/{name} (path: file")


def test_tables_called_after_splits_belong_together(tmp_path: Path) -> None:
    files = {**images("Train/{1}/{0}.png", 6), **images("Test/{0}.png", 4), **images("Meta/{0}.png", 2)}
    files["Train.csv"] = rows("Width,ClassId,Path", "30,{1},Train/{1}/{0}.png", 6)
    files["Test.csv"] = rows("Width,ClassId,Path", "30,{1},Test/{0}.png", 4)
    files["Meta.csv"] = rows("Path,ClassId,ShapeId", "Meta/{0}.png,{1},1", 2)
    index = read_images(write(tmp_path, files))
    assert index.table["split"].tolist() == ["train"] * 6 + ["test"] * 4
    assert index.layout.endswith("; 2 other images left out, no row names them; not read: Meta.csv")


@pytest.mark.parametrize(
    "beside",
    [
        {"labels.csv": rows("image,label", "{1}/{0}.jpg,{1}", 6)},
        {"labels.csv": rows("image,label", "{1}/{0}.jpg,{3}", 6)},
        {"labels.csv": rows("image,label", "{1}/{0}.jpg,{1}", 6) + "gone.jpg,a\n"},
        {"sizes.csv": rows("path,width,height", "{1}/{0}.jpg,64,4{3}", 6)},
        {"findings.csv": rows("path,finding,detail,partner,suggestion", "{1}/{0}.jpg,leak,,,exclude", 6)},
        {"predictions.csv": rows("id,path,label,predicted,prob_a,prob_b", "{1}/{0}.jpg,{1}/{0}.jpg,,a,0.5,0.5", 6)},
        {"sample_submission.csv": rows("id,label", "{0},{1}", 6)},
        {"form.csv": rows("id,label", "{0},0", 6)},
        {"prices.csv": rows("path,label", "x{0},{1}", 6)},
        {"broken.csv": "\0\0", "notes.csv": 'a,b\n"'},
        {**images("a/more{0}.jpg", 90), "examples.csv": rows("path,label", "{1}/{0}.jpg,x{3}", 4)},
    ],
    ids=["agrees", "numbers", "outdated", "sizes", "findings", "predictions", "sample", "form", "else", "none", "few"],
)  # fmt: skip
def test_folders_of_classes_stay_what_they_are(tmp_path: Path, beside: dict[str, str]) -> None:
    index = read_images(write(tmp_path, {**images("{1}/{0}.jpg", 6), **beside}))
    assert index.layout == "class folders: <class>"
    assert index.classes == ("a", "b")


def test_a_table_that_contradicts_the_folders_is_refused_with_both_readings(tmp_path: Path) -> None:
    text = rows("image,label", "{0}.jpg,{1}", 7) + "7.jpg,a\n"
    write(tmp_path, {**images("{1}/{0}.jpg", 8), "labels.csv": text})
    with pytest.raises(UserError, match=r"contradicts the folders of 1 of 8 images: it calls b/7\.jpg 'a'") as caught:
        read_images(tmp_path)
    by_table, by_folder = str(caught.value).partition("say which is right: ")[2].split(" or ")
    assert read_images(shlex.split(by_table)[1]).counts()["unsplit"].tolist() == [5, 3]
    root, layout = shlex.split(by_folder)[1::2]
    assert read_images(root, reading=Reading(layout=layout)).counts()["unsplit"].tolist() == [4, 4]  # type: ignore[arg-type]


def test_columns_that_cannot_be_told_are_asked_for_with_all_that_is_to_be_typed(tmp_path: Path) -> None:
    files = {f"part_{1 + n % 2}/ISIC_{n}.jpg": "" for n in range(12)}
    text = rows("lesion_id,image_id,dx,dx_type,age", "L{4},ISIC_{0},{1},histo{3},4{0}", 12)
    write(tmp_path, {**files, "metadata.csv": text})
    with pytest.raises(UserError) as caught:
        read_images(tmp_path)
    typed = f"say it: --data.root {tmp_path} --data.path_column image_id --data.label_column dx (or"
    assert typed in str(caught.value)
    index = read_images(tmp_path, reading=Reading(path_column="image_id", label_column="dx"))
    assert index.classes == ("a", "b")
    assert index.table["group"].nunique() == 6


def test_ids_that_fit_two_folders_are_refused_with_the_folder_to_type(tmp_path: Path) -> None:
    files = {**images("images/{0}.jpg", 6), **images("masks/{0}.jpg", 6), "l.csv": rows("image,label", "{0},{1}", 6)}
    with pytest.raises(UserError) as caught:
        read_images(write(tmp_path, files))
    assert str(caught.value).endswith(
        f"--data.root {tmp_path} --data.path_column image --data.image_folder {tmp_path}/images"
    )
    index = read_images(tmp_path, reading=Reading(path_column="image", image_folder=f"{tmp_path}/images"))
    assert index.ids()[0] == "images/0.jpg"


def test_several_tables_are_refused_with_the_one_to_type(tmp_path: Path) -> None:
    text = rows("image,label", "{0}.jpg,{1}", 6)
    write(tmp_path, {**images("img/{0}.jpg", 6), "old.csv": text, "new.csv": text})
    with pytest.raises(UserError, match=r"several tables of labels, new\.csv, old\.csv; say which: ") as caught:
        read_images(tmp_path)
    assert len(read_images(str(caught.value).rpartition("--data.root ")[2])) == 6


@pytest.mark.parametrize(
    ("reading", "sentence"),
    [
        (Reading(label_column="kind"), r"--data\.label_column is for tables, and no table in .* names images"),
        (Reading("class_folders", image_folder="a"), r"image_folder is for tables, which --data\.layout class_folders"),
    ],
)
def test_what_is_said_of_tables_needs_one(tmp_path: Path, reading: Reading, sentence: str) -> None:
    write(tmp_path, images("{1}/{0}.jpg", 6))
    with pytest.raises(UserError, match=sentence):
        read_images(tmp_path, reading=reading)


@pytest.mark.parametrize(("place", "layout"), [("train", ""), ("train/{1}", "split_folders"), ("{1}", "class_folders")])
def test_a_question_names_the_layout_by_which_folders_have_classes(tmp_path: Path, place: str, layout: str) -> None:
    text = rows("id,dx,localization", "{0},x{3},y{1}", 6)
    write(
        tmp_path,
        {**images(f"{place}/{{0}}.jpg", 6), **images("test/t{0}.jpg", 2 * ("train" in place)), "train.csv": text},
    )
    with pytest.raises(UserError, match=r"--data\.label_column dx") as caught:
        read_images(tmp_path)
    assert str(caught.value).partition("--data.layout ")[2] == (layout and f"{layout} leaves the table aside")
    if layout:
        assert read_images(tmp_path, reading=Reading(layout=layout)).classes == ("a", "b")


def test_a_folder_of_zips_says_how_to_unpack_them(tmp_path: Path) -> None:
    write(tmp_path, images("{1}/{0}.jpg", 6))
    for name in "ab":
        shutil.make_archive(str(tmp_path / f"zips here/{name}"), "zip", tmp_path / name)
    with pytest.raises(UserError, match=r"no images, but a\.zip, b\.zip; unpack: ") as caught:
        read_images(tmp_path / "zips here")
    for command in str(caught.value).partition("unpack: ")[2].split(" && "):
        subprocess.run([sys.executable, *shlex.split(command)[1:]], check=True)
    assert read_images(tmp_path / "zips here").classes == ("a", "b")


def test_a_layout_that_is_said_leaves_tables_aside(tmp_path: Path) -> None:
    write(tmp_path, {**images("{1}/{0}.jpg", 6), "labels.csv": rows("image,label", "{0}.jpg,x{3}", 6)})
    assert read_images(tmp_path).classes == ("x0", "x1")
    assert read_images(tmp_path, reading=Reading(layout="class_folders")).classes == ("a", "b")
    with pytest.raises(UserError, match=r"is a table, which has no folders: leave out --data\.layout"):
        read_images(tmp_path / "labels.csv", reading=Reading(layout="class_folders"))


def test_a_zip_holds_its_table(tmp_path: Path) -> None:
    text = rows("image,label", "{0}.jpg,{1}", 6)
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for name, content in {**images("photos/img/{0}.jpg", 6), "photos/a.csv": text, "photos/b.csv": text}.items():
            archive.writestr(name, content)
    with pytest.raises(UserError) as caught:
        read_images(tmp_path / "photos.zip")
    typed = str(caught.value).rpartition("--data.root ")[2]
    assert typed.startswith(f"{tmp_path}/photos.zip/")
    assert len(read_images(typed)) == 6
