from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from resnet_tl.data.index import ImageIndex
from resnet_tl.data.reading.layouts import read_images
from resnet_tl.data.splits import assign_fold, assign_splits, deal, pooled
from resnet_tl.errors import UserError


def make(labels: list[int], groups: list[str] | None = None, splits: list[str] | None = None) -> ImageIndex:
    """An index without files: splitting looks at no file."""
    table = pd.DataFrame({"path": [f"{row}.jpg" for row in range(len(labels))], "label": np.array(labels, np.int64)})
    table["split"] = splits or [""] * len(labels)
    table["group"] = groups or [""] * len(labels)
    return ImageIndex(Path("/data"), table, tuple(f"class {n}" for n in range(max(labels) + 1)), "by hand")


def split_of(index: ImageIndex) -> dict[str, str]:
    return dict(zip(index.ids(), index.table["split"], strict=True))


def test_every_class_is_divided_by_the_fractions() -> None:
    counts = assign_splits(make([0] * 100 + [1] * 50 + [2] * 10), val_fraction=0.2, test_fraction=0.1).counts()
    assert counts.to_numpy().tolist() == [[70, 20, 10], [35, 10, 5], [7, 2, 1]]
    assert list(counts.columns) == ["train", "val", "test"]


def test_small_classes_keep_an_image_in_train_and_then_in_val() -> None:
    counts = assign_splits(make([0] + [1] * 2 + [2] * 3), val_fraction=0.2, test_fraction=0.2).counts()
    assert counts.to_numpy().tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


def test_a_great_fraction_leaves_an_image_in_train() -> None:
    assert assign_splits(make([0] * 3 + [1] * 2), val_fraction=0.99).counts()["train"].tolist() == [1, 1]


def test_the_split_is_the_same_whatever_the_order_of_the_files() -> None:
    index = make([0] * 40 + [1] * 40, [f"g{row // 3}" if row < 30 else "" for row in range(80)])
    shuffled = index.table.sample(frac=1, random_state=3).reset_index(drop=True)
    assert split_of(assign_splits(index)) == split_of(
        assign_splits(ImageIndex(index.root, shuffled, index.classes, ""))
    )


def test_the_split_is_the_same_on_every_machine_and_in_every_version() -> None:
    index = assign_splits(make([0] * 5 + [1] * 5), val_fraction=0.4, seed=7)
    assert index.rows("val").tolist() == [0, 4, 5, 8]


def test_another_seed_gives_another_split() -> None:
    index = make([0] * 50 + [1] * 50)
    assert split_of(assign_splits(index, seed=0)) != split_of(assign_splits(index, seed=1))


def test_groups_stay_whole_and_the_fractions_are_nearly_met() -> None:
    random = np.random.default_rng(0)
    groups = random.integers(0, 150, 1200)
    index = assign_splits(make((groups % 4).tolist(), [f"plant {g}" for g in groups]), 0.2, 0.1)
    assert (index.table.groupby("group")["split"].nunique() == 1).all()
    shares = index.counts().to_numpy() / index.counts().to_numpy().sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, np.tile([0.7, 0.2, 0.1], (4, 1)), atol=0.02)


def test_a_class_within_one_group_stays_in_train() -> None:
    index = assign_splits(make([0] * 20 + [1] * 20, ["same"] * 20 + [f"g{n}" for n in range(20)]), 0.4)
    assert index.counts().to_numpy().tolist() == [[20, 0], [12, 8]]


def test_groups_of_several_classes_leave_every_class_in_train() -> None:
    random = np.random.default_rng(1)
    labels, groups = random.integers(0, 12, 300).tolist(), [f"scene {n}" for n in random.integers(0, 15, 300)]
    counts = assign_splits(make([*labels, 12], [*groups, "scene 0"]), 0.3).counts()
    assert (counts["train"] > 0).all()
    assert (counts["val"].iloc[:-1] > 0).all()


def test_images_without_a_group_are_spread_on_their_own() -> None:
    counts = assign_splits(make([0] * 50 + [1] * 50, ["burst"] * 5 + [""] * 95), 0.2).counts()
    assert counts["val"].tolist() == [10, 10]


def test_an_existing_val_changes_nothing() -> None:
    index = make([0, 1, 0, 1], splits=["train", "train", "val", "val"])
    after = assign_splits(index, val_fraction=0.5)
    assert split_of(after) == split_of(index)
    assert after.layout == index.layout


