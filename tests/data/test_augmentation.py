from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch

from resnet_tl.data.augmentation import POLICIES, Augmentation, sample_seed
from resnet_tl.data.preprocessing import Preprocessing

RANDOM = [policy for policy in POLICIES if policy != "none"]


def preprocessing(channels: int = 3) -> Preprocessing:
    flat = (0.5,) * channels
    return Preprocessing(size=24, storage_size=28, crop_size=24, channels=channels, mean=flat, std=flat)


def picture(height: int = 28, width: int = 36, channels: int = 3) -> torch.Tensor:
    pixels = np.random.default_rng(1).integers(0, 256, (channels, height, width), dtype=np.uint8)
    return torch.from_numpy(pixels)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("height", "width"), [(28, 28), (28, 37), (448, 28)])
def test_every_policy_gives_a_square_of_bytes(policy: str, channels: int, height: int, width: int) -> None:
    augment = Augmentation(policy, preprocessing(channels), seed=0)
    image = picture(height, width, channels)
    before = image.clone()
    for row in range(12):  # several draws: each operation of a policy comes up
        view = augment(image, 0, row)
        assert view.shape == (channels, 24, 24)
        assert view.dtype == torch.uint8
        assert view.is_contiguous()
    assert torch.equal(image, before)


@pytest.mark.parametrize("policy", RANDOM)
def test_a_view_depends_on_seed_view_and_row_alone(policy: str) -> None:
    image = picture()
    augment = Augmentation(policy, preprocessing(), seed=3)
    first = augment(image, 2, 5)
    others = [augment(image, view, row) for view in range(4) for row in range(4)]
    torch.manual_seed(99)
    assert torch.equal(augment(image, 2, 5), first)
    assert torch.equal(Augmentation(policy, preprocessing(), seed=3)(image, 2, 5), first)
    assert len({other.numpy().tobytes() for other in others}) > 8

    def differs(seed: int, view: int, row: int) -> bool:
        return not torch.equal(Augmentation(policy, preprocessing(), seed)(image, view, row), first)

    # One draw may come out the same by chance (a flip): of eight, most must not.
    assert sum(differs(seed, 2, 5) for seed in range(10, 18)) >= 5
    assert sum(differs(3, view, 5) for view in range(10, 18)) >= 5
    assert sum(differs(3, 2, row) for row in range(10, 18)) >= 5


@pytest.mark.parametrize("policy", POLICIES)
def test_augmentation_leaves_the_global_generators_as_they_were(policy: str) -> None:
    torch.manual_seed(5)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    Augmentation(policy, preprocessing(), seed=0)(picture(), 0, 0)
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()  # noqa: NPY002


