"""Probes of a network: each image judged by what has not seen it, nor a copy of it."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from resnet_tl import ImageClassifier, ImageDataModule
from resnet_tl.errors import UserError
from resnet_tl.evaluation.uncertainty.nearest import NEIGHBOURS, TEMPERATURE
from resnet_tl.training.probing.probe import cuts_of, groups_of, learn, parts_of, probe_network


def model(**settings) -> ImageClassifier:
    return ImageClassifier("resnet20", mode="head", **settings)


def test_a_probe_says_what_it_measured(blobs: Path):
    cut, whole = probe_network(ImageDataModule(root=blobs), model(), depths=["stage2"])

    assert (cut.name, cut.features, cut.is_cut) == ("resnet20 up to stage2", 32, True)
    assert (whole.name, whole.features, whole.depth) == ("resnet20", 64, "stage3")
    assert whole.is_correct.shape == whole.losses.shape == whole.neighbours_correct.shape == (13,)
    assert whole.accuracy.value > 0.9  # blobs are told apart by their colour
    assert whole.losses.mean() < np.log(3)
    assert whole.weights == "built-in resnet20_cifar10"
    assert whole.seconds > 44 / whole.images_per_second


def test_what_is_judged_has_no_part_in_what_is_learned(blobs: Path):
    """With labels that mean nothing it is right by chance; of what it has learned it would know more by heart."""
    paths = sorted(path.relative_to(blobs).as_posix() for path in blobs.glob("train/*/*.png"))
    labels = np.random.default_rng(0).permutation(["one", "other"] * 12)
    frame = pd.DataFrame({"path": paths, "label": labels})

    (found,) = probe_network(ImageDataModule.from_dataframe(frame, root=blobs), model(), folds=3)

    assert found.is_correct.shape == (24,)
    assert found.accuracy.value < 0.75


def test_depths_are_in_the_order_of_the_network(blobs: Path):
    data = ImageDataModule(root=blobs)

    assert cuts_of(data, model(), None) == ("stage2",)
    assert cuts_of(data, model(), ["stage2", "stem", "stage3"]) == ("stem", "stage2")  # the last one is no cut
    with pytest.raises(UserError, match="no stage 'stage4'"):
        cuts_of(data, model(), ["stage4"])


def test_every_image_is_judged_in_one_fold(blobs: Path):
    data = ImageDataModule(root=blobs)
    cuts_of(data, model(), ())
    parts = parts_of(data, 4)

    judged = np.concatenate([rows for _, rows in parts])
    assert len(judged) == len(set(judged)) == 37
    assert all(not set(train) & set(val) for train, val in parts)


def test_copies_and_groups_belong_together(blobs: Path, tmp_path: Path):
    shutil.copytree(blobs / "train", tmp_path / "photos")
    shutil.copy(tmp_path / "photos" / "red" / "0.png", tmp_path / "photos" / "red" / "copy.png")
    paths = sorted(path.relative_to(tmp_path).as_posix() for path in (tmp_path / "photos").rglob("*.png"))
    table = pd.DataFrame({"path": paths, "label": [path.split("/")[1] for path in paths]})
    table["group"] = [path.split("/")[-1] if "blue" in path else "" for path in paths]
    table.loc[table["group"].isin(["0.png", "1.png"]), "group"] = "one day"
    table.to_csv(tmp_path / "table.csv", index=False)
    data = ImageDataModule(root=tmp_path / "table.csv", group_column="group")
    cuts_of(data, model(), ())

    groups = dict(zip(data.index.table["path"], groups_of(data), strict=True))

    assert groups["photos/red/0.png"] == groups["photos/red/copy.png"] != groups["photos/red/1.png"]
    assert groups["photos/blue/0.png"] == groups["photos/blue/1.png"] != groups["photos/blue/2.png"]


def test_neighbours_vote_about_the_mean_of_the_training_images_as_scikit_learn_has_it():
    generator, labels = np.random.default_rng(0), np.arange(240) % 3
    points = generator.normal(size=(240, 40)).astype(np.float32) + 5
    points[np.arange(240), labels] += 2
    train, judged = np.arange(160), np.arange(160, 240)
    stub = SimpleNamespace(of=lambda rows, depth: torch.from_numpy(points[rows]), model=SimpleNamespace(classes="abc"))
    mean = points[train].mean(axis=0)
    oracle = KNeighborsClassifier(
        NEIGHBOURS, metric="cosine", weights=lambda distance: np.exp((1 - distance) / TEMPERATURE)
    ).fit(points[train] - mean, labels[train])

    found = learn(stub, None, (train, judged), labels, np.arange(240)).votes

    assert 0.5 < (found.argmax(axis=1) == labels[judged]).mean() < 1
    assert found.argmax(axis=1).tolist() == oracle.predict(points[judged] - mean).tolist()


def test_a_training_part_of_one_class_can_teach_nothing(blobs: Path, tmp_path: Path):
    shutil.copytree(blobs / "val", tmp_path / "val")
    (tmp_path / "train").mkdir()
    shutil.copytree(blobs / "train" / "red", tmp_path / "train" / "red")
    with pytest.raises(UserError, match="class"):
        probe_network(ImageDataModule(root=tmp_path), model())
