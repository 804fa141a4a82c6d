from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from resnet_tl.data.quality.file_properties import FORMATS, Trait, contradicts, format_number, traits_of


def saved(image: Image.Image, name: str = "PNG", **options) -> bytes:
    file = BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def seen(content: bytes) -> Trait:
    with Image.open(BytesIO(content)) as image:
        image.load()
        return traits_of(image, content)


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


RGB = Image.new("RGB", (20, 10), "red")
DEEP = Image.fromarray(np.full((10, 20), 40_000, np.uint16))


@pytest.mark.parametrize(
    ("content", "traits"),
    [
        (saved(RGB), Trait(0)),
        (saved(RGB, "JPEG"), Trait(0)),
        (saved(RGB, "JPEG", exif=turned(1)), Trait(0)),
        (saved(RGB, "JPEG", exif=turned(6)), Trait.ROTATED),
        (saved(RGB.convert("L"), "JPEG"), Trait.GREY),
        (saved(RGB.convert("P")), Trait.PALETTE),
        (saved(RGB.convert("CMYK"), "JPEG"), Trait.CMYK),
        (saved(RGB.convert("RGBA")), Trait.ALPHA),
        (saved(DEEP), Trait.SIXTEEN_BIT | Trait.GREY),
        (saved(RGB.convert("P"), "GIF"), Trait(0)),
        (saved(RGB, "GIF", save_all=True, append_images=[Image.new("RGB", (20, 10), "blue")]), Trait.ANIMATED),
        (saved(RGB, "WEBP", save_all=True, append_images=[Image.new("RGB", (20, 10), "blue")]), Trait.ANIMATED),
    ],
)
def test_a_file_shows_what_is_unusual_about_it(content: bytes, traits: Trait) -> None:
    assert seen(content) == traits


def test_sixteen_bits_of_colour_are_seen_though_pillow_reads_eight() -> None:
    content = bytearray(saved(RGB))
    content[24] = 16
    with Image.open(BytesIO(saved(RGB))) as image:
        assert traits_of(image, bytes(content)) == Trait.SIXTEEN_BIT


@pytest.mark.parametrize(
    ("path", "name", "wrong"),
    [
        ("a/1.jpg", "JPEG", False),
        ("a/1.JPEG", "JPEG", False),
        ("a/1.jpg", "PNG", True),
        ("a/1.tif", "TIFF", False),
        ("a/1.png", "WEBP", True),
    ],
)
def test_a_suffix_may_contradict_the_content(path: str, name: str, wrong: bool) -> None:
    with Image.open(BytesIO(saved(RGB, name))) as image:
        assert FORMATS[format_number(image)] == name
        assert contradicts(path, format_number(image)) is wrong


def test_a_file_that_was_not_decoded_contradicts_nothing() -> None:
    assert not contradicts("a/1.jpg", 0)