def test_the_global_generator_is_put_back_when_an_image_fails() -> None:
    before = torch.get_rng_state()
    with pytest.raises(TypeError):
        Augmentation("light", preprocessing(), seed=0)(torch.empty(0, dtype=torch.uint8), 0, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_no_augmentation_is_the_centre_crop() -> None:
    image = picture()
    assert torch.equal(Augmentation("none", preprocessing(), seed=0)(image, 7, 3), preprocessing().centre(image))


def test_light_crops_and_flips_and_invents_no_colour() -> None:
    image = picture()
    image[0], image[1], image[2] = 200, 100, 50
    for row in range(10):
        view = Augmentation("light", preprocessing(), seed=0)(image, 0, row)
        assert view.flatten(1).float().std(dim=1).max() == 0
        assert view[:, 0, 0].tolist() == [200, 100, 50]


def test_about_half_of_the_views_are_flipped() -> None:
    image = torch.arange(36, dtype=torch.uint8).mul(7).expand(3, 28, 36).contiguous()  # brighter to the right
    views = [Augmentation("light", preprocessing(), seed=0)(image, 0, row).float() for row in range(200)]
    flipped = sum(bool(view[..., 0].mean() > view[..., -1].mean()) for view in views)
    assert 70 < flipped < 130


def test_shifts_move_the_picture_by_a_tenth_at_most() -> None:
    image = torch.zeros((3, 28, 28), dtype=torch.uint8)
    image[:, 13:15, 13:15] = 255
    places = set()
    for row in range(40):
        view = Augmentation("shift_flip", preprocessing(), seed=0)(image, 0, row)
        vertical, horizontal = (torch.nonzero(view[0])[:, axis].float().mean().item() for axis in (0, 1))
        assert abs(vertical - 11.5) <= 2.5
        assert abs(horizontal - 11.5) <= 2.5
        places.add((vertical, horizontal))
    assert len(places) > 8


def test_shift_flips_nothing() -> None:
    image = torch.zeros((3, 28, 28), dtype=torch.uint8)
    image[..., 14:] = 255
    for row in range(40):
        view = Augmentation("shift", preprocessing(), seed=0)(image, 0, row)
        assert (view[..., 0] == 0).all()
        assert (view[..., -1] == 255).all()


def test_what_a_shift_uncovers_repeats_the_border() -> None:
    image = torch.zeros((1, 24, 24), dtype=torch.uint8)
    image[:, :, 0] = 200
    image[:, :, -1] = 200
    square = Preprocessing(24, 24, 24, channels=1, mean=(0.5,), std=(0.5,))
    widths = set()
    for row in range(30):
        view = Augmentation("shift_flip", square, seed=0)(image, 0, row)
        assert set(view.unique().tolist()) == {0, 200}
        widths.add(int((view[0, 0] == 200).sum()))
    assert widths == {2, 3}  # a shift by two pixels makes one side three wide, and the other is gone


@pytest.mark.parametrize("policy", ["none", "light"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_random_erasing_paints_a_rectangle_with_the_mean_colour(policy: str, channels: int) -> None:
    white = torch.full((channels, 28, 36), 255, dtype=torch.uint8)
    always = Augmentation(policy, preprocessing(channels), seed=0, random_erasing=1.0)
    for row in range(10):
        view = always(white, 0, row)
        assert view.dtype == torch.uint8
        painted = view[0] == 127
        assert (view[:, painted] == 127).all()
        assert 0.015 < painted.float().mean() < 0.36  # 2 to 33 %, rounded to pixels
        assert (view[:, ~painted] == 255).all()
        down, across = (painted.any(dim=axis).sum() for axis in (1, 0))
        assert painted.sum() == down * across


def test_random_erasing_happens_as_often_as_it_is_told() -> None:
    white = torch.full((3, 28, 28), 255, dtype=torch.uint8)
    now_and_then = Augmentation("none", preprocessing(), seed=0, random_erasing=0.25)
    assert 30 < sum(bool((now_and_then(white, 0, row) < 255).any()) for row in range(200)) < 70


def test_standard_changes_colours_and_those_of_four_channels_stay() -> None:
    plain = torch.full((3, 28, 28), 100, dtype=torch.uint8)
    centres = {int(Augmentation("standard", preprocessing(), 0)(plain, 0, row)[0, 12, 12]) for row in range(10)}
    assert len(centres) > 3
    four = torch.full((4, 28, 28), 100, dtype=torch.uint8)
    assert Augmentation("standard", preprocessing(4), 0)(four, 0, 0)[:, 12, 12].tolist() == [100] * 4


def test_seeds_do_not_collide_over_epochs_and_rows() -> None:
    seeds = {sample_seed(seed, view, row) for seed in range(2) for view in range(30) for row in range(300)}
    assert len(seeds) == 2 * 30 * 300
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_seed_of_a_sample_is_the_same_on_every_machine_and_in_every_version() -> None:
    assert sample_seed(0, 0, 0) == 7896617691693857887
    assert sample_seed(1, 2, 3) == 6498626229777268288


@pytest.mark.parametrize("policy", POLICIES)
def test_augmentation_survives_the_way_into_a_worker_process(policy: str) -> None:
    augment = Augmentation(policy, preprocessing(), seed=4)
    sent = pickle.loads(pickle.dumps(augment))
    assert torch.equal(sent(picture(), 1, 1), augment(picture(), 1, 1))
    assert torch.equal(copy.deepcopy(augment)(picture(), 1, 1), augment(picture(), 1, 1))


def test_an_unknown_policy_is_refused_and_never_replaced() -> None:
    with pytest.raises(ValueError, match="is not a policy; they are none, light"):
        Augmentation("ligth", preprocessing(), seed=0)
