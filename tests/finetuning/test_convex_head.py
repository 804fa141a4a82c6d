"""A solved head is the optimum that scikit-learn finds."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from resnet_tl.finetuning.convex_head import STRONGEST, WEAKEST, lbfgs, penalty_at, ridge


@pytest.mark.parametrize("strength", [1.0, 0.01])
def test_it_is_logistic_regression(strength: float):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 5, generator=generator)
    y = torch.randint(0, 3, (200,), generator=generator)
    x[torch.arange(200), y] += 1.0
    head = torch.nn.Linear(5, 3)
    variance = x.var(dim=0).mean()
    optimizer = lbfgs(head)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(head(x), y) + ridge(head, variance, strength)
        loss.backward()
        return loss

    optimizer.step(closure)

    oracle = LogisticRegression(C=1 / (200 * strength * float(variance)), tol=1e-10, max_iter=1000).fit(x, y)
    with torch.no_grad():
        probabilities = head(x).softmax(dim=1)
    np.testing.assert_allclose(probabilities, oracle.predict_proba(x), atol=1e-3)


def test_the_penalty_falls_evenly_from_strong_to_weak():
    path = [penalty_at(epoch, 11) for epoch in range(11)]
    assert path[0] == STRONGEST
    assert path[-1] == pytest.approx(WEAKEST)
    ratios = np.divide(path[1:], path[:-1])
    np.testing.assert_allclose(ratios, ratios[0])
    assert penalty_at(0, 1) == pytest.approx(path[5])
