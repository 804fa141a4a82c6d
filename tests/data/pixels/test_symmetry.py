from __future__ import annotations

import numpy as np
import pytest
import torch

from resnet_tl.data.pixels.symmetry import ORIENTATIONS, draw_orientations, orient


def pictures(number: int, channels: int, size: int = 12) -> torch.Tensor:
    pixels = np.random.default_rng(0).integers(0, 256, (number, size, size, channels), dtype=np.uint8)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_orientations_are_the_four_turns_and_their_mirror_images(channels: int) -> None:
    images = pictures(1, channels).expand(ORIENTATIONS, -1, -1, -1).clone()
    image = images[0].clone()
    orient(images, np.arange(ORIENTATIONS))
    group = [torch.rot90(seen, turns, (1, 2)) for seen in (image, image.flip(2)) for turns in range(4)]
    assert {one.numpy().tobytes() for one in images} == {one.numpy().tobytes() for one in group}
    assert torch.equal(images[0], image)
    assert torch.equal(images[1], image.flip(2))
    assert torch.equal(images[4], image.transpose(1, 2))


def test_each_image_gets_its_own_orientation_whoever_its_neighbours_are() -> None:
    images = pictures(40, 3)
    orientations = draw_orientations("dihedral", 0, 3, np.arange(40))
    together = images.clone()
    orient(together, orientations)
    for position in range(40):
        alone = images[position : position + 1].clone()
        orient(alone, orientations[position : position + 1])
        assert torch.equal(alone[0], together[position])


@pytest.mark.parametrize(("symmetry", "allowed"), [("none", {0}), ("mirror", {0, 1}), ("dihedral", set(range(8)))])
def test_orientations_are_drawn_evenly_by_seed_view_and_row_alone(symmetry: str, allowed: set[int]) -> None:
    rows = np.arange(4000)
    drawn = draw_orientations(symmetry, 5, 2, rows)
    counts = np.bincount(drawn, minlength=8)
    assert set(np.flatnonzero(counts)) == allowed
    assert np.abs(counts[sorted(allowed)] - 4000 / len(allowed)).max() < 130  # four deviations of the widest
    assert (draw_orientations(symmetry, 5, 2, rows[::-1]) == drawn[::-1]).all()
    if symmetry != "none":
        assert (draw_orientations(symmetry, 5, 3, rows) != drawn).mean() > 0.4
        assert (draw_orientations(symmetry, 6, 2, rows) != drawn).mean() > 0.4
