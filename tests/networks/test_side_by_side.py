"""Networks side by side give one head the features of each, each of images as it expects them."""

from __future__ import annotations

import pytest
import torch

from resnet_tl.errors import UserError
from resnet_tl.networks import create_network, rebuild_network
from resnet_tl.networks.frozen import FrozenStages
from resnet_tl.networks.side_by_side import SideBySide

IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def both():
    return create_network("resnet20+lenet5", 5).eval()


def test_its_features_are_those_of_each_network(both):
    alone = [create_network(name, 1).eval() for name in ("resnet20", "lenet5")]
    means, stds = [(0.5, 0.4, 0.3), (0.1, 0.2, 0.3)], [(0.2, 0.2, 0.2), (0.1, 0.2, 0.4)]
    assert isinstance(both.body, SideBySide)
    both.body.take([network.body for network in alone], means, stds)

    def normalised(of: int) -> torch.Tensor:
        return (IMAGES - torch.tensor(means[of]).view(3, 1, 1)) / torch.tensor(stds[of]).view(3, 1, 1)

    expected = torch.cat([network.forward_stages(normalised(of)) for of, network in enumerate(alone)], dim=1)

    torch.testing.assert_close(both.forward_stages(normalised(0)), expected, rtol=1e-4, atol=1e-4)
    assert both.head.in_features == both.num_features == expected.shape[1]


def test_it_is_one_stage_whose_norms_are_folded_when_it_is_frozen(both):
    both.freeze(both.stage_names)
    frozen = FrozenStages(both)

    assert both.stage_names == ("backbone",)
    assert not [part for part in frozen.modules[0].modules() if isinstance(part, torch.nn.BatchNorm2d)]
    torch.testing.assert_close(frozen(IMAGES), both.forward_stages(IMAGES), rtol=1e-4, atol=1e-4)
    assert torch.equal(frozen(IMAGES[:1]), frozen(IMAGES)[:1])


def test_a_bundle_or_checkpoint_builds_it_again(both):
    again = rebuild_network(both.description, 5)
    again.load_state_dict(both.state_dict())

    assert torch.equal(again.eval()(IMAGES), both(IMAGES))


def test_a_stranger_cannot_name_any_number_of_them():
    with pytest.raises(UserError, match="names 9 networks side by side; it may be 8 at most"):
        create_network("+".join(["resnet20"] * 9), 5)


def test_one_that_is_not_there_is_named():
    with pytest.raises(UserError, match="There is no network 'resnt18'"):
        create_network("resnet20+resnt18", 5)
