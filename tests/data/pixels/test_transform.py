"""A user's transform is a pure function of (seed, view, row), whatever it draws from and whoever runs it."""

from __future__ import annotations

import multiprocessing
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from resnet_tl.data.datamodule import ImageDataModule
from resnet_tl.data.loader import ImageLoader
from resnet_tl.data.pixels.augmentation import bounds
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.data.pixels.transform import UserTransform
from resnet_tl.errors import UserError

STORED = Preprocessing(size=16, storage_size=20, crop_size=16)
NAMED = {"class_path": "torchvision.transforms.v2.RandomErasing", "init_args": {"p": 1.0, "value": 7}}


def by_numpy(image: torch.Tensor) -> torch.Tensor:
    noise = np.random.randint(0, 256, image.shape, dtype=np.uint8)  # noqa: NPY002
    return torch.from_numpy(noise)


def by_random(image: torch.Tensor) -> torch.Tensor:
    return image.roll(random.randrange(1, 20), dims=2)


def darker(image: torch.Tensor, by: int) -> torch.Tensor:
    return image // by


def make_darker(by: int = 2) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda image: image // by


def training(blobs: Path, transform, epoch: int = 0, **options) -> ImageLoader:
    data = ImageDataModule(blobs, transform=transform, **{"augmentation": "none", "batch_size": 7, **options})
    data.use(STORED)
    loader = data.train_dataloader()
    loader.epoch = lambda: epoch
    return loader


def by_row(loader: ImageLoader) -> dict[int, bytes]:
    return {
        int(row): image.numpy().tobytes()
        for batch in loader
        for row, image in zip(batch["row"], batch["image"], strict=True)
    }


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(
    "transform",
    [
        v2.RandomErasing(p=1.0),
        v2.Compose([v2.ColorJitter(0.5, 0.5), v2.RandomResizedCrop(16)]),
        by_numpy,
        by_random,
    ],
    ids=["erasing", "colour", "numpy", "random"],
)
def test_any_number_of_workers_and_any_company_give_the_same_images(blobs: Path, transform) -> None:
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    one = by_row(training(blobs, transform, workers=1))
    assert len(one) == 24
    assert by_row(training(blobs, transform, workers=2)) == one
    assert by_row(training(blobs, transform, workers=3, batch_size=5)) == one
    other = by_row(training(blobs, transform, epoch=1, workers=2))
    assert sum(other[row] != one[row] for row in one) > 20
    (alone,) = training(blobs, transform, workers=1).over([np.array([5])], 1)
    assert alone["image"][0].numpy().tobytes() == other[5]
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002
    assert random.getstate() == states[2]


def test_another_seed_gives_other_images(blobs: Path) -> None:
    data = {"split_seed": 0, "workers": 1}
    one, other = (by_row(training(blobs, by_numpy, seed=seed, **data)) for seed in (0, 1))
    assert all(one[row] != other[row] for row in one)


def test_it_comes_before_the_augmentation_and_leaves_validation_alone(blobs: Path) -> None:
    assert all((batch["image"] == 0).all() for batch in training(blobs, torch.zeros_like, augmentation="light"))
    plain = ImageDataModule(blobs)
    black = ImageDataModule(blobs, transform=torch.zeros_like)
    for data in (plain, black):
        data.use(STORED)
    assert ImageDataModule(blobs, augmentation="none", transform=torch.zeros_like).augments
    assert black.val_dataloader().processes is None
    for one, other in zip(plain.val_dataloader(), black.val_dataloader(), strict=True):
        assert torch.equal(one["image"], other["image"])


@pytest.mark.parametrize("side", [6, 16, 18, 40])
def test_without_an_augmentation_what_it_gives_is_cropped_in_the_middle(blobs: Path, side: int) -> None:
    def transform(image: torch.Tensor) -> torch.Tensor:
        return torch.arange(side, dtype=torch.uint8).expand(3, side, side)

    (batch,) = training(blobs, transform).over([np.array([0, 1])], 0)
    assert batch["image"].shape == (2, 3, 16, 16)
    expected = STORED.centre(transform(torch.empty(0)))
    assert torch.equal(batch["image"][1], expected)
    assert int(expected.min()) == max(0, (side - 16) // 2)


def test_what_is_kept_on_disk_cannot_be_written_to(blobs: Path) -> None:
    def transform(image: torch.Tensor) -> torch.Tensor:
        return image.zero_()

    assert set(by_row(training(blobs, transform)).values()) == {bytes(3 * 16 * 16)}
    assert set(by_row(training(blobs, None)).values()) != {bytes(3 * 16 * 16)}


# In the words of a recipe


@pytest.mark.parametrize(
    ("spec", "same"),
    [
        (NAMED, v2.RandomErasing(p=1.0, value=7)),
        ("torchvision.transforms.v2.RandomVerticalFlip", v2.RandomVerticalFlip()),
        ("torchvision.transforms.v2.functional.horizontal_flip", v2.functional.horizontal_flip),
        ({"class_path": f"{__name__}.darker", "init_args": {"by": 3}}, lambda image: image // 3),
        (f"{__name__}.make_darker", lambda image: image // 2),
    ],
)
def test_a_class_a_function_and_what_makes_one_are_named(spec, same) -> None:
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 9, 8), dtype=np.uint8))
    one, other = UserTransform(spec, 3), UserTransform(same, 3)
    for row in range(6):
        assert torch.equal(one(image, 1, row), other(image, 1, row))


