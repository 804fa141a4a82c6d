from __future__ import annotations

import numpy as np
import pytest

from resnet_tl.errors import UserError
from resnet_tl.evaluation.comparing.comparison import check_same_images, compare, group_runs
from resnet_tl.evaluation.intervals import mcnemar, wilson
from resnet_tl.evaluation.metrics import compute_metrics
from resnet_tl.evaluation.predictions import write_predictions


def right(images=200, wrong=20, first=0):
    """Which of the images are judged right: all but `wrong` ones from number `first` on."""
    is_right = np.ones(images, dtype=bool)
    is_right[first : first + wrong] = False
    return is_right


def alone(*runs):
    return {run.path.name: [run] for run in runs}


def test_numbers_are_those_of_the_metrics_and_the_best_comes_first(make_run):
    lenet, resnet = make_run("lenet", right(wrong=60)), make_run("resnet", right(wrong=6))

    found = compare(alone(lenet, resnet))

    assert [group.name for group in found.groups] == ["resnet", "lenet"]
    assert (found.split, found.images, found.classes) == ("val", 200, ("cats", "dogs"))
    for group, run in zip(found.groups, (resnet, lenet), strict=True):
        metrics = compute_metrics(run.predictions())
        assert group.accuracy == (metrics["accuracy"], *wilson(round(200 * metrics["accuracy"]), 200))
        assert group.macro_f1.value == metrics["macro_f1"]
        assert group.loss.value == metrics["loss"]
        for estimate in (group.macro_f1, group.loss):
            assert estimate.low < estimate.value < estimate.high


def test_a_clear_difference_is_told(make_run):
    pair = compare(alone(make_run("lenet", right(wrong=60)), make_run("resnet", right(wrong=6)))).pairs[0]

    assert (pair.first, pair.second) == ("resnet", "lenet")
    assert pair.difference.value == pytest.approx(54 / 200)
    assert 0.2 < pair.difference.low < 0.27 < pair.difference.high < 0.34
    assert pair.p_value == pair.adjusted_p == mcnemar(54, 0)
    assert pair.is_decided


def test_a_small_difference_is_not(make_run):
    """Fagerland's table: one image that only the first gets right, seven that only the second does."""
    a, b = right(wrong=7), right(wrong=1, first=100)

    pair = compare(alone(make_run("a", a), make_run("b", b))).pairs[0]

    assert pair.p_value == pytest.approx(0.0703, abs=5e-5)
    assert not pair.is_decided
    assert pair.images_needed == 347  # ((1.960 * sqrt(0.04) + 0.8416 * sqrt(0.04 - 0.03 ** 2)) / 0.03) ** 2


def test_equal_runs_cannot_be_told_apart_by_any_number_of_images(make_run):
    pair = compare(alone(make_run("a", right()), make_run("b", right()))).pairs[0]

    assert pair.difference == (0, 0, 0)
    assert pair.p_value == 1
    assert (pair.is_decided, pair.images_needed) == (False, None)


def test_means_that_only_rounding_sets_apart_are_equal(make_run):
    equal = [make_run(f"equal-{seed}", right(wrong=40), seed=seed) for seed in range(3)]
    apart = [make_run(f"apart-{seed}", right(wrong=wrong), seed=seed) for seed, wrong in enumerate((10, 40, 70))]

    pair = compare({"equal": equal, "apart": apart}).pairs[0]

    assert pair.difference.value == 0
    assert (pair.is_decided, pair.images_needed) == (False, None)


def test_a_perfect_run_is_not_certain(make_run):
    group = compare(alone(make_run("a", right(wrong=0)), make_run("b", right()))).groups[0]

    assert group.accuracy.value == 1
    assert group.accuracy.low < 0.985


def test_the_order_of_rows_classes_and_groups_changes_nothing(make_run):
    lenet, resnet = make_run("lenet", right(wrong=60)), make_run("resnet", right(wrong=6, first=50))
    before = compare(alone(lenet, resnet))
    table = lenet.predictions().sample(frac=1, random_state=0)
    table = table[["id", "path", "label", "predicted", "prob_dogs", "prob_cats"]]
    write_predictions(table, lenet.predictions_file("val"))

    after = compare(alone(resnet, lenet))

    assert after.pairs == before.pairs
    assert [group.accuracy for group in after.groups] == [group.accuracy for group in before.groups]
    assert [group.macro_f1 for group in after.groups] == [group.macro_f1 for group in before.groups]
    for group, same in zip(after.groups, before.groups, strict=True):
        assert group.loss == pytest.approx(same.loss)


def test_unlabelled_images_do_not_count(make_run):
    a, b = make_run("a", right(10, 2)), make_run("b", right(12, 2), labels=[0, 1] * 5 + [-1, -1])

    assert compare(alone(a, b)).images == 10


def test_all_pairs_are_tested_and_corrected(make_run):
    runs = [make_run(name, right(wrong=wrong)) for name, wrong in (("a", 60), ("b", 26), ("c", 18))]

    pairs = compare(alone(*runs)).pairs

    assert [(pair.first, pair.second) for pair in pairs] == [("c", "b"), ("c", "a"), ("b", "a")]
    assert [pair.p_value for pair in pairs] == [mcnemar(8, 0), mcnemar(42, 0), mcnemar(34, 0)]
    assert [pair.adjusted_p for pair in pairs] == [mcnemar(8, 0), 3 * mcnemar(42, 0), 2 * mcnemar(34, 0)]


