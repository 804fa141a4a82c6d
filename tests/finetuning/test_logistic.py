"""A solved head is the optimum that scikit-learn finds, along a path that begins where the last problem ended."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from resnet_tl.finetuning.logistic import STEP, STRONGEST, penalty_path, solve_path

UNEVEN = torch.tensor([1.0, 3.0, 0.2, 1.0, 1.0])
"""What features are multiplied by that are not of one scale."""


@pytest.fixture(scope="module")
def problem() -> tuple[torch.Tensor, torch.Tensor]:
    """200 points in three classes that overlap, the last class with fewer of them."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 5, generator=generator)
    y = torch.multinomial(torch.tensor([0.4, 0.4, 0.2]), 200, replacement=True, generator=generator)
    x[torch.arange(200), y] += 1.0
    return x, y


def scaled(x: torch.Tensor) -> torch.Tensor:
    """As they are solved: a penalty on those weights is another one on the features as they came."""
    return (x - x.mean(dim=0)) / (x.std(dim=0) + x.std(dim=0).mean())


def probabilities(x: torch.Tensor, solution) -> torch.Tensor:
    return F.linear(x, solution.weight, solution.bias).softmax(dim=1)


@pytest.mark.parametrize("penalty", [1.0, 0.01])
def test_it_is_logistic_regression(problem, penalty: float):
    x, y = problem[0] * UNEVEN, problem[1]
    (found,) = solve_path(x, y, [penalty])
    z = scaled(x)
    oracle = LogisticRegression(C=1 / (200 * penalty * float(z.var(dim=0).mean())), tol=1e-10, max_iter=1000).fit(z, y)
    np.testing.assert_allclose(probabilities(x, found), oracle.predict_proba(z), atol=1e-3)
    assert (found.penalty, found.weight.shape, found.bias.shape) == (penalty, (3, 5), (3,))


def test_class_weights_come_with_the_loss(problem):
    x, y = problem[0] * UNEVEN, problem[1]
    weights = len(y) / (3 * y.bincount())
    (found,) = solve_path(x, y, [0.01], loss=partial(F.cross_entropy, weight=weights))
    z = scaled(x)
    strength = 0.01 * float(z.var(dim=0).mean()) * float(weights[y].sum())
    oracle = LogisticRegression(C=1 / strength, class_weight="balanced", tol=1e-10, max_iter=1000).fit(z, y)
    np.testing.assert_allclose(probabilities(x, found), oracle.predict_proba(z), atol=1e-3)


def test_the_path_goes_evenly_from_strong_to_weak():
    path = penalty_path(13)
    assert path[0] == STRONGEST
    assert path[-1] == pytest.approx(1e-5)
    np.testing.assert_allclose(np.divide(path[1:], path[:-1]), 1 / STEP)
    assert penalty_path(3) == path[:3]


def test_each_problem_begins_with_the_solution_before_it(problem):
    calls = []

    def counted(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        calls.append(logits.detach().clone())
        return F.cross_entropy(logits, target)

    x, y = problem
    path = solve_path(x, y, [1.0, 0.9], loss=counted)
    first = next(path)
    cold = len(calls)
    torch.testing.assert_close(calls[0], torch.zeros(200, 3))
    second = next(path)
    torch.testing.assert_close(calls[cold], F.linear(x, first.weight, first.bias))
    assert len(calls) - cold < cold
    assert second.weight.norm() > first.weight.norm()


def test_it_begins_where_it_is_told_to_and_leaves_that_alone(problem):
    x, y = problem
    (optimum,) = solve_path(x, y, [0.1])
    start = optimum.weight.clone(), optimum.bias.clone()
    (again,) = solve_path(x, y, [0.1], start=start)
    torch.testing.assert_close(again.weight, optimum.weight, rtol=0, atol=1e-4)
    (next_one,) = solve_path(x, y, [0.01], start=start)
    assert torch.equal(start[0], optimum.weight)
    assert not torch.equal(next_one.weight, start[0])


def test_a_class_without_images_has_its_place(problem):
    x, y = problem
    (found,) = solve_path(x, y, [1.0], classes=4)
    assert found.weight.shape == (4, 5)
    assert not probabilities(x, found).argmax(dim=1).eq(3).any()


def test_it_takes_what_was_made_for_inference_in_any_precision(problem):
    x, y = problem
    (exact,) = solve_path(x, y, [1.0])
    with torch.inference_mode():
        inputs = [x.clone(), x.bfloat16()]
    for features in inputs:
        (found,) = solve_path(features, y, [1.0])
        assert found.weight.dtype == torch.float32
        torch.testing.assert_close(found.weight, exact.weight, rtol=0, atol=1e-2)


def test_a_path_on_real_pixels_is_the_same_twice_and_has_its_best_in_the_middle():
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    x, y = torch.tensor(digits.data[order], dtype=torch.float32), torch.tensor(digits.target[order])
    path, again = (list(solve_path(x[:300], y[:300], penalty_path(13)[::2])) for _ in range(2))
    assert all(torch.equal(one.weight, other.weight) for one, other in zip(path, again, strict=True))
    norms = [float(found.weight.norm()) for found in path]
    assert norms == sorted(norms)
    losses = [float(F.nll_loss(probabilities(x[300:], found).log(), y[300:])) for found in path]
    assert 0 < losses.index(min(losses)) < 6
    best = probabilities(x[300:], path[losses.index(min(losses))]).argmax(dim=1)
    assert (best == y[300:]).float().mean() > 0.9
