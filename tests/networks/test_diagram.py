from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from resnet_tl.errors import UserError
from resnet_tl.networks import create_network
from resnet_tl.networks.diagram import draw_network


def words(path):
    """The texts of an SVG, and the places where they begin."""
    namespace = "{http://www.w3.org/2000/svg}"
    return ["".join(text.itertext()).strip() for text in ElementTree.parse(path).iter(f"{namespace}text")]


@pytest.mark.parametrize("name", ["lenet5", "mnist_cnn", "mnist_two_branch", "resnet20", "resnet20v2"])
def test_a_png_shows_all_of_the_network(name, tmp_path):
    draw_network(create_network(name, 10), 32, tmp_path / "network.png")
    with Image.open(tmp_path / "network.png") as picture:
        assert picture.format == "PNG"
        pixels = np.asarray(picture.convert("L"))
    assert pixels.shape[0] > pixels.shape[1] * 0.8
    border = np.concatenate(
        [pixels[:10].ravel(), pixels[-10:].ravel(), pixels[:, :10].ravel(), pixels[:, -10:].ravel()]
    )
    assert border.min() == 255  # nothing runs out of the picture
    assert pixels.min() < 100


def test_an_svg_is_valid_and_names_stages_blocks_and_shapes(tmp_path):
    draw_network(create_network("resnet50", 1000), 224, tmp_path / "network.svg")
    found = words(tmp_path / "network.svg")
    assert {"stem", "stage1", "stage2", "stage3", "stage4", "head"} <= set(found)
    assert {"resnet50", "image", "logits", "Bottleneck × 5", "1024 × 14 × 14", "3 × 224 × 224"} <= set(found)
    assert "25,557,032 parameters, 4.09 G multiply-adds at 224 px" in found


def test_two_branches_are_two_columns(tmp_path):
    draw_network(create_network("mnist_two_branch", 10), 28, tmp_path / "network.svg")
    found = words(tmp_path / "network.svg")
    assert found.count("Conv2d 3×3 + ReLU") == found.count("Conv2d 3×3, dilation 2 + ReLU") == 3
    assert found.count("Concatenate") == 1


def test_two_drawings_of_a_network_are_the_same_file(tmp_path):
    network = create_network("lenet5", 10)
    for name in ("one.svg", "two.svg"):
        draw_network(network, 32, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"is a \.png or \.svg file, but .*network\.gif"):
        draw_network(create_network("lenet5", 10), 32, tmp_path / "network.gif")
    assert not any(tmp_path.iterdir())
