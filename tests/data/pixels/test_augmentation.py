from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional

from resnet_tl.data.draws import Purpose, uniform
from resnet_tl.data.pixels.augmentation import CROP_RATIO, CROP_SCALE, POLICIES, Augmentation, _rotated_crop, crop_boxes
from resnet_tl.data.pixels.preprocessing import Preprocessing

RANDOM = [policy for policy in POLICIES if policy != "none"]


def preprocessing(channels: int = 3) -> Preprocessing:
    flat = (0.5,) * channels
    return Preprocessing(size=24, storage_size=28, crop_size=24, channels=channels, mean=flat, std=flat)


def picture(height: int = 28, width: int = 36, channels: int = 3) -> torch.Tensor:
    pixels = np.random.default_rng(1).integers(0, 256, (channels, height, width), dtype=np.uint8)
    return torch.from_numpy(pixels)


def one(augment: Augmentation, image: torch.Tensor, view: int, row: int) -> torch.Tensor:
    """The view of a single image, (C, size, size)."""
    return batch(augment, [image], view, [row])[0]


def batch(augment: Augmentation, images: list[torch.Tensor], view: int, rows: list[int]) -> torch.Tensor:
    size, channels = augment.preprocessing.size, augment.preprocessing.channels
    out = torch.empty((len(images), size, size, channels), dtype=torch.uint8).permute(0, 3, 1, 2)
    augment.write(images, np.array(rows, np.int64), view, out)
    return out


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("height", "width"), [(28, 28), (28, 37), (448, 28)])
def test_every_policy_gives_a_square_of_bytes(policy: str, channels: int, height: int, width: int) -> None:
    augment = Augmentation(policy, preprocessing(channels), seed=0)
    image = picture(height, width, channels)
    before = image.clone()
    for row in range(12):  # several draws: each operation of a policy comes up
        view = one(augment, image, 0, row)
        assert view.shape == (channels, 24, 24)
    assert torch.equal(image, before)


@pytest.mark.parametrize("policy", RANDOM)
def test_a_view_depends_on_seed_view_and_row_alone(policy: str) -> None:
    image = picture()
    augment = Augmentation(policy, preprocessing(), seed=3)
    first = one(augment, image, 2, 5)
    others = [one(augment, image, view, row) for view in range(4) for row in range(4)]
    torch.manual_seed(99)
    assert torch.equal(one(augment, image, 2, 5), first)
    assert torch.equal(one(Augmentation(policy, preprocessing(), seed=3), image, 2, 5), first)
    assert len({other.numpy().tobytes() for other in others}) > 8

    def differs(seed: int, view: int, row: int) -> bool:
        return not torch.equal(one(Augmentation(policy, preprocessing(), seed), image, view, row), first)

    # One draw may come out the same by chance: of eight, most must not.
    assert sum(differs(seed, 2, 5) for seed in range(10, 18)) >= 5
    assert sum(differs(3, view, 5) for view in range(10, 18)) >= 5
    assert sum(differs(3, 2, row) for row in range(10, 18)) >= 5


@pytest.mark.parametrize("policy", POLICIES)
def test_augmentation_leaves_the_global_generators_as_they_were(policy: str) -> None:
    torch.manual_seed(5)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    one(Augmentation(policy, preprocessing(), seed=0), picture(), 0, 0)
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()  # noqa: NPY002


def test_no_augmentation_is_the_centre_crop() -> None:
    image = picture()
    assert torch.equal(one(Augmentation("none", preprocessing(), seed=0), image, 7, 3), preprocessing().centre(image))


@pytest.mark.parametrize("policy", POLICIES)
def test_a_view_of_another_size_has_that_size_and_shows_the_same(policy: str) -> None:
    """A view of 24 pixels and one of 48 are alike once they are of one size."""
    image = torch.arange(96, dtype=torch.uint8).mul(2).expand(3, 96, 96).contiguous()
    augment = Augmentation(policy, Preprocessing(size=24, storage_size=96, crop_size=84), seed=0)
    small, large = (torch.empty((6, size, size, 3), dtype=torch.uint8).permute(0, 3, 1, 2) for size in (24, 48))
    for out in (small, large):
        augment.write([image] * 6, np.arange(6), 1, out)
    again = torch.nn.functional.interpolate(large.float(), 24, mode="bilinear", antialias=True)
    # Whole pixels of a shift are no whole pixels of another size, and trivial augment translates by as many pixels at
    # any size, as torchvision's does: one of these six images.
    difference = (again - small.float()).abs()
    assert (difference.median() if policy == "trivial_augment" else difference.mean()) < 4


def test_light_crops_and_invents_no_colour() -> None:
    image = picture()
    image[0], image[1], image[2] = 200, 100, 50
    for row in range(10):
        view = one(Augmentation("light", preprocessing(), seed=0), image, 0, row)
        assert view.flatten(1).float().std(dim=1).max() == 0
        assert view[:, 0, 0].tolist() == [200, 100, 50]


