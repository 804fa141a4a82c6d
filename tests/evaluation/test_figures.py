from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from resnet_tl.evaluation.figures import confusion_matrix, contact_sheet, learning_curves
from resnet_tl.evaluation.predictions import prediction_table

HISTORY = pd.DataFrame(
    {
        "epoch": range(6),
        "phase": ["head"] * 2 + ["all"] * 4,
        "train_loss": [2.0, 1.5, 1.0, 0.8, 0.6, 0.5],
        "train_accuracy": [0.3, 0.5, 0.7, 0.8, 0.85, 0.9],
        "val_loss": [1.9, 1.5, 1.2, 1.0, 1.1, 1.2],
        "val_accuracy": [0.3, 0.5, 0.6, 0.7, 0.75, 0.72],
        "learning_rate": [1e-2, 1e-2, 1e-3, 8e-4, 4e-4, 0.0],
    }
)


def pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def has(picture, color):
    return (picture == np.array(color)).all(axis=2).any()


def test_curves_are_drawn_in_the_colours_of_train_and_validation(tmp_path):
    learning_curves(HISTORY, tmp_path / "curves.png")

    picture = pixels(tmp_path / "curves.png")
    assert has(picture, (0x9A, 0xA5, 0xB1))
    assert has(picture, (0x1F, 0x6F, 0xB2))


@pytest.mark.parametrize("column", ["train_loss", "val_accuracy", "phase"])
def test_any_column_of_the_history_may_be_missing(tmp_path, column):
    learning_curves(HISTORY.drop(columns=column), tmp_path / "missing.png")
    learning_curves(HISTORY.assign(**{column: np.nan}), tmp_path / "empty.png")

    assert (pixels(tmp_path / "missing.png") == pixels(tmp_path / "empty.png")).all()


def test_a_panel_without_columns_takes_no_room(tmp_path):
    learning_curves(HISTORY, tmp_path / "all.png")
    learning_curves(HISTORY[["epoch", "val_loss"]], tmp_path / "loss.png")

    assert len(pixels(tmp_path / "loss.png")) < len(pixels(tmp_path / "all.png")) / 2


def test_the_epoch_that_was_kept_is_marked_and_none_when_it_is_not_known(tmp_path):
    learning_curves(HISTORY, tmp_path / "unknown.png")
    learning_curves(HISTORY, tmp_path / "fourth.png", best_epoch=4)
    learning_curves(HISTORY, tmp_path / "third.png", best_epoch=3)

    drawn = [pixels(tmp_path / f"{name}.png") for name in ("unknown", "fourth", "third")]
    assert not np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[1], drawn[2])


def test_one_epoch_is_enough(tmp_path):
    learning_curves(HISTORY[:1], tmp_path / "one.png")

    assert has(pixels(tmp_path / "one.png"), (0x1F, 0x6F, 0xB2))


def test_a_history_without_anything_to_draw_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match="nothing to draw"):
        learning_curves(HISTORY[["epoch", "phase"]], tmp_path / "none.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("classes", [30, 70])
def test_a_confusion_matrix_shows_a_dark_diagonal_for_a_perfect_model(tmp_path, classes):
    names = [f"$class_{number:02}" for number in range(classes)]  # what matplotlib takes for mathematics
    labels = np.arange(classes)
    table = prediction_table(names, names, labels, np.eye(classes) * 9, names)

    confusion_matrix(table, tmp_path / "matrix.png")

    assert has(pixels(tmp_path / "matrix.png"), (8, 48, 107))  # the end of the colour scale


def test_a_contact_sheet_shows_each_image_whole_in_the_row_of_its_class(tmp_path):
    red, blue = np.array([255, 0, 0], np.uint8), np.array([0, 0, 255], np.uint8)
    wide, tall = np.broadcast_to(red, (100, 200, 3)), np.broadcast_to(blue, (20, 10, 3))
    grey = np.full((28, 28, 1), 77, np.uint8)

    contact_sheet({"wide": [wide, wide], "tall été": [tall], "grey": [grey]}, tmp_path / "sheet.png", "Three classes")

    picture = pixels(tmp_path / "sheet.png")
    lines, columns = {}, {}
    for name, color in {"red": red, "blue": blue, "grey": [77] * 3}.items():
        lines[name], columns[name] = np.nonzero((picture == np.array(color)).all(axis=2))
    assert lines["red"].max() < lines["blue"].min() < lines["blue"].max() < lines["grey"].min()
    assert np.ptp(lines["red"]) + 1 == 64
    assert len(lines["red"]) == 2 * 64 * 128
    assert len(lines["blue"]) == 128 * 64
    assert len(lines["grey"]) == 128 * 128


def test_an_old_picture_is_replaced_whole_and_no_temporary_file_stays(tmp_path):
    (tmp_path / "sheet.png").write_bytes(b"old")

    contact_sheet({"a": [np.zeros((9, 9, 3), np.uint8)]}, tmp_path / "sheet.png", "A")

    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
    pixels(tmp_path / "sheet.png")


def test_importing_the_evaluation_loads_no_torch_and_no_drawing_library():
    code = (
        "import sys; from resnet_tl.evaluation import figures, metrics, predictions;"
        "print([name for name in ('torch', 'matplotlib', 'sklearn', 'PIL') if name in sys.modules])"
    )

    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_a_figure_is_given_back_and_written_only_where_it_has_a_path(tmp_path):
    table = prediction_table(["a", "b"], ["a", "b"], np.arange(2), np.eye(2), ["cat", "dog"])

    drawn = [learning_curves(HISTORY), confusion_matrix(table), confusion_matrix(table, tmp_path / "matrix.png")]

    assert [figure.axes[0].get_title(loc="left") for figure in drawn[:2]] == ["Loss", "100.0 % of 2 images correct"]
    assert [path.name for path in tmp_path.iterdir()] == ["matrix.png"]
    sheet = contact_sheet({"cat": [np.zeros((9, 9, 3), np.uint8)]}, None, "One")
    assert sheet.size > (128, 128)


def test_a_notebook_shows_a_figure_that_pyplot_does_not_hold():
    code = (
        "import pandas as pd, sys; from resnet_tl.evaluation.figures import learning_curves;"
        "figure = learning_curves(pd.DataFrame({'epoch': [1, 2], 'val_loss': [1.0, 0.5]}));"
        "print(figure._repr_png_()[1:4].decode(), 'matplotlib.pyplot' in sys.modules)"
    )

    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["PNG", "False"]