def test_only_what_a_recipe_names_is_named_by_its_facts(blobs: Path) -> None:
    from importlib.metadata import version as version_of

    def facts(transform, view: int = 4, **options) -> tuple | None:
        named = {"augmentation": "light", "symmetry": "none"}
        return ImageDataModule(blobs, transform=transform, **named, **options).view_facts(view)

    version = version_of("torchvision")
    within = bounds()
    assert facts(None) == ("light", "none", 0.0, 0, within, 4)
    assert facts(NAMED, random_erasing=0.5, seed=2) == ("light", "none", 0.5, 2, within, 4, *NAMED.values(), version)
    assert facts("torchvision.transforms.v2.RandomErasing")[6:] == (
        "torchvision.transforms.v2.RandomErasing",
        {},
        version,
    )
    assert facts(v2.RandomErasing()) is None
    assert facts(f"{__name__}.by_numpy") is None, "a file of the user's own has no version"
    object_in_it = {"class_path": "torchvision.transforms.v2.Lambda", "init_args": {"lambd": by_numpy}}
    assert facts(object_in_it) is None, "no recipe could say so"


# Mistakes


@pytest.mark.parametrize(
    ("transform", "sentence"),
    [
        (
            v2.ToDtype(torch.float32, scale=True),
            "ToDtype gave Tensor (3, 20, 20) torch.float32; it must give a tensor (3, height, width) torch.uint8",
        ),
        (
            v2.Grayscale(),
            "Grayscale gave Tensor (1, 20, 20) torch.uint8; it must give a tensor (3, height, width) torch.uint8",
        ),
        (
            lambda image: image.permute(1, 2, 0).numpy(),
            "<lambda> gave ndarray (20, 20, 3) uint8; it must give a tensor (3, height, width) torch.uint8",
        ),
        (lambda image: None, "<lambda> gave NoneType; it must give a tensor (3, height, width) torch.uint8"),
        (
            lambda image: image[:, :0],
            "<lambda> gave Tensor (3, 0, 20) torch.uint8; it must give a tensor",
        ),
        (lambda image: image.sizes, "<lambda> fails: AttributeError: 'Tensor' object has no attribute 'sizes'."),
    ],
)
def test_what_it_gives_or_fails_with_is_said_in_one_sentence(blobs: Path, transform, sentence: str) -> None:
    loader = training(blobs, transform)
    with pytest.raises(UserError) as caught:
        next(iter(loader))
    assert str(caught.value).startswith(f"data.transform: {sentence}")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"transform": "torchvision.transforms.v2.RandomErasin"}, "torchvision.transforms.v2 has no 'RandomErasin'"),
        ({"transform": {"class_path": "torch.nn.ReLU", "args": 1}}, "it must be module.Name, or"),
        (
            {"transform": {**NAMED, "init_args": {"p": 7}}},
            "data.transform: torchvision.transforms.v2.RandomErasing cannot",
        ),
        ({"transform": v2.RandomErasing}, "it must be something that is called with an image"),
        ({"transform": 3}, "data.transform is 3; it must be something that is called with an image"),
        ({"transform": by_numpy, "workers": 0}, "data.workers is 0, but data.transform draws from"),
    ],
)
def test_a_mistake_in_its_name_is_found_at_once(options: dict, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        ImageDataModule("no such folder", **options)
    assert sentence in str(caught.value)


def test_what_cannot_be_sent_to_a_process_is_refused_where_it_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    UserTransform(lambda image: image, 0).check_start()
    spawn = multiprocessing.get_context("spawn")
    monkeypatch.setattr(multiprocessing, "get_context", lambda: spawn)
    UserTransform(v2.RandomErasing(), 0).check_start()
    with pytest.raises(
        UserError, match=r"<lambda> cannot be sent to the worker processes .*; give a function or class"
    ):
        UserTransform(lambda image: image, 0).check_start()


def test_what_a_notebook_defines_is_refused_where_processes_start_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = ModuleType("__main__")
    exec("def flip(image): return image.flip(-1)", cells.__dict__)
    monkeypatch.setitem(sys.modules, "__main__", cells)
    UserTransform(cells.flip, 0).check_start()  # a forked process has it
    spawn = multiprocessing.get_context("spawn")
    monkeypatch.setattr(multiprocessing, "get_context", lambda: spawn)

    with pytest.raises(UserError, match="flip is defined in a notebook's cell"):
        UserTransform(cells.flip, 0).check_start()
