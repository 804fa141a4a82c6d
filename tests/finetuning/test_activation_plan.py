"""What is worth keeping is kept, and the reason is told."""

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
        "stem to stage2: computed once for 2000 images instead of 10 times; 200.0 MB kept, about 180.0 s saved"
    )


def test_some_views_are_computed_as_often_as_there_are_views():
    assert "computed 4 times for 2000 images instead of 10 times; 800.0 MB kept" in plan(views=4).reason


def test_a_new_view_in_each_epoch_is_not_kept():
    for views in (None, 10, 20):
        chosen = plan(views=views)
        assert not chosen.is_kept
        assert "each epoch has a new view of each image" in chosen.reason


def test_what_is_asked_for_once_is_not_kept():
    chosen = plan(passes=1)
    assert not chosen.is_kept
    assert "since they are asked for once" in chosen.reason


def test_without_room_nothing_is_kept():
    chosen = plan(has_room=False)
    assert not chosen.is_kept
    assert "200.0 MB do not fit in the cache" in chosen.reason


def test_a_prefix_that_is_faster_than_the_disk_is_not_kept():
    chosen = plan(seconds=0.00002)
    assert not chosen.is_kept
    assert "since to keep 200.0 MB would save 0.4 s and take about 2.0 s" in chosen.reason


def test_a_fit_that_asks_for_few_of_the_images_does_not_compute_them_all():
    chosen = plan(asked=64)
    assert not chosen.is_kept
    assert "would save 0.0 s" in chosen.reason


def test_a_single_stage_has_one_name():
    assert plan_activations(("stem",), 10, 10, 1, 10, 10, 0.01, True).reason.startswith("stem: computed once")
