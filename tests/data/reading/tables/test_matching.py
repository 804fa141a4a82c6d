from __future__ import annotations

import pytest

from resnet_tl.data.reading.tables.matching import Images, parts_of

IDS = ["train/1.jpg", "train/2.PNG", "test/1.jpg", "deep/er/img_2.5.jpg", "a b.jpeg"]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("2", [1]),
        ("2.png", [1]),
        ("2.jpg", []),
        ("1", [0, 2]),
        ("test/1", [2]),
        ("C:\\photos\\test\\1.jpg", [2]),
        ("https://example.org/x/test/1.jpg?size=large", [2]),
        ("https://example.org/a%20b.jpeg", [4]),
        ("er/img_2.5", [3]),
        ("3", []),
        ("", []),
    ],
)
def test_an_id_means_the_images_that_fit_it_best(name: str, found: list[int]) -> None:
    assert Images(IDS).meant_by(name) == found


def test_only_the_extension_of_an_image_is_one() -> None:
    assert parts_of("./x/IMG_2.5") == ("IMG_2.5", "", ("x",))
    assert parts_of("x\\IMG_2.5.TIF") == ("IMG_2.5", ".tif", ("x",))
