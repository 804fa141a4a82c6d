"""A step where everything lies on the device: the meta device computes nothing, but refuses to mix devices or to wait.

It cannot show generators, types under autocast, or copies: those are for the tests with the marker `gpu`.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from resnet_tl.data.pixels.colour import adjust_colour

META = torch.device("meta")


def images_on_meta(number: int = 4, size: int = 16) -> torch.Tensor:
    """Images (N, C, H, W) uint8 as the loader gives them, channels last."""
    return torch.empty(number, size, size, 3, dtype=torch.uint8, device=META).permute(0, 3, 1, 2)


@pytest.mark.parametrize("mode", ["head", "last_stages", "all"])
def test_a_step_stays_on_the_device_and_in_channels_last(mode: str, fit):
    model = fit(1, trainer={"limit_train_batches": 1, "limit_val_batches": 0}, mode=mode)
    network = model.network.to(META).train()
    trained = {name: one for name, one in network.named_parameters() if one.requires_grad}
    optimizer = torch.optim.AdamW(trained.values())
    inputs: list[torch.Tensor] = []
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))

    logits = model(images_on_meta())
    F.cross_entropy(logits, torch.empty(4, dtype=torch.int64, device=META)).backward()
    optimizer.step()

    assert logits.device == META
    assert {name for name, one in network.named_parameters() if one.grad is not None} == trained.keys()
    assert {one.device for one in (*network.parameters(), *network.buffers())} == {META}
    # The outputs of a convolution lie so on real devices, but not on this one.
    maps = [inputs[0], *(one for one in network.parameters() if one.ndim == 4)]
    assert all(one.is_contiguous(memory_format=torch.channels_last) for one in maps)


def test_colours_change_where_the_images_lie():
    adjusted = adjust_colour(images_on_meta(), torch.empty(4, 3, device=META))

    assert adjusted.device == META
    assert adjusted.is_contiguous(memory_format=torch.channels_last)
