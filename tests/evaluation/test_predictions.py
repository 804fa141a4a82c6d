from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from resnet_tl.errors import UserError
from resnet_tl.evaluation.conformal import with_sets
from resnet_tl.evaluation.predictions import (
    classes_of,
    prediction_table,
    probabilities,
    read_predictions,
    write_predictions,
)

ODD_CLASSES = ("a,b", 'say "hi"', "=1+1", "été 猫", "NA", " padded ", "null", "prob_x")


def table_of(classes=ODD_CLASSES, rows=6, labelled=True):
    logits = np.random.default_rng(0).normal(size=(rows, len(classes))) * 20
    ids = [f"{row:04}" for row in range(rows)]
    return prediction_table(ids, ids, np.arange(rows) if labelled else None, logits, classes)


def test_the_probabilities_are_the_softmax_of_the_logits():
    table = prediction_table(["a"], ["x/a.jpg"], np.array([1]), np.log([[1.0, 3.0]]), ("cats", "dogs"))

    assert probabilities(table)[0].tolist() == pytest.approx([0.25, 0.75])
    assert table.loc[0, ["id", "path", "label", "predicted"]].tolist() == ["a", "x/a.jpg", "dogs", "dogs"]


def test_float32_logits_are_softmaxed_in_float64_and_huge_ones_do_not_overflow():
    table = prediction_table(["a"], ["a"], None, np.array([[1e4, 1e4 - 8]], np.float32), ("cats", "dogs"))

    assert probabilities(table)[0, 1] == pytest.approx(1 / (1 + np.exp(8)), rel=1e-12)


def test_an_image_without_a_label_has_an_empty_one():
    assert table_of(labelled=False)["label"].tolist() == [""] * 6
    mixed = prediction_table(["a", "b"], ["a", "b"], np.array([-1, 0]), np.zeros((2, 2)), ("x", "y"))
    assert mixed["label"].tolist() == ["", "x"]


@pytest.mark.parametrize("labelled", [True, False])
def test_a_table_comes_back_from_its_file_bit_for_bit(tmp_path, labelled):
    table = table_of(labelled=labelled)

    write_predictions(table, tmp_path / "val.csv")
    again = read_predictions(tmp_path / "val.csv")

    pd.testing.assert_frame_equal(again, table, check_exact=True)
    assert classes_of(again) == ODD_CLASSES
    assert again["id"].tolist()[1] == "0001"


def test_a_diverged_model_shows_as_nan_also_after_reading(tmp_path):
    table = prediction_table(["a"], ["a"], None, np.array([[np.nan, 1.0]]), ("x", "y"))

    write_predictions(table, tmp_path / "val.csv")

    assert np.isnan(probabilities(read_predictions(tmp_path / "val.csv"))).all()


def test_sets_and_abstentions_come_back_from_the_file(tmp_path):
    table = with_sets(table_of(), np.full(len(ODD_CLASSES), 0.999))
    table = table.assign(predicted=table["predicted"].where(table["set_size"] == 1, ""))
    assert 0 < (table["predicted"] == "").sum() < len(table)

    write_predictions(table, tmp_path / "predictions.csv")
    again = read_predictions(tmp_path / "predictions.csv")

    pd.testing.assert_frame_equal(again, table, check_exact=True)
    assert json.loads(again["set"][0])[0] in ODD_CLASSES


def test_a_table_of_ids_and_probabilities_is_completed(tmp_path):
    (tmp_path / "averaged.csv").write_text("prob_cats,prob_dogs,id\n0.5,0.5,01\n0.2,0.8,02\n")

    table = read_predictions(tmp_path / "averaged.csv")

    assert table.columns.tolist() == ["id", "path", "label", "predicted", "prob_cats", "prob_dogs"]
    assert table["id"].tolist() == ["01", "02"]
    assert table["predicted"].tolist() == ["cats", "dogs"]
    assert set(table["path"]) == set(table["label"]) == {""}


def test_predicted_classes_that_contradict_the_probabilities_are_refused(tmp_path):
    rows = "1,dogs,0.5,0.5\n2,dogs,0.2,0.8\n3,dogs,0.7,0.3\n4,cows,0.7,0.3\n5,cats,nan,nan\n"
    (tmp_path / "averaged.csv").write_text("id,predicted,prob_cats,prob_dogs\n" + rows)

    with pytest.raises(UserError) as caught:
        read_predictions(tmp_path / "averaged.csv")

    assert str(caught.value) == (
        f"{tmp_path}/averaged.csv: the column predicted contradicts the probabilities in 2 of 5 rows ('3' is 'dogs', "
        "but 'cats' is the most probable class); leave the column out, or correct it."
    )


@pytest.mark.parametrize(
    "text",
    ["", "id,label\n1,0.5\n", "id,prob_a,prob_b\n1,half,half\n", "id,prob_a,prob_b,weight\n1,1,0,2\n"],
    ids=["empty", "no probabilities", "no numbers", "another column"],
)
def test_a_file_that_is_no_prediction_table_is_refused_by_name(tmp_path, text):
    (tmp_path / "other.csv").write_text(text)

    with pytest.raises(UserError, match=r"other\.csv: this is not a prediction table"):
        read_predictions(tmp_path / "other.csv")


def test_a_missing_table_is_refused():
    with pytest.raises(UserError, match="no such prediction table"):
        read_predictions("nowhere.csv")


def test_arrays_that_do_not_fit_each_other_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        prediction_table(["a", "b"], ["a", "b"], None, np.zeros((3, 2)), ("x", "y"))
    with pytest.raises(ValueError, match="do not fit"):
        prediction_table(["a"], ["a"], np.array([2]), np.zeros((1, 2)), ("x", "y"))
