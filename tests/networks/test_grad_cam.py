"""Grad-CAM against a network whose class depends on a known place, against its closed form, and on every network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from resnet_tl.errors import UserError
from resnet_tl.networks import create_network
from resnet_tl.networks.grad_cam import grad_cam


class Corners(nn.Module):
    """Class 0 is a red place anywhere, class 1 a green one: a pooled map of each colour, and a linear head."""

    def __init__(self, num_classes: int = 2) -> None:
        super().__init__()
        self.maps = nn.Conv2d(3, 2, kernel_size=8, stride=8, bias=False)
        self.act = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(2, num_classes, bias=False)
        with torch.no_grad():
            self.maps.weight.zero_()
            self.maps.weight[0, 0] = self.maps.weight[1, 1] = 1
            self.head.weight.copy_(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.flatten(self.pool(self.act(self.maps(x)))))


def corners() -> torch.Tensor:
    """Red at the top left, green at the bottom right."""
    image = torch.zeros(1, 3, 32, 32)
    image[0, 0, :8, :8] = 1
    image[0, 1, 24:, 24:] = 1
    return image


def test_the_evidence_is_where_it_was_put() -> None:
    network = create_network(Corners, 2).eval()

    red, green = grad_cam(network, corners().expand(2, -1, -1, -1), torch.tensor([0, 1]))

    expected = torch.zeros(4, 4)
    expected[0, 0] = 1
    assert torch.equal(red, expected)
    assert torch.equal(green, expected.flip(0, 1))


def test_nothing_speaks_for_a_class_that_is_not_there() -> None:
    network = create_network(Corners, 2).eval()
    image = corners()
    image[0, 1] = 0

    assert not grad_cam(network, image, torch.tensor([1])).any()


@pytest.mark.parametrize("name", ["resnet20", "resnet20v2", "resnet18"])
def test_with_a_pool_and_a_linear_head_it_is_the_weighted_sum_of_the_maps(name: str) -> None:
    torch.manual_seed(0)
    network = create_network(name, 3).eval()
    with torch.no_grad():
        network.head.weight.add_(0.01)  # so that something speaks for each class
    images, classes = torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 2, 0])

    found = grad_cam(network, images, classes)

    given = []
    pool = network.stage(network.stage_names[-1])[-2 if name != "resnet18" else -1]
    handle = pool.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0].detach()))
    network(images)
    handle.remove()
    weighted = torch.einsum("nk,nkhw->nhw", network.head.weight[classes], given[0]).relu()
    torch.testing.assert_close(found, weighted / weighted.amax(dim=(1, 2), keepdim=True).clamp_min(1e-30))
    assert found.amax(dim=(1, 2)).tolist() == pytest.approx([1] * 4)


@pytest.mark.parametrize("name", ["lenet5", "mnist_cnn", "mnist_two_branch", "resnet20", "convnext_atto", "resnet18"])
def test_a_network_of_any_kind_has_a_map_and_stays_as_it_is(name: str) -> None:
    torch.manual_seed(0)
    network = create_network(name, 3, in_chans=3).eval()
    network.freeze(network.stage_names[:1])
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    side = 64 if name in ("convnext_atto", "resnet18") else 28
    images = torch.randn(2, 3, side, side)
    kept = images.clone()

    with torch.inference_mode():
        maps = grad_cam(network.eval(), images, torch.tensor([0, 2]))

    assert maps.ndim == 3
    assert min(maps.shape[1:]) > 1
    assert maps.dtype == torch.float32
    assert ((maps >= 0) & (maps <= 1)).all()
    assert torch.equal(images, kept)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_it_says_why_there_is_no_map() -> None:
    with pytest.raises(UserError, match="is no chain of stages"):
        grad_cam(create_network("resnet20+resnet20", 2).eval(), torch.randn(1, 3, 32, 32), torch.tensor([0]))

    flat = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(UserError, match="more than one place"):
        grad_cam(create_network(flat, 2).eval(), torch.randn(1, 3, 32, 32), torch.tensor([0]))
