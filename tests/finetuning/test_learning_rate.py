"""Warm-up and cosine as a function of the step."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from resnet_tl.errors import UserError
from resnet_tl.finetuning.learning_rate import PiecewiseConstantLR, WarmupCosine, follow, warmup_cosine
from resnet_tl.finetuning.modes import Phase, Schedule


def test_the_rate_rises_over_the_warm_up_and_falls_to_zero():
    factor = WarmupCosine(starts=[0], total=100, scales=[1.0], warmup=0.1)
    values = [factor(step) for step in range(101)]

    assert values[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert values[10] == 1.0
    assert values[55] == pytest.approx(0.5)
    assert all(later < earlier for earlier, later in pairwise(values[10:]))
    assert 0 < values[99] < 0.001
    assert values[100] == pytest.approx(0)


def test_each_phase_warms_up_anew_and_has_its_own_scale():
    factor = WarmupCosine(starts=[0, 20], total=60, scales=[1.0, 0.3], warmup=0.05)

    assert factor(1) == pytest.approx(1.0)
    assert 0 < factor(19) < 0.01
    assert factor(20) == pytest.approx(0.3 * 1 / 3)
    assert max(factor(step) for step in range(20, 60)) == pytest.approx(0.3)
    assert 0 < factor(59) < 0.001


def test_a_phase_cut_in_two_has_the_rates_of_its_wholes():
    planned, shorter = (WarmupCosine.of(Schedule((Phase(epochs=n),)), 0.1, 0.05, 10, n * 10) for n in (8, 5))
    cut = WarmupCosine.of(Schedule((Phase(),)).shortened(8, 2, 3), 0.1, 0.05, 10, 50)

    assert [cut(step) for step in range(20)] == [planned(step) for step in range(20)]
    assert [cut(step) for step in range(20, 51)] == [shorter(step) for step in range(20, 51)]


def test_a_scheduler_follows_another_factor_from_the_next_step_on():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = warmup_cosine(optimizer, WarmupCosine([0], 10, [1.0]))
    optimizer.step()
    scheduler.step()
    follow(scheduler, shorter := WarmupCosine([0], 5, [1.0]))

    assert optimizer.param_groups[0]["lr"] == 0.1 * shorter(1)
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 0.1 * shorter(2)


def test_every_step_of_a_run_has_a_positive_rate():
    for total in range(1, 30):
        factor = WarmupCosine(starts=[0], total=total, scales=[1.0])
        assert all(factor(step) > 0 for step in range(total))


def test_a_phase_that_the_run_cuts_short_still_falls_to_zero():
    factor = WarmupCosine(starts=[0, 100], total=50, scales=[1.0, 1.0])

    assert 0 < factor(49) < 0.01


def test_no_warm_up_still_starts_gently():
    factor = WarmupCosine(starts=[0], total=100, scales=[1.0], warmup=0.0)

    assert factor(0) == 0.5
    assert factor(1) == 1.0


def test_the_scheduler_keeps_the_groups_ratios():
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [parameters[0]], "lr": 0.1}, {"params": [parameters[1]], "lr": 1.0}])
    scheduler = warmup_cosine(optimizer, WarmupCosine([0], 10, [1.0]))

    for _ in range(9):
        optimizer.step()
        scheduler.step()
        low, high = (group["lr"] for group in optimizer.param_groups)
        assert low / high == pytest.approx(0.1)


def test_a_longer_fit_that_goes_on_from_a_checkpoint_has_its_own_length():
    parameter = torch.nn.Parameter(torch.zeros(1))
    short = warmup_cosine(torch.optim.SGD([parameter], lr=1.0), WarmupCosine([0], 10, [1.0]))
    long = warmup_cosine(torch.optim.SGD([parameter], lr=1.0), WarmupCosine([0], 20, [1.0]))

    long.load_state_dict({**short.state_dict(), "last_epoch": 9})
    long.optimizer.step()
    long.step()

    assert long.get_last_lr()[0] == pytest.approx(WarmupCosine([0], 20, [1.0])(10))


def rates(scheduler: PiecewiseConstantLR, optimizer: torch.optim.Optimizer, steps: int) -> list[list[float]]:
    seen = []
    for _ in range(steps):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return seen


def two_groups() -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [torch.zeros(1)], "lr": 1.0}, {"params": [torch.zeros(1)], "lr": 0.1}])


def test_the_rate_is_at_each_milestones_factor_of_the_base_rate():
    optimizer = two_groups()
    scheduler = PiecewiseConstantLR(optimizer, milestones=[2, 3, 5], factors=[0.1, 0.01, 0.005])

    seen = rates(scheduler, optimizer, 7)

    assert [first for first, _ in seen] == pytest.approx([1, 1, 0.1, 0.01, 0.01, 0.005, 0.005])
    assert all(second == pytest.approx(first / 10) for first, second in seen)


def test_a_first_milestone_of_zero_is_a_warm_up():
    optimizer = two_groups()
    scheduler = PiecewiseConstantLR(optimizer, milestones=[0, 2], factors=[0.1, 1.0])

    assert [first for first, _ in rates(scheduler, optimizer, 4)] == pytest.approx([0.1, 0.1, 1, 1])


def test_a_resumed_schedule_goes_on_where_it_was():
    optimizer = two_groups()
    scheduler = PiecewiseConstantLR(optimizer, milestones=[2, 3], factors=[0.1, 0.01])
    rates(scheduler, optimizer, 2)
    other = two_groups()
    resumed = PiecewiseConstantLR(other, milestones=[2, 3], factors=[0.1, 0.01])

    other.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(scheduler.state_dict())

    assert rates(resumed, other, 2) == rates(scheduler, optimizer, 2)


@pytest.mark.parametrize(
    ("milestones", "factors", "problem"),
    [
        ([1, 2], [0.1], "2 milestones and 1 factors"),
        ([3, 3], [0.1, 0.2], "must rise"),
        ([5, 1], [1, 1], "must rise"),
        ([-1], [1], "0 or more"),
        ([1], [-1], "0 or more"),
    ],
)
def test_lists_that_do_not_fit_are_refused(milestones: list[int], factors: list[float], problem: str):
    with pytest.raises(UserError, match=problem):
        PiecewiseConstantLR(two_groups(), milestones, factors)
