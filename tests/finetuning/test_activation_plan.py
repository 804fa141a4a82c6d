"""What is worth keeping is kept, and the reason is told."""

import pytest

from resnet_tl.finetuning.activation_plan import plan_activations

STAGES = ("stem", "stage1", "stage2")


def plan(**changes):
    usual = {
        "images": 2000,
        "asked": 2000,
        "views": 1,
        "passes": 10,
        "nbytes": 100_000,
        "seconds": 0.01,
        "has_room": True,
    }
    return plan_activations(STAGES, **{**usual, **changes})


def test_a_slow_prefix_that_is_used_often_is_kept():
    chosen = plan()
    assert chosen.is_kept
    assert chosen.reason == (
        "stem to stage2: computed once for 2,000 images instead of 10 times; 200.0 MB kept, about 180.0 s saved"
    )


def test_some_views_are_computed_as_often_as_there_are_views():
    assert "computed 4 times for 2,000 images instead of 10 times; 800.0 MB kept" in plan(views=4).reason


def test_a_new_view_in_each_epoch_is_not_kept():
    for views in (None, 10, 20):
        chosen = plan(views=views)
        assert not chosen.is_kept
        assert "each epoch has a new view of each image" in chosen.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"passes": 1}, "since they are asked for once"),
        ({"has_room": False}, "200.0 MB do not fit in the cache"),
        ({"seconds": 0.00002}, "since to keep 200.0 MB would save 0.4 s and take about 2.0 s"),
        ({"asked": 64}, "would save 0.0 s"),  # a fit that is limited to a few of the images
    ],
    ids=["once", "no room", "a fast prefix", "few images"],
)
def test_what_does_not_pay_is_not_kept(changes: dict, reason: str):
    chosen = plan(**changes)
    assert not chosen.is_kept
    assert reason in chosen.reason


def test_a_single_stage_has_one_name():
    assert plan_activations(("stem",), 10, 10, 1, 10, 10, 0.01, True).reason.startswith("stem: computed once")
