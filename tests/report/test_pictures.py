from __future__ import annotations

import base64
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_tl.bundle import Bundle
from resnet_tl.data.pixels.decode import decode
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.report import pictures as room
from resnet_tl.report.pictures import SMALL, Pictures, Wanted, heat_image, seen_part


def bundle(**changes) -> Bundle:
    settings = {"size": 32, "storage_size": 40, "crop_size": 30} | changes
    return Bundle(Path("model"), {}, ("a", "b"), Preprocessing(**settings))


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Noise, which a JPEG cannot make small."""
    generator = np.random.default_rng(0)
    files = [tmp_path / f"{number}.png" for number in range(6)]
    for file in files:
        Image.fromarray(generator.integers(0, 255, (300, 400, 3), np.uint8)).save(file)
    return files


def drawn(css: str) -> list[Image.Image]:
    found = re.findall(r"data:image/\w+;base64,([^)]+)\)", css)
    return [Image.open(BytesIO(base64.b64decode(text))) for text in found]


def test_an_image_is_whole_in_its_thumbnail(photos):
    pictures = Pictures([Wanted(photos[0])])

    assert pictures.of(photos[0]) == "p0"
    assert [image.size for image in drawn(pictures.css)] == [(176, 132)]
    assert "aspect-ratio:400/300" in pictures.css


def test_an_image_that_is_wanted_twice_is_drawn_once_in_the_larger_size(photos):
    heat = np.ones((2, 2))

    pictures = Pictures([Wanted(photos[0], SMALL), Wanted(photos[0], heat=heat)], bundle())

    assert [image.format for image in drawn(pictures.css)] == ["JPEG", "PNG"]
    assert drawn(pictures.css)[0].width == 176
    assert pictures.with_heat == {photos[0]}


def test_there_is_no_more_than_there_is_room_for_and_the_first_come_first(photos, monkeypatch):
    one = len(Pictures([Wanted(photos[0])]).css)
    monkeypatch.setattr(room, "BUDGET", 3 * one + one // 2)

    pictures = Pictures([Wanted(file) for file in photos])

    assert [bool(pictures.of(file)) for file in photos] == [True] * 3 + [False] * 3
    assert len(pictures.css) <= room.BUDGET + len(photos)
    assert not pictures.gone


def test_what_there_is_no_room_for_is_not_even_decoded(photos, monkeypatch):
    monkeypatch.setattr(room, "BUDGET", int(1.5 * len(Pictures([Wanted(photos[0])]).css)))
    monkeypatch.setattr(room, "AT_ONCE", 2)
    seen = []
    monkeypatch.setattr(room, "decode", lambda path, *rest: seen.append(path) or decode(path, *rest))

    Pictures([Wanted(file) for file in photos])

    assert set(seen) == set(photos[:2])


def test_what_is_gone_or_no_image_is_said_to_be(tmp_path, photos):
    (tmp_path / "text.jpg").write_text("no image")

    pictures = Pictures([Wanted(tmp_path / "gone.jpg"), Wanted(tmp_path / "text.jpg"), Wanted(photos[0])])

    assert pictures.gone == [tmp_path / "gone.jpg", tmp_path / "text.jpg"]
    assert pictures.of(tmp_path / "gone.jpg") == ""
    assert pictures.of(photos[0])


def test_the_seen_part_is_what_the_network_s_crop_takes():
    """Of an image whose pixels say where they are, through the real preprocessing."""
    planned = bundle().preprocessing
    width, height = 400, 200
    ramps = np.stack(np.meshgrid(np.linspace(0, 250, width), np.linspace(0, 250, height)), axis=2)
    pixels = np.concatenate([ramps, np.zeros((height, width, 1))], axis=2).round().astype(np.uint8)

    seen = planned.centre(planned.store(pixels)).float() / 250

    left, top, share_x, share_y = seen_part(planned, (width, height))
    for channel, start, share, axis in ((0, left, share_x, 1), (1, top, share_y, 0)):
        profile = seen[channel].mean(dim=0 if axis == 1 else 1)
        middle = float(profile.mean())
        spread = float(profile[-1] - profile[0]) * 32 / 31
        assert middle == pytest.approx(start + share / 2, abs=0.01)
        assert spread == pytest.approx(share, abs=0.02)


def test_a_squashed_image_is_seen_by_the_same_share_of_both_sides():
    assert seen_part(bundle(resize_rule="squash").preprocessing, (400, 200)) == (0.125, 0.125, 0.75, 0.75)


def test_heat_is_clear_where_there_is_none_and_red_where_it_is_most():
    picture = np.asarray(heat_image(np.array([[0.0, 0.0], [0.0, 1.0]])))

    assert picture[0, 0, 3] == 0
    assert picture[-1, -1].tolist()[:3] == [255, 0, 0]
    assert picture[-1, -1, 3] > 180
