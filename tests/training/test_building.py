"""What `auto` and an unset image size become."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from resnet_tl import ImageDataModule
from resnet_tl.finetuning.modes import Phase, Schedule
from resnet_tl.networks import create_network
from resnet_tl.networks.weights import load_weights
from resnet_tl.training.building import choose_network, choose_preprocessing

SCHEDULE = Schedule((Phase(),))


@pytest.fixture
def images(tmp_path: Path):
    """`images(20)`: a data module over pictures of 20 pixels."""

    def make(side: int) -> ImageDataModule:
        for number in range(4):
            for label in ("a", "b"):
                (tmp_path / label).mkdir(exist_ok=True)
                Image.new("RGB", (side + 3, side), (60 * number, 0, 0)).save(tmp_path / label / f"{number}.png")
        data = ImageDataModule(tmp_path)
        data.setup()
        return data

    return make


def test_a_centre_crop_takes_in_what_the_weights_were_evaluated_with_or_the_share_that_is_given(images):
    data, origin = images(100), load_weights(create_network("resnet18", 2), "none")
    seen, _, choices = choose_preprocessing(data, origin, SCHEDULE)
    assert (seen.size, seen.storage_size, seen.crop_size) == (224, 256, 224)
    assert choices["data.crop_ratio"] == (0.875, "what the weights were evaluated with")

    data.crop_ratio = 1.0
    seen, _, choices = choose_preprocessing(data, origin, SCHEDULE)
    assert (seen.size, seen.storage_size, seen.crop_size) == (224, 224, 224)
    assert "data.crop_ratio" not in choices
    assert choices["data.storage_size"] == (224, "image_size / 1")


@pytest.mark.parametrize(("side", "size"), [(20, 32), (32, 32), (40, 40), (48, 48), (64, 48)])
def test_the_built_in_weights_see_images_at_1_to_1_5_times_their_own_size(images, side: int, size: int):
    network = create_network("resnet20", 2)
    preprocessing, _, choices = choose_preprocessing(images(side), load_weights(network), SCHEDULE)

    assert preprocessing.size == preprocessing.storage_size == size
    assert choices["data.image_size"][0] == size


@pytest.mark.parametrize(
    ("name", "side", "size"), [("resnet20", 28, 28), ("mnist_cnn", 28, 28), ("resnet18", 100, 224)]
)
def test_without_weights_small_images_keep_their_size(images, name: str, side: int, size: int):
    origin = load_weights(create_network(name, 2), "none")

    assert choose_preprocessing(images(side), origin, SCHEDULE)[0].size == size


def test_a_network_that_takes_one_size_alone_gets_it_whatever_the_images(images):
    network = create_network("vit_tiny_patch16_224", 2, network_args={"img_size": 48, "depth": 1})
    origin = load_weights(network, "none")

    preprocessing, _, choices = choose_preprocessing(images(28), origin, SCHEDULE)
    assert (preprocessing.size, choices["data.image_size"]) == (48, (48, "the only size that the network takes"))


@pytest.mark.parametrize(("side", "name"), [(28, "resnet20"), (64, "resnet20"), (65, "resnet18")])
def test_auto_is_the_small_network_up_to_64_pixels(side: int, name: str):
    assert choose_network("auto", side)[0] == name
