from __future__ import annotations

import torch

from resnet_tl.networks import create_network
from resnet_tl.training.budget.measuring import measure_speed


def test_larger_images_are_measured_until_a_step_takes_long_enough():
    network = create_network("resnet20", 3)

    for longest, sizes in ((0.0, [16]), (1e9, [16, 32, 48])):
        step, forward = measure_speed(network, [16, 32, 48], 4, torch.float32, longest)
        assert list(step.measured) == list(forward.measured) == sizes
        assert all(step(size) > forward(size) > 0 for size in sizes)
    assert step(96) == 4 * step.measured[48]  # beyond them in proportion to the area


def test_a_network_is_as_it_was_after_its_speed_was_measured():
    network = create_network("resnet20", 3)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}

    measure_speed(network, [16], 4, torch.float32)

    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