def test_val_is_taken_from_train_when_only_test_exists() -> None:
    index = make([0] * 10 + [1] * 10 + [0, 1, 0], splits=["train"] * 20 + ["test"] * 2 + ["predict"])
    after = assign_splits(index, val_fraction=0.2, test_fraction=0.3)
    assert after.counts().to_numpy()[:, 1].tolist() == [2, 2]
    assert after.rows("test").tolist() == [20, 21]
    assert after.rows("predict").tolist() == [22]


def test_test_is_taken_from_train_beside_an_existing_val() -> None:
    index = make([0] * 10 + [1] * 10 + [0, 1], splits=["train"] * 20 + ["val"] * 2)
    after = assign_splits(index, test_fraction=0.2)
    assert after.rows("val").tolist() == [20, 21]
    assert after.counts()["test"].tolist() == [2, 2]


def test_the_layout_says_what_was_split_off() -> None:
    layout = assign_splits(make([0] * 9 + [1] * 9), 0.25, seed=3).layout
    assert layout == "by hand; split off here: val 25%, seed 3"


@pytest.mark.parametrize(("val", "test"), [(0, 0), (1, 0), (-0.1, 0), (0.2, -0.1), (0.5, 0.5), (float("nan"), 0)])
def test_impossible_fractions_are_refused_in_a_sentence(val: float, test: float) -> None:
    with pytest.raises(UserError, match="val_fraction"):
        assign_splits(make([0] * 9 + [1] * 9), val, test)


def test_nothing_to_validate_with_is_refused_in_a_sentence() -> None:
    with pytest.raises(UserError, match="no class has two images"):
        assign_splits(make([0, 1, 2]))


def test_real_plants_are_split_by_species(shared_data: Path) -> None:
    index = read_images(shared_data / "plant_seedlings")
    counts = assign_splits(index).counts()
    assert len(counts) == 12
    np.testing.assert_allclose(counts["val"] / counts.sum(axis=1), 0.2, atol=0.005)


@pytest.mark.parametrize("test_fraction", [0.0, 0.3])
def test_a_group_that_the_table_itself_puts_into_two_splits_is_refused(test_fraction: float) -> None:
    index = make([0, 1] * 4, groups=["p1", "p1", "p2", "p2"] * 2, splits=["train"] * 4 + ["val"] * 4)

    with pytest.raises(UserError, match=r"the group .p1. has images in .*; a group must stay in one split"):
        assign_splits(index, test_fraction=test_fraction)


# Images that show the same


def test_without_clusters_the_split_is_the_same() -> None:
    index = make([0] * 30 + [1] * 20)
    assert split_of(assign_splits(index, clusters=np.arange(50))) == split_of(assign_splits(index))


@pytest.mark.parametrize("seed", range(5))
def test_a_cluster_stays_on_one_side_and_the_others_stay_where_they_are(seed: int) -> None:
    index = make([0] * 60 + [1] * 60)
    clusters = np.arange(120)
    clusters[[3, 17, 40]] = 3
    clusters[[70, 110]] = 70
    before, after = (assign_splits(index, 0.2, 0.1, seed, clusters=found) for found in (None, clusters))
    splits = after.table["split"].to_numpy()
    assert len(set(splits[[3, 17, 40]])) == len(set(splits[[70, 110]])) == 1
    others = np.setdiff1d(np.arange(120), [3, 17, 40, 70, 110])
    moved = (splits != before.table["split"].to_numpy())[others]
    assert moved.sum() <= 4
    assert abs(after.counts()["val"] - 12).max() <= 3


def test_many_copies_of_each_image_leave_val_its_share() -> None:
    index = make([0] * 500 + [1] * 500)
    clusters = np.arange(1000) // 5 * 5
    after = assign_splits(index, 0.2, clusters=clusters)
    assert (after.table["split"].groupby(clusters).nunique() == 1).all()
    assert after.counts()["val"].tolist() == [100, 100]


def test_a_class_that_follows_another_ones_copies_keeps_an_image_to_train_on() -> None:
    index = make([0] * 10 + [1])
    for leader in range(10):
        clusters = np.arange(11)
        clusters[[leader, 10]] = leader
        after = assign_splits(index, 0.5, clusters=clusters)
        assert after.table["split"].iloc[10] == after.table["split"].iloc[leader] == "train"


def test_clusters_join_groups() -> None:
    groups = [f"g{number // 4}" for number in range(80)]
    clusters = np.arange(80)
    clusters[[1, 9]] = 1
    clusters[[10, 77]] = 10
    index = assign_splits(make([0] * 40 + [1] * 40, groups), 0.3, clusters=clusters)
    splits = index.table["split"].to_numpy()
    assert (index.table.groupby("group")["split"].nunique() == 1).all()
    assert splits[1] == splits[9] == splits[77]