def test_mirror_turns_about_half_of_the_views_round() -> None:
    image = torch.arange(36, dtype=torch.uint8).mul(7).expand(3, 28, 36).contiguous()  # brighter to the right
    mirror = Augmentation("light", preprocessing(), seed=0, symmetry="mirror")
    views = [one(mirror, image, 0, row).float() for row in range(200)]
    flipped = sum(bool(view[..., 0].mean() > view[..., -1].mean()) for view in views)
    assert 70 < flipped < 130


def test_shifts_move_the_picture_by_a_tenth_at_most() -> None:
    image = torch.zeros((3, 28, 28), dtype=torch.uint8)
    image[:, 13:15, 13:15] = 255
    places = set()
    for row in range(40):
        view = one(Augmentation("shift", preprocessing(), seed=0, symmetry="mirror"), image, 0, row)
        vertical, horizontal = (torch.nonzero(view[0])[:, axis].float().mean().item() for axis in (0, 1))
        assert abs(vertical - 11.5) <= 2.5
        assert abs(horizontal - 11.5) <= 2.5
        places.add((vertical, horizontal))
    assert len(places) > 8


@pytest.mark.parametrize("policy", ["none", "light", "shift"])
def test_without_a_symmetry_nothing_is_mirrored(policy: str) -> None:
    image = torch.zeros((3, 28, 28), dtype=torch.uint8)
    image[..., 14:] = 255
    for row in range(40):
        view = one(Augmentation(policy, preprocessing(), seed=0, symmetry="none"), image, 0, row)
        assert view[..., 0].max() <= view[..., -1].min()


def test_shifts_go_to_either_side() -> None:
    image = torch.zeros((3, 28, 28), dtype=torch.uint8)
    image[..., 14:] = 255
    for row in range(40):
        view = one(Augmentation("shift", preprocessing(), seed=0), image, 0, row)
        assert (view[..., 0] == 0).all()
        assert (view[..., -1] == 255).all()


def test_what_a_shift_uncovers_repeats_the_border() -> None:
    image = torch.zeros((1, 24, 24), dtype=torch.uint8)
    image[:, :, 0] = 200
    image[:, :, -1] = 200
    square = Preprocessing(24, 24, 24, channels=1, mean=(0.5,), std=(0.5,))
    widths = set()
    for row in range(30):
        view = one(Augmentation("shift", square, seed=0, symmetry="mirror"), image, 0, row)
        assert set(view.unique().tolist()) == {0, 200}
        widths.add(int((view[0, 0] == 200).sum()))
    assert widths == {2, 3}  # a shift by two pixels makes one side three wide, and the other is gone


@pytest.mark.parametrize("policy", ["none", "light"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_random_erasing_paints_a_rectangle_with_the_mean_colour(policy: str, channels: int) -> None:
    white = torch.full((channels, 28, 36), 255, dtype=torch.uint8)
    always = Augmentation(policy, preprocessing(channels), seed=0, random_erasing=1.0)
    for row in range(10):
        view = one(always, white, 0, row)
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
    assert 30 < sum(bool((one(now_and_then, white, 0, row) < 255).any()) for row in range(200)) < 70


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("same_size", [True, False])
def test_a_view_is_the_same_alone_and_in_any_batch(policy: str, same_size: bool) -> None:
    augment = Augmentation(policy, preprocessing(), seed=1, random_erasing=0.5, symmetry="dihedral")
    images = [picture(28, 28 if same_size else 28 + row) for row in range(9)]
    rows = list(range(40, 49))
    together = batch(augment, images, 3, rows)
    backwards = batch(augment, images[::-1], 3, rows[::-1])
    for place, row in enumerate(rows):
        assert torch.equal(one(augment, images[place], 3, row), together[place])
        assert torch.equal(backwards[8 - place], together[place])


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_order_of_an_image_in_memory_changes_nothing(policy: str, channels: int) -> None:
    augment = Augmentation(policy, preprocessing(channels), seed=1)
    planes = picture(channels=channels)
    pixels = planes.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    for row in range(8):
        assert torch.equal(one(augment, planes, 0, row), one(augment, pixels, 0, row))


@pytest.mark.parametrize("policy", POLICIES)
def test_threads_do_not_disturb_each_other(policy: str) -> None:
    augment = Augmentation(policy, preprocessing(), seed=0, symmetry="dihedral")
    alone = [one(augment, picture(), 0, row) for row in range(60)]
    with ThreadPoolExecutor(4) as pool:
        beside = list(pool.map(lambda row: one(augment, picture(), 0, row), range(60)))
    assert all(torch.equal(first, second) for first, second in zip(alone, beside, strict=True))


@pytest.mark.parametrize(("height", "width"), [(256, 341), (256, 256), (400, 256), (32, 32)])
def test_crops_are_distributed_as_those_of_torchvision(height: int, width: int) -> None:
    number = 4000
    numbers = uniform(0, 0, np.arange(number), Purpose.CROP, 22)
    boxes = crop_boxes(numbers, np.full(number, height), np.full(number, width))
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    theirs = np.array([RandomResizedCrop.get_params(image, CROP_SCALE, CROP_RATIO) for _ in range(number)])
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 0] + boxes[:, 2] <= height).all()
    assert (boxes[:, 1] + boxes[:, 3] <= width).all()
    for quantity in (
        lambda box: box[:, 2] * box[:, 3] / (height * width),  # area
        lambda box: np.log(box[:, 3] / box[:, 2]),  # ratio
        lambda box: box[:, 0] / height,
        lambda box: box[:, 1] / width,
    ):
        assert ks_2samp(quantity(boxes), quantity(theirs)).statistic < 0.045  # p = 0.0006


