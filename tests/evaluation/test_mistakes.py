from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from resnet_tl.evaluation.mistakes import MOST_SHOWN, least_certain, mistakes, mistakes_figure
from resnet_tl.evaluation.predictions import prediction_table


def table(wrong: int, images: int = 40, classes: tuple[str, ...] = ("ants", "bees")) -> pd.DataFrame:
    """The first ones are wrong, each more surely than the one before; the last is unlabelled."""
    labels = np.arange(images) % 2
    logits = 3 * np.eye(2)[labels]
    logits[:wrong] = (1 + np.arange(wrong) / images)[:, None] * np.eye(2)[1 - labels[:wrong]]
    labels[-1] = -1
    names = [f"val/{number:03}.jpg" for number in range(images)]
    return prediction_table(names, [f"/photos/{name}" for name in names], labels, logits, classes)


def grey(row: int) -> np.ndarray:
    return np.full((20 + row, 30, 1), 5 * row, np.uint8)


def test_mistakes_are_listed_the_most_confident_first():
    found = mistakes(table(3))

    assert found["id"].tolist() == ["val/002.jpg", "val/001.jpg", "val/000.jpg"]
    assert found[["label", "predicted"]].iloc[0].tolist() == ["ants", "bees"]
    assert found["probability"].is_monotonic_decreasing
    assert (found["probability"] + found["label_probability"]).to_numpy() == pytest.approx(1)
    assert found.index.tolist() == [2, 1, 0]


def test_the_least_certain_images_come_first_whether_they_are_right_or_not():
    found = least_certain(table(3))

    assert found["id"].head(4).tolist() == ["val/000.jpg", "val/001.jpg", "val/002.jpg", "val/003.jpg"]
    assert found["probability"].is_monotonic_increasing
    assert len(found) == 40
    unlabelled = found.loc[39]
    assert unlabelled["label"] == ""
    assert np.isnan(unlabelled["label_probability"])


@pytest.mark.parametrize("wrong", [1, 7, MOST_SHOWN, 39])
def test_they_are_drawn_up_to_so_many(tmp_path: Path, wrong):
    asked: list[int] = []

    def pixels(row: int) -> np.ndarray:
        asked.append(row)
        return grey(row)

    mistakes_figure(table(wrong), pixels, tmp_path / "figures" / "mistakes.png")

    assert asked == list(range(wrong))[::-1][:MOST_SHOWN]
    with Image.open(tmp_path / "figures" / "mistakes.png") as picture:
        assert picture.width <= 6 * (220 + 24) + 64
        assert picture.height > 400
        assert len(set(picture.convert("L").tobytes())) > 20  # letters have been drawn


def test_without_a_mistake_nothing_is_drawn(tmp_path: Path):
    assert mistakes_figure(table(0), grey, tmp_path / "mistakes.png") is None
    assert list(tmp_path.iterdir()) == []


def test_long_names_stay_in_their_cell():
    long = ("a species with a name that is too long for its cell", "another such \x1b[2J name, in fact longer still")
    one = mistakes_figure(table(7, classes=long), grey)
    other = mistakes_figure(table(7), grey)

    assert one is not None
    assert other is not None
    assert one.size == other.size
    margin = np.asarray(one)[:, -32:]
    assert (margin == 255).all()
