from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from resnet_tl.bundle import Bundle, write_bundle
from resnet_tl.data.index import ImageIndex
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.data.reading.layouts import from_dataframe, read_images
from resnet_tl.data.splits import assign_splits
from resnet_tl.errors import UserError
from resnet_tl.evaluation.metrics import compute_metrics
from resnet_tl.inference.predictor import Predictor
from resnet_tl.inference.scoring import score
from resnet_tl.networks import create_network
from resnet_tl.run import Run

CLASSES = ("red", "green", "blue")  # not in plain string order: labels must follow the names, not the numbers


def make_run(path: Path, index: ImageIndex | None = None, classes: tuple[str, ...] = CLASSES) -> Run:
    """A run with the bundle of an untrained network; with an index, also with its data facts."""
    torch.manual_seed(0)
    bundle = Bundle(path / "model", {"name": "resnet20"}, classes, Preprocessing(32, 32, 32))
    write_bundle(bundle, create_network("resnet20", num_classes=3))
    run = Run(path)
    run.recipe_file.write_text("model:\n  mode: head\n")
    if index is not None:
        (path / "data").mkdir()
        (path / "data" / "facts.json").write_text(
            json.dumps({"root": str(index.root), "classes": index.classes, "layout": index.layout})
        )
        names = [index.classes[label] if label >= 0 else "" for label in index.labels]
        index.table.assign(label=names).to_csv(path / "data" / "index.csv", index_label="row")
    return run


@pytest.fixture
def pictures(blobs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(blobs, tmp_path / "pictures"))


@pytest.fixture
def run(tmp_path: Path, pictures: Path) -> Run:
    return make_run(tmp_path / "run", read_images(pictures))


def check(table: pd.DataFrame, metrics: dict[str, float]) -> None:
    assert metrics == compute_metrics(table)
    assert metrics["accuracy"] == (table["label"] == table["predicted"]).mean()
    assert all(Path(path).parent.name == label for path, label in zip(table["path"], table["label"], strict=True))


@pytest.mark.parametrize(("split", "count"), [("val", 13), ("test", 7)])
def test_a_run_is_scored_on_its_own_split(run: Run, split: str, count: int) -> None:
    table, metrics = score(run.path, split)
    assert len(table) == count
    assert all(path.startswith(f"{split}/") for path in table["id"])
    check(table, metrics)


def test_the_table_is_that_of_the_predictor(run: Run, pictures: Path) -> None:
    table, _ = score(run.path, "val")
    predicted = Predictor(run.path).predict(pictures / "val")
    assert table["predicted"].tolist() == predicted["predicted"].tolist()


def test_other_images_with_splits_are_scored_on_the_split_of_that_name(run: Run, pictures: Path) -> None:
    table, metrics = score(run.path, "val", pictures)
    assert len(table) == 13
    check(table, metrics)


def test_other_images_without_splits_are_all_scored(run: Run, pictures: Path) -> None:
    table, metrics = score(run.path / "model", "test", pictures / "val")
    assert len(table) == 13
    check(table, metrics)


def test_training_images_are_never_taken_for_a_missing_split(run: Run, pictures: Path) -> None:
    shutil.rmtree(pictures / "test")
    with pytest.raises(UserError, match="pictures has no test images; name labelled images with --root"):
        score(run.path, "test", pictures)


def test_some_of_the_classes_are_enough(run: Run, pictures: Path) -> None:
    shutil.rmtree(pictures / "val" / "green")
    table, metrics = score(run.path, "val", pictures / "val")
    assert set(table["label"]) == {"blue", "red"}
    check(table, metrics)


def test_a_class_that_the_network_does_not_know_is_said(run: Run, pictures: Path) -> None:
    (pictures / "val" / "green").rename(pictures / "val" / "greeen")
    with pytest.raises(UserError) as caught:
        score(run.path, "val", pictures / "val")
    assert str(caught.value) == (
        f"{pictures / 'val'} has the class 'greeen', which the network does not know; it knows red, green, blue. "
        "Did you mean 'green'?"
    )


def test_images_without_labels_in_a_table_stay_without(tmp_path: Path, pictures: Path) -> None:
    index = read_images(pictures)
    frame = index.table.assign(label=[index.classes[label] for label in index.labels])
    frame.loc[index.rows("test"), ["label", "split"]] = ["", "predict"]
    run = make_run(tmp_path / "other", from_dataframe(frame, pictures))
    table, metrics = score(run.path, "val")
    assert len(table) == 13
    check(table, metrics)
    with pytest.raises(UserError, match=r"has no test images; name labelled images with --root"):
        score(run.path, "test")


def test_unlabelled_images_keep_their_missing_label_in_the_networks_order(pictures: Path) -> None:
    from resnet_tl.inference.scoring import _in_order_of

    frame = pd.DataFrame(
        {
            "path": ["train/red/0.png", "train/blue/0.png", "train/green/0.png"],
            "label": ["red", "blue", ""],
            "split": ["train", "train", "predict"],
        }
    )
    index = _in_order_of(CLASSES, from_dataframe(frame, pictures))
    assert index.classes == CLASSES
    assert index.labels.tolist() == [0, 2, -1]
    assert index.labels.dtype == np.int64


def test_images_that_are_gone_are_said(run: Run, pictures: Path) -> None:
    (pictures / "val" / "red" / "0.png").unlink()
    with pytest.raises(UserError, match=r"0\.png cannot be read: No such file or directory"):
        score(run.path, "val")
    shutil.rmtree(pictures)
    with pytest.raises(UserError, match="pictures does not exist"):
        score(run.path, "val")


def test_what_is_no_run_or_never_began_is_said(tmp_path: Path, pictures: Path) -> None:
    with pytest.raises(UserError, match="is not a run"):
        score(pictures, "val")
    with pytest.raises(UserError, match=r"has no data/facts\.json: its training did not begin"):
        score(make_run(tmp_path / "begun").path, "val")


def test_class_names_that_look_like_lists_are_read_back_as_they_were(tmp_path: Path) -> None:
    for name in ("apple", "pie", "apple pie"):
        (tmp_path / "food" / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (32, 32)).save(tmp_path / "food" / name / f"{number}.png")
    index = assign_splits(read_images(tmp_path / "food"), val_fraction=0.5)
    run = make_run(tmp_path / "run", index, index.classes)

    table, _ = score(run.path, "val")

    assert sorted(table["label"]) == ["apple", "apple pie", "pie"]


def test_other_images_need_neither_a_train_folder_nor_a_second_class(tmp_path: Path, pictures: Path) -> None:
    run = make_run(tmp_path / "run")
    shutil.rmtree(pictures / "train")

    assert len(score(run.path, "val", pictures)[0]) == 13
    for name in ("green", "blue"):
        shutil.rmtree(pictures / "val" / name)
    table, metrics = score(run.path, "val", pictures)

    assert set(table["label"]) == {"red"}
    assert metrics["accuracy"] == (table["predicted"] == "red").mean()