@pytest.mark.parametrize(("height", "width"), [(10, 1000), (1000, 10), (4, 5), (1, 1), (1, 40)])
def test_an_image_into_which_no_random_crop_fits_gives_torchvisions_central_one(height: int, width: int) -> None:
    augment = Augmentation("light", preprocessing(), seed=0)
    image = picture(height, width)
    seen = {one(augment, image, 0, row).numpy().tobytes() for row in range(40)}
    torch.manual_seed(0)
    params = {tuple(RandomResizedCrop.get_params(image, CROP_SCALE, CROP_RATIO)) for _ in range(300)}
    top, left, tall, wide = max(params, key=lambda box: box[2] * box[3])  # the fallback is the largest
    expected = preprocessing().resize(image[:, top : top + tall, left : left + wide], 24, 24)
    assert expected.numpy().tobytes() in seen


@pytest.mark.parametrize("symmetry", ["none", "mirror"])
@pytest.mark.parametrize("size", [24, 32])
def test_a_shift_is_a_crop_of_the_padded_image(symmetry: str, size: int) -> None:
    plan = Preprocessing(size, 28, 24)
    augment = Augmentation("shift", plan, seed=0, symmetry=symmetry)
    image = picture()
    border = round(size / 10)
    padded = functional.pad(plan.centre(image), [border] * 4, padding_mode="edge")
    crops = {
        padded[:, top : top + size, left : left + size].numpy().tobytes()
        for top in range(2 * border + 1)
        for left in range(2 * border + 1)
    }
    seen = [one(augment, image, 0, row) for row in range(400)]
    as_they_are = [view.numpy().tobytes() in crops for view in seen]
    flipped = [view.flip(-1).numpy().tobytes() in crops for view in seen]
    assert all(np.logical_or(as_they_are, flipped))
    assert 150 < sum(as_they_are) < 250 or symmetry == "none"
    assert all(as_they_are) or symmetry == "mirror"
    assert len({view.numpy().tobytes() for view in seen}) >= len(crops) * 0.9


def test_a_small_rotation_is_that_of_torchvision() -> None:
    smooth = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 7, 9), dtype=np.uint8))
    image = functional.resize(smooth, [70, 90], antialias=True)
    for degrees in (-10.0, 3.0, 10.0):
        turned = functional.rotate(image, degrees, functional.InterpolationMode.BILINEAR)
        ours = _rotated_crop(image, degrees, 20, 15, 30, 60)
        assert (ours.int() - turned[:, 20:50, 15:75].int()).abs().max() <= 2
        corner = _rotated_crop(image, degrees, 0, 0, 70, 90)[:, 0, 0]
        assert (corner == 0).all()


def test_standard_draws_colours_from_row_and_view() -> None:
    augment = Augmentation("standard", preprocessing(), 0)
    factors = augment.colour(np.arange(2000), 0)
    assert factors is not None
    assert (factors.shape, factors.dtype) == ((2000, 3), torch.float32)
    assert 0.8 <= float(factors.min()) < 0.801
    assert 1.199 < float(factors.max()) <= 1.2
    assert (factors.mean(dim=0) - 1).abs().max() < 0.01
    again = augment.colour(np.array([7]), 0)
    assert again is not None
    assert torch.equal(again[0], factors[7])
    assert Augmentation("light", preprocessing(), 0).colour(np.arange(3), 0) is None


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels_are_augmented_as_well(channels: int) -> None:
    """Both policies changed less than they said on grey, and `trivial_augment` no more than `light` on RGBA."""
    colours = Augmentation("standard", preprocessing(), 0).colour(np.arange(3), 0)
    assert torch.equal(Augmentation("standard", preprocessing(channels), 0).colour(np.arange(3), 0), colours)
    light, trivial = (Augmentation(policy, preprocessing(channels), 0) for policy in ("light", "trivial_augment"))
    image = picture(channels=channels)
    changed = [not torch.equal(one(light, image, 0, row), one(trivial, image, 0, row)) for row in range(40)]
    assert sum(changed) > 28  # all operations but identity and, on grey, saturation; some at no strength


@pytest.mark.parametrize("policy", POLICIES)
def test_augmentation_survives_the_way_into_a_worker_process(policy: str) -> None:
    augment = Augmentation(policy, preprocessing(), seed=4)
    sent = pickle.loads(pickle.dumps(augment))
    assert torch.equal(one(sent, picture(), 1, 1), one(augment, picture(), 1, 1))
    assert torch.equal(one(copy.deepcopy(augment), picture(), 1, 1), one(augment, picture(), 1, 1))


def test_an_unknown_policy_is_refused_and_never_replaced() -> None:
    with pytest.raises(ValueError, match="is not a policy; they are none, light"):
        Augmentation("ligth", preprocessing(), seed=0)