def test_metrics_of_seeds_are_means_and_the_interval_covers_both_images_and_seeds(make_run):
    equal = [make_run(f"equal-{seed}", right(wrong=40), seed=seed) for seed in range(3)]
    apart = [make_run(f"apart-{seed}", right(wrong=wrong), seed=seed) for seed, wrong in enumerate((10, 40, 70))]

    found = {group.name: group for group in compare({"equal": equal, "apart": apart}).groups}

    assert found["equal"].accuracy == pytest.approx((0.8, *wilson(160, 200)))
    assert found["apart"].accuracy.value == pytest.approx(0.8)
    assert found["apart"].accuracies == (0.95, 0.8, 0.65)
    assert np.ptp(found["apart"].accuracy[1:]) > 1.3 * np.ptp(found["equal"].accuracy[1:])


def test_runs_are_paired_by_seed_and_the_largest_p_counts(make_run):
    a = [make_run("a-0", right(wrong=60), seed=0), make_run("a-1", right(wrong=30), seed=1)]
    b = [make_run("b-1", right(wrong=10), seed=1), make_run("b-0", right(wrong=25), seed=0)]

    pair = compare({"a": a, "b": b}).pairs[0]

    assert pair.p_value == max(mcnemar(35, 0), mcnemar(20, 0))


def test_runs_of_other_seeds_are_each_paired_with_each(make_run):
    a = [make_run("a-0", right(wrong=60), seed=0), make_run("a-1", right(wrong=30), seed=1)]
    b = [make_run("b-7", right(wrong=25), seed=7)]

    assert compare({"a": a, "b": b}).pairs[0].p_value == max(mcnemar(35, 0), mcnemar(5, 0))


def test_a_difference_needs_both_the_test_and_the_interval(make_run):
    """One seed of two is much better, the other equal: the largest p decides."""
    a = [make_run("a-0", right(wrong=60), seed=0), make_run("a-1", right(wrong=30), seed=1)]
    b = [make_run("b-0", right(wrong=10), seed=0), make_run("b-1", right(wrong=30), seed=1)]

    pair = compare({"a": a, "b": b}).pairs[0]

    assert pair.difference.value == pytest.approx(0.125)
    assert pair.p_value == 1
    assert not pair.is_decided


def test_other_images_are_refused_with_their_number_and_an_example(make_run):
    a = make_run("a", right(5, 1), ids=["1", "2", "3", "4", "5"])
    b = make_run("b", right(5, 1), ids=["1", "2", "3", "4", "6"])

    with pytest.raises(UserError, match="2 ids of the split 'val' are in only one of them, such as '5'; compare runs"):
        compare(alone(a, b))


def test_splits_that_a_seed_has_drawn_are_said_to_be(make_run):
    a, b = make_run("a", right(2, 1), ids=["1", "2"]), make_run("b", right(2, 1), ids=["1", "3"], seed=1)

    with pytest.raises(UserError, match=r"their seeds may have drawn the splits: .* --data.split_seed"):
        check_same_images(a, b, "val")


def test_other_labels_are_refused(make_run):
    a, b = make_run("a", right(4, 1)), make_run("b", right(4, 1), labels=[0, 0, 0, 1])

    with pytest.raises(UserError, match=r"1 ids .* such as 'val/0001.jpg', which is 'dogs' in one and 'cats' in the o"):
        compare(alone(a, b))


def test_other_classes_are_refused(make_run):
    a, b = make_run("a", right(4, 1)), make_run("b", right(4, 1), classes=("cats", "wolves"))

    with pytest.raises(UserError, match="do not know the same classes: only one of them knows 'dogs'"):
        compare(alone(a, b))


def test_an_id_that_stands_for_two_images_is_refused(make_run):
    a, b = make_run("a", right(2, 1)), make_run("b", right(2, 1), ids=["x", "x"])

    with pytest.raises(UserError, match="has the id 'x' twice"):
        compare(alone(a, b))


def test_an_unfinished_run_and_a_missing_split_are_refused(make_run):
    a, b = make_run("a", right(2, 1)), make_run("b", right(2, 1))

    with pytest.raises(UserError, match="a has no predictions for the split 'test'"):
        compare(alone(a, b), "test")
    (b.path / "summary.json").unlink()
    with pytest.raises(UserError, match=r"b has no summary\.json: its training did not end"):
        compare(alone(a, type(b)(b.path)))


@pytest.mark.parametrize(
    ("folders", "groups"),
    [
        ({"lenet-1": 0, "resnet-1": 0}, {"lenet-1": 1, "resnet-1": 1}),
        ({"lenet-seed1": 1, "lenet-seed0": 0, "resnet-1": 0}, {"lenet": 2, "resnet-1": 1}),
        ({"lenet-1": 0, "lenet-2": 1, "lenet-3": 2}, {"lenet": 3}),
        ({"lenet-1": 0, "lenet-2": 0}, {"lenet-1": 1, "lenet-2": 1}),
        ({"a/lenet-1": 0, "b/lenet-1": 0}, {"{}/a/lenet-1": 1, "{}/b/lenet-1": 1}),
    ],
    ids=str,
)
def test_runs_that_differ_in_their_seed_alone_are_one_group(make_run, tmp_path, folders, groups):
    runs = [
        make_run(name, right(4, 1), seed=seed, network="resnet" if "resnet" in name else "lenet")
        for name, seed in folders.items()
    ]

    found = group_runs(runs)

    assert {name: len(members) for name, members in found.items()} == {
        name.format(tmp_path): size for name, size in groups.items()
    }
    for members in found.values():
        assert [run.recipe["seed"] for run in members] == sorted(run.recipe["seed"] for run in members)


def test_two_groups_of_seeds_with_the_same_stem_are_named_by_their_paths(make_run, tmp_path):
    runs = [make_run(f"x-{k}", right(4, 1), seed=k % 2, network="ab"[k // 2]) for k in range(4)]

    assert list(group_runs(runs)) == [f"{tmp_path}/x-0 + {tmp_path}/x-1", f"{tmp_path}/x-2 + {tmp_path}/x-3"]
