from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from resnet_tl.data.index import ImageIndex
from resnet_tl.data.reading.layouts import from_dataframe, read_images, unlabelled
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


def test_class_folders_are_numbered_in_string_order(tmp_path: Path) -> None:
    index = read_images(touch(tmp_path, "10/a.jpg", "2/b.jpg", "1/c.jpg", "B/d.jpg", "a/e.jpg"))
    assert index.classes == ("1", "10", "2", "B", "a")
    assert index.layout == "class folders: <class>"
    assert set(index.table["split"]) == {""}


@pytest.mark.parametrize("validation", ["val", "valid", "validation", "Val"])
def test_split_folders_are_read_whatever_validation_is_called(tmp_path: Path, validation: str) -> None:
    index = read_images(touch(tmp_path, "train/a/1.jpg", "train/b/2.jpg", f"{validation}/b/3.jpg", "test/a/4.jpg"))
    assert named(index) == [
        ("train/a/1.jpg", "a", "train"),
        ("train/b/2.jpg", "b", "train"),
        (f"{validation}/b/3.jpg", "b", "val"),
        ("test/a/4.jpg", "a", "test"),
    ]
    assert index.layout == f"split folders: train/<class>, {validation}/<class>, test/<class>"


def test_a_class_missing_in_val_shifts_nothing(tmp_path: Path) -> None:
    index = read_images(
        touch(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "train/c/3.jpg", "val/a/4.jpg", "val/c/5.jpg")
    )
    assert index.classes == ("a", "b", "c")
    assert index.labels[index.rows("val")].tolist() == [0, 2]


def test_train_alone_is_left_to_be_split_and_a_test_folder_without_labels_is_left_out(tmp_path: Path) -> None:
    index = read_images(touch(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "test/1.jpg", "test/img_2.jpg"))
    assert named(index) == [("train/a/1.jpg", "a", ""), ("train/b/2.jpg", "b", "")]
    assert index.layout == "class folders: train/<class>; test/ left out (2 images without labels)"


