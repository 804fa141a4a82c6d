"""What a plan makes of measured speeds and a probe, as a function of them alone."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from resnet_tl.training.budget.plan import MOST_EPOCHS, PART, SHARE, Facts, Plan, Speed, make_plan

SIZES = [*range(96, 224, 32), 224]
FAST = Facts(  # ResNet-18 on two fast cores, plant seedlings: 59 images/s at 224 px, frozen 200
    budget=600.0,
    spent=30.0,
    end=5.0,
    images={"train": 3221, "val": 806, "test": 0},
    sizes=SIZES,
    step=Speed({224: 1 / 59}),
    forward=Speed({224: 1 / 200}),
    last_stage=0.25,
    probe=0.8,
)
SLOW = replace(FAST, step=Speed({160: 1 / 10}), forward=Speed({160: 1 / 35}))


def values(facts: Facts) -> dict[str, object]:
    return {key.split(".")[1]: value for key, (value, _) in make_plan(facts).settings.items()}


@pytest.mark.parametrize(
    ("facts", "mode", "size", "epochs"),
    [
        (replace(FAST, budget=60.0), "all", 96, 1),
        (replace(FAST, budget=120.0), "all", 128, 4),
        (replace(FAST, budget=600.0), "all", 224, 9),
        (replace(FAST, budget=1200.0), "all", 224, 18),
        (replace(FAST, budget=9000.0), "all", 224, MOST_EPOCHS),
        (replace(SLOW, budget=120.0), "head", 96, None),
        (replace(SLOW, budget=600.0), "all", 96, 3),
        (replace(SLOW, budget=1200.0), "all", 128, 5),
        (replace(FAST, budget=120.0, probe=0.98), "head", 224, None),
        (replace(FAST, budget=300.0, probe=0.98), "last_stages", 224, 10),
        (replace(FAST, budget=90.0, probe=0.94), "head", 224, None),
        (replace(FAST, budget=120.0, probe=0.94), "all", 128, 4),
        (replace(FAST, budget=1.0), "head", 96, None),
    ],
)
def test_the_table_of_plans(facts: Facts, mode: str, size: int, epochs: int | None):
    plan = make_plan(facts)

    assert (plan.mode, plan.image_size, values(facts).get("max_epochs")) == (mode, size, epochs)
    assert len(plan.epochs) == (epochs or 1)


def test_more_time_never_makes_images_smaller_or_overruns_its_share():
    last = 0
    for budget in range(120, 4000, 60):
        plan = make_plan(replace(FAST, budget=float(budget)))
        size = plan.settings["data.image_size"][0]
        assert size >= last
        assert plan.seconds <= SHARE * budget + PART * max(plan.epochs) + 1e-6
        last = size


def test_one_more_epoch_fits_where_the_first_ones_are_smaller():
    plan = make_plan(replace(SLOW, budget=1200.0))

    assert plan.settings["model.schedule"][0] == [
        {"mode": "all", "epochs": 2, "image_size": 96},
        {"mode": "all", "epochs": 3},
    ]
    assert plan.epochs == [SLOW.epoch(96, 128)] * 2 + [SLOW.epoch(128)] * 3
    assert sum(plan.epochs) <= SLOW.left(128) + 600 * SHARE


def test_a_plan_leaves_time_for_the_evidence():
    plan = make_plan(FAST)

    after_training = plan.seconds - FAST.spent - sum(plan.epochs)
    evaluation = 806 / 200
    assert after_training > FAST.end + evaluation + 200 / 200 + 0.05 * sum(plan.epochs)


def test_few_epochs_see_fewer_of_the_flips_and_turns():
    facts = replace(FAST, symmetry=("dihedral", "measured"))

    assert values(replace(facts, budget=80.0))["symmetry"] == "mirror"
    assert values(replace(facts, budget=1200.0))["symmetry"] == "dihedral"
    assert values(replace(facts, budget=100.0, symmetry=("none", "measured")))["symmetry"] == "none"
    assert "symmetry" not in values(FAST)


def test_a_network_of_one_size_trains_as_long_as_there_is_time():
    facts = replace(FAST, sizes=[224], is_any_size=False, budget=500.0)

    assert values(facts)["max_epochs"] == 6
    assert "schedule" not in values(facts)
    assert values(replace(facts, budget=60.0))["mode"] == "head"


def test_a_head_is_solved_in_one_process():
    facts = replace(FAST, budget=30.0, processes=2)

    assert values(facts)["devices"] == 1
    assert "devices" not in values(replace(facts, budget=600.0))


def test_speeds_grow_with_the_area_beyond_what_was_measured():
    speed = Speed({64: 0.008, 96: 0.012}, fixed=0.001)

    assert (speed(64), speed(96)) == pytest.approx((0.009, 0.013))
    assert (speed(192), speed(32)) == pytest.approx((0.049, 0.003))
    assert (speed / 2)(96) == pytest.approx(0.0065)


def test_a_plan_goes_to_other_processes_as_it_is():
    plan = make_plan(FAST)

    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    assert "--data.image_size=224" in plan.flags
    assert (
        '--model.schedule=[{"mode": "all", "epochs": 4, "image_size": 192}, {"mode": "all", "epochs": 5}]' in plan.flags
    )


def test_few_images_need_more_epochs_and_trust_frozen_features_sooner():
    ants = replace(FAST, images={"train": 244, "val": 153, "test": 0}, probe=0.94)

    assert values(ants)["mode"] == "last_stages"
    assert values(replace(ants, probe=0.8))["max_epochs"] == MOST_EPOCHS
    assert replace(ants, probe=0.8).least_epochs(96) == 14
    assert values(replace(ants, images={"train": 50, "val": 20, "test": 0}, probe=0.8))["max_epochs"] == 64
    assert values(replace(ants, probe=0.8, budget=50.0))["mode"] == "head"