def test_a_group_in_two_splits_may_be_allowed() -> None:
    index = make([0] * 6 + [1] * 6, ["g"] * 2 + [""] * 10)
    index.table["split"] = ["train", "val", *["train", "val"] * 5]
    with pytest.raises(UserError, match="the group 'g' has images in train, val"):
        assign_splits(index)
    assert len(assign_splits(index, groups_may_span=True)) == 12


# Folds.


def folded(index: ImageIndex, folds: int, seed: int = 0, clusters: np.ndarray | None = None) -> np.ndarray:
    """The fold that judges each row, from 1; 0 for a test row."""
    parts = np.zeros(len(index), int)
    for fold in range(1, folds + 1):
        rows = assign_fold(index, fold, folds, seed, clusters).rows("val")
        assert not parts[rows].any(), "an image is judged twice"
        parts[rows] = fold
    return parts


def test_folds_are_even_in_each_class_and_in_all() -> None:
    labels = np.array([0] * 52 + [1] * 33 + [2] * 7)
    parts = folded(make(labels.tolist()), 5)

    assert sorted(np.bincount(parts)[1:]) == [18, 18, 18, 19, 19]
    for label in range(3):
        counts = np.bincount(parts[labels == label], minlength=6)[1:]
        assert counts.max() - counts.min() <= 1


def test_a_fold_trains_on_all_others_and_leaves_the_test_alone() -> None:
    index = make([0, 1] * 15, splits=["train"] * 20 + ["val"] * 6 + ["test"] * 4)
    first = assign_fold(index, 1, 3)

    assert first.rows("test").tolist() == index.rows("test").tolist()
    assert len(first.rows("train")) + len(first.rows("val")) == 26
    assert (folded(index, 3)[:26] > 0).all()
    assert pooled(index).rows("train").tolist() == list(range(26))


def test_groups_and_copies_stay_in_one_fold() -> None:
    labels = [0] * 60 + [1] * 60
    groups = [f"g{row // 4}" if row < 80 else "" for row in range(120)]
    clusters = np.arange(120)
    clusters[[3, 4, 90, 91]] = 3  # joins two groups and two images without one
    parts = folded(make(labels, groups), 5, clusters=clusters)

    for group in range(20):
        assert len(set(parts[4 * group : 4 * group + 4])) == 1
    assert len(set(parts[[3, 4, 90, 91]])) == 1
    assert np.bincount(parts)[1:].tolist() == pytest.approx([24] * 5, abs=4)


def test_the_folds_are_the_same_whatever_the_order_of_the_files_and_another_seed_gives_others() -> None:
    index = make([0] * 40 + [1] * 40, [f"g{row // 3}" if row < 30 else "" for row in range(80)])
    shuffled = index.table.sample(frac=1, random_state=3).reset_index(drop=True)
    other = ImageIndex(index.root, shuffled, index.classes, "")

    assert dict(zip(index.ids(), folded(index, 4), strict=True)) == dict(
        zip(other.ids(), folded(other, 4), strict=True)
    )
    assert (folded(index, 4) != folded(index, 4, seed=1)).any()


@pytest.mark.parametrize(
    ("index", "sentence"),
    [
        (make([0] * 9 + [1] * 3), "data.folds is 5, but the class 'class 1' has 3 images: give 3 or fewer"),
        (make([0] * 9 + [1]), "the class 'class 1' has 1 image: add images of it"),
        (
            make([0] * 9 + [1] * 9, [""] * 9 + ["a", "b"] * 4 + ["a"]),
            "9 images, which groups .* leave in 2 parts: give 2",
        ),
    ],
)
def test_more_folds_than_a_class_can_be_dealt_into_are_refused(index: ImageIndex, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        assign_fold(index, 1, 5)


def test_any_rows_are_dealt_with_copies_in_one_part() -> None:
    index = make([0] * 10 + [1] * 10 + [2], splits=["train", "val", "test"] * 7)
    rows, clusters = np.arange(1, 21), np.arange(21)
    clusters[12] = 3
    parts = deal(index, rows, folds=5, clusters=clusters)
    assert parts[rows == 12] == parts[rows == 3]
    assert sorted(np.bincount(parts[rows < 10], minlength=5).tolist()) == [1, 2, 2, 2, 2]
    assert (parts == deal(index, rows, folds=5, clusters=clusters)).all()
    assert len(parts) == 20