def test_folders_that_are_left_out_are_named_up_to_ten(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/b/2.jpg", *(f"more{number:02d}/1.jpg" for number in range(30)))
    named = ", ".join(f"more{number:02d}/" for number in range(10))
    assert read_images(tmp_path).layout.endswith(f"; {named} and 20 more left out (30 images)")


@pytest.mark.parametrize("pattern", ["{}.{}.jpg", "{}_{}.png", "{}-{:04d}.JPEG"])
def test_flat_names_carry_the_class_before_the_number(tmp_path: Path, pattern: str) -> None:
    touch(tmp_path, *(pattern.format(name, number) for name in ("cat", "great_dane") for number in (0, 12)))
    index = read_images(tmp_path)
    assert index.classes == ("cat", "great_dane")
    assert index.counts()["unsplit"].tolist() == [2, 2]


@pytest.mark.parametrize(
    ("stem", "name"),
    [("St. Bernard.12", "St. Bernard"), ("Mt. Fuji_3", "Mt. Fuji"), ("a.b.c.7", "a.b.c"), ("v2.0-rc_1", "v2.0-rc"),
     ("2024.01.02 cat.3", "2024.01.02 cat"), ("7_0001", "7"), ("cat__0", "cat"), ("日本.5", "日本"),
     ("cat", None), ("cat.png", None), ("St. Bernard", None), ("2024.01.02", None), ("2024-01-02", None), ("12", None)],
)  # fmt: skip
def test_the_class_is_all_before_the_last_number(tmp_path: Path, stem: str, name: str | None) -> None:
    touch(tmp_path, "owl.1.jpg", "owl.2.jpg", f"{stem}.jpg")
    if name is None:
        with pytest.raises(UserError, match=f"'{stem}.jpg' carries no class in its name"):
            read_images(tmp_path)
    else:
        assert set(read_images(tmp_path).classes) == {"owl", name}


def test_flat_names_are_read_below_train_beside_an_unlabelled_test(tmp_path: Path) -> None:
    index = read_images(touch(tmp_path, "train/cat.0.jpg", "train/cat.1.jpg", "train/dog.0.jpg", "test1/1.jpg"))
    assert named(index)[2] == ("train/dog.0.jpg", "dog", "")
    assert index.layout == "flat names: train/<class>.<number>; test1/ left out (1 image without labels)"


def test_flat_splits_may_be_small(tmp_path: Path) -> None:
    touch(tmp_path, "train/cat.0.jpg", "train/cat.1.jpg", "train/dog.0.jpg", "val/cat.2.jpg", "val/dog.3.jpg")
    index = read_images(tmp_path)
    assert index.counts().to_numpy().tolist() == [[2, 1], [1, 1]]


def test_flat_names_of_real_photos(shared_data: Path, tmp_path: Path) -> None:
    for animal in ("cat", "dog"):
        for photo in sorted((shared_data / "cats_dogs" / "train" / f"{animal}s").iterdir())[:5]:
            shutil.copy(photo, tmp_path)
    index = read_images(tmp_path)
    assert index.counts()["unsplit"].to_dict() == {"cat": 5, "dog": 5}


def test_a_class_called_train_among_vehicles_is_a_class(tmp_path: Path) -> None:
    index = read_images(touch(tmp_path, "bus/1.jpg", "car/1.jpg", "train/1.jpg", "train/2.jpg"))
    assert index.classes == ("bus", "car", "train")


def test_hidden_files_and_those_of_other_programs_do_not_count(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/2.jpg", "a/._1.jpg", ".ipynb_checkpoints/1.jpg", "__MACOSX/a/1.jpg", "a/Thumbs.db")
    index = read_images(touch(tmp_path, "notes/read.txt", "overview.png"))
    assert index.ids() == ["a/1.jpg", "b/2.jpg"]
    assert index.layout == "class folders: <class>; 1 loose image left out; no images in notes/"


def test_class_folders_are_searched_at_any_depth_and_suffixes_in_any_case(tmp_path: Path) -> None:
    index = read_images(touch(tmp_path, "a/x/y/1.TIFF", "a/2.WebP", "b/3.bmp", "b/4.md"))
    assert index.ids() == ["a/2.WebP", "a/x/y/1.TIFF", "b/3.bmp"]


def test_linked_files_count_and_a_loop_of_links_ends(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/2.jpg")
    try:
        (tmp_path / "a" / "again").symlink_to(tmp_path, target_is_directory=True)
        (tmp_path / "a" / "linked.jpg").symlink_to(tmp_path / "b" / "2.jpg")
    except OSError:
        pytest.skip("this machine allows no symbolic links")
    assert read_images(tmp_path).ids() == ["a/1.jpg", "a/linked.jpg", "b/2.jpg"]


def test_a_root_with_dots_and_links_keeps_relative_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "photos/a/1.jpg", "photos/b/2.jpg", "work/x")
    monkeypatch.chdir(tmp_path / "work")
    index = read_images("../photos")
    assert index.ids() == ["a/1.jpg", "b/2.jpg"]
    assert index.root == tmp_path / "photos"


@pytest.mark.parametrize(
    ("paths", "sentence"),
    [
        (["a/1.jpg"], "one class only, 'a'"),
        (["notes.txt"], "holds no images .*, only 1 .txt"),
        (
            ["train.tar.gz", "test1.tar", "x.csv"],
            "only 1 .csv, 1 .gz, 1 .tar: unpack them first, each into a folder",
        ),
        (["1.jpg", "2.jpg"], "'1.jpg' carries no class"),
        (["cat.0.jpg", "dog.0.jpg", "puma.jpg"], "'puma.jpg' carries no class"),
        (["train/cat/1.jpg", "train/dog/2.jpg", "val/cats/3.jpg"], "'cats' is in val but not in train.*'cat'"),
        (["train/cat/1.jpg", "train/dog/2.jpg", "test/cats/3.jpg"], "'cats' is in test but not in train.*'cat'"),
        (
            ["train/a/1.jpg", "train/b/2.jpg", "test/puma/3.jpg", "test/lynx/4.jpg"],
            "Give it images to learn from, or take",
        ),
        (["train/cat/1.jpg", "train/dog/2.jpg", "val/3.jpg"], "no class folders as train/ has"),
        (["train/a/1.jpg", "train/b/1.jpg", "val/a/2.jpg", "valid/a/2.jpg"], "both val/ and valid/"),
        (["train/a.0.jpg", "train/a.1.jpg", "train/b.0.jpg", "val/x.jpg"], "'x.jpg' carries no class"),
        (["val/a/1.jpg", "val/b/2.jpg"], "has val/ but no train/"),
        (["train/x.txt", "val/a/1.jpg"], "train holds no images"),
    ],
)
def test_a_folder_that_makes_no_sense_is_refused_in_a_sentence(tmp_path: Path, paths: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read_images(touch(tmp_path, *paths))


def test_a_missing_folder_names_its_neighbour(tmp_path: Path) -> None:
    touch(tmp_path, "photos/a/1.jpg")
    with pytest.raises(UserError, match=r"does not exist. Did you mean 'photos'"):
        read_images(tmp_path / "photo")


# Zip files


def pack(archive: Path, *paths: str, **content: bytes) -> Path:
    """A zip of files of which only the names are read."""
    with zipfile.ZipFile(archive, "w") as opened:
        for path in paths:
            opened.writestr(path, b"only the name is read here")
        for name, inner in content.items():
            opened.writestr(f"{name}.zip", inner)
    return archive


def packed(tmp_path: Path, *paths: str) -> bytes:
    return pack(tmp_path / "inner.zip", *paths).read_bytes()


def test_what_is_wrong_in_a_zip_is_told_by_its_own_name(tmp_path: Path) -> None:
    archive = pack(tmp_path / "empty.zip", "notes.txt")
    with pytest.raises(UserError, match=f"^{archive} holds no images"):
        read_images(archive)


@pytest.mark.parametrize("top", ["", "photos/", "photos/photos/"])
def test_a_zip_is_read_as_the_folder_in_it(tmp_path: Path, top: str) -> None:
    paths = ["train/a/1.jpg", "train/b/2.jpg", "val/a/3.jpg"]
    archive = pack(tmp_path / "photos.zip", *(f"{top}{path}" for path in paths), "__MACOSX/._x.jpg", f"{top}README.txt")
    index = read_images(archive)
    assert index.ids() == paths
    assert index.layout == "split folders: train/<class>, val/<class>" + (f"; all in {top}" if top else "")
    assert index.path(0).read_bytes() == b"only the name is read here"
    assert index.root.is_absolute()


@pytest.mark.parametrize(
    ("paths", "ids", "layout"),
    [
        (["train/a/1.jpg", "train/b/2.jpg"], ["train/a/1.jpg", "train/b/2.jpg"], "class folders: train/<class>"),
        (["photos/a/1.jpg", "photos/b/2.jpg"], ["a/1.jpg", "b/2.jpg"], "class folders: <class>; all in photos/"),
        (["pets/cat.0.jpg", "pets/cat.1.jpg", "pets/dog.0.jpg"], None, "flat names: <class>.<number>; all in pets/"),
    ],
)
def test_a_folder_that_holds_all_is_entered_unless_it_is_a_split(
    tmp_path: Path, paths: list[str], ids: list[str] | None, layout: str
) -> None:
    index = read_images(pack(tmp_path / "x.zip", *paths))
    assert index.ids() == (ids or ["cat.0.jpg", "cat.1.jpg", "dog.0.jpg"])
    assert index.layout == layout


def test_a_folder_that_holds_all_may_be_a_class_to_be_judged(tmp_path: Path) -> None:
    index = read_images(pack(tmp_path / "x.zip", "cat/1.jpg", "cat/2.jpg"), learns=False)
    assert index.classes == ("cat",)
    assert index.ids() == ["cat/1.jpg", "cat/2.jpg"]


def test_zips_in_a_zip_are_read_as_kaggle_gives_dogs_vs_cats(tmp_path: Path) -> None:
    train = packed(tmp_path, "train/cat.0.jpg", "train/cat.1.jpg", "train/dog.0.jpg")
    test = packed(tmp_path, "test1/1.jpg", "test1/2.jpg")
    index = read_images(pack(tmp_path / "dogs-vs-cats.zip", "sampleSubmission.csv", train=train, test1=test))
    assert index.ids() == ["train/cat.0.jpg", "train/cat.1.jpg", "train/dog.0.jpg"]
    assert index.layout == "flat names: train/<class>.<number>; test1/ left out (2 images without labels)"


def test_what_an_image_is_called_does_not_depend_on_where_the_cache_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = pack(tmp_path / "photos.zip", "photos/a/1.jpg", "photos/b/2.jpg")
    monkeypatch.chdir(tmp_path)
    found = []
    for cache in ("one", "another/place"):  # relative places, as somebody may set them
        monkeypatch.setenv("RESNET_TL_CACHE", cache)
        found.append(read_images(archive))
    assert found[0].root != found[1].root
    assert found[0].root.is_relative_to(tmp_path / "one" / "unpacked")
    assert found[0].ids() == found[1].ids()


def test_a_zip_is_unpacked_once(tmp_path: Path) -> None:
    archive = pack(tmp_path / "photos.zip", "a/1.jpg", "b/2.jpg")
    first = read_images(archive)
    made = first.path(0).stat().st_mtime_ns
    second = read_images(archive)
    assert second.root == first.root
    assert second.path(0).stat().st_mtime_ns == made


@pytest.mark.parametrize(
    ("paths", "sentence"),
    [
        (["notes.txt"], r"photos\.zip holds no images"),
        (["a/1.jpg"], "one class only, 'a'"),
        (["1.jpg", "2.jpg"], "'1.jpg' carries no class"),
        (["../a/1.jpg", "b/1.jpg"], "leads out of its folder"),
        ([], "photos.zip holds no files"),
    ],
)
def test_a_zip_that_makes_no_sense_is_refused_in_a_sentence(tmp_path: Path, paths: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read_images(pack(tmp_path / "photos.zip", *paths))


def test_what_is_no_zip_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"photos\.zip is no sound zip file"):
        read_images(touch(tmp_path, "photos.zip") / "photos.zip")


def test_other_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"photos\.rar is neither a folder nor a \.zip or a table"):
        read_images(touch(tmp_path, "photos.rar") / "photos.rar")


def test_a_folder_may_be_called_like_a_zip(tmp_path: Path) -> None:
    assert len(read_images(touch(tmp_path / "photos.zip", "a/1.jpg", "b/2.jpg"))) == 2


def test_images_to_predict_may_lie_in_a_zip(tmp_path: Path) -> None:
    index = unlabelled(pack(tmp_path / "new.zip", "new/10.jpg", "new/9.jpg"))
    assert index.ids() == ["new/9.jpg", "new/10.jpg"]
    assert index.path(0).is_file()


def test_a_data_frame_may_name_images_in_a_zip(tmp_path: Path) -> None:
    frame = pd.DataFrame({"path": ["images/1.jpg", "images/2.jpg"], "label": ["a", "b"]})
    index = from_dataframe(frame, pack(tmp_path / "photos.zip", "images/1.jpg", "images/2.jpg"))
    assert index.ids() == ["images/1.jpg", "images/2.jpg"]


def test_a_real_zip(shared_data: Path) -> None:
    if not (shared_data / "mnist10k.zip").is_file():
        pytest.skip("the zip of digits beside the checkout is missing")
    index = read_images(shared_data / "mnist10k.zip")
    assert index.counts().sum().to_dict() == {"train": 8000, "val": 2000}
    assert index.classes == tuple("0123456789")
    with Image.open(index.path(0)) as picture:
        assert picture.size == (28, 28)


# Images to predict


def test_images_to_predict_come_in_natural_order_below_their_folder(tmp_path: Path) -> None:
    index = unlabelled(touch(tmp_path, "10.jpg", "9.jpg", "1.jpg", "b/2.jpg", "sample_submission.csv"))
    assert index.ids() == ["1.jpg", "9.jpg", "10.jpg", "b/2.jpg"]
    assert index.root == tmp_path
    assert set(index.labels) == {-1}
    assert index.rows("predict").tolist() == [0, 1, 2, 3]


def test_images_to_predict_may_be_files_folders_patterns_and_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "one.jpg", "more/2.jpg", "more/3.png", "some/4.jpg", "some/5.gif", "listed/6.jpg", "listed/7.jpg")
    write_csv(tmp_path / "listed", "id,path\n6,6.jpg")
    monkeypatch.chdir(tmp_path)
    index = unlabelled(["one.jpg", tmp_path / "more", "some/*.jpg", "listed/images.csv", "more/2.jpg"])
    assert index.ids() == ["listed/6.jpg", "more/2.jpg", "more/3.png", "one.jpg", "some/4.jpg"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    touch(tmp_path, "photo [1].jpg", "photo 1.jpg")
    assert [Path(name).name for name in unlabelled(tmp_path / "photo [1].jpg").ids()] == ["photo [1].jpg"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [("*.png", "No image matches"), ("on.jpg", "does not exist.*'one.jpg'"), ("empty", "holds no images")],
)
def test_nothing_to_predict_is_refused_in_a_sentence(tmp_path: Path, given: str, sentence: str) -> None:
    touch(tmp_path, "one.jpg", "empty/notes.txt")
    with pytest.raises(UserError, match=sentence):
        unlabelled(tmp_path / given)


@pytest.mark.skipif(os.name == "nt", reason="file names are always Unicode there")
def test_a_name_that_is_not_utf8_is_refused_in_a_sentence(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/2.jpg")
    try:
        (tmp_path / "a" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system keeps Unicode names only")
    with pytest.raises(UserError, match="not UTF-8"):
        read_images(tmp_path)


@pytest.mark.parametrize(
    ("folder", "layout", "counts"),
    [
        ("hymenoptera", "split folders: train/<class>, val/<class>", {"train": 245, "val": 153}),
        (
            "cats_dogs",
            "split folders: train/<class>, val/<class>; test/ left out (1000 images without labels)",
            {"train": 2000, "val": 500},
        ),
        (
            "plant_seedlings",
            "class folders: train/<class>; test/ left out (723 images without labels)",
            {"unsplit": 4027},
        ),
    ],
)
def test_real_data_sets(shared_data: Path, folder: str, layout: str, counts: dict[str, int]) -> None:
    index = read_images(shared_data / folder)
    assert index.layout == layout
    assert index.counts().sum().to_dict() == counts
