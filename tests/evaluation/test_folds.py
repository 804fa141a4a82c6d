from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from resnet_tl.evaluation.folds import averaged, intervals, out_of_fold, spread
from resnet_tl.evaluation.metrics import compute_metrics
from resnet_tl.evaluation.predictions import prediction_table, probabilities, read_predictions, write_predictions


def table(ids: list[str], seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(len(ids), 3))
    return prediction_table(ids, ids, generator.integers(0, 3, len(ids)), logits, ["a", "b", "c"])


def test_each_image_is_judged_by_its_fold_and_the_table_is_read_as_any_other(tmp_path: Path):
    made = out_of_fold([table(["x", "c"]), table(["b", "a"], seed=1)])

    assert made["id"].tolist() == ["a", "b", "c", "x"]
    assert made["fold"].tolist() == [2, 2, 1, 1]
    write_predictions(made, tmp_path / "val.csv")
    pd.testing.assert_frame_equal(read_predictions(tmp_path / "val.csv"), made)
    assert compute_metrics(made)["accuracy"] == (made["label"] == made["predicted"]).mean()


def test_the_models_of_all_folds_agree_by_their_mean_whatever_the_order_of_the_rows():
    one, two = table(["x", "y", "z"]), table(["x", "y", "z"], seed=1).iloc[::-1].reset_index(drop=True)
    mean = averaged([one, two])

    assert probabilities(mean) == pytest.approx((probabilities(one) + probabilities(two.iloc[::-1])) / 2)
    assert mean["predicted"].tolist() == [["a", "b", "c"][place] for place in probabilities(mean).argmax(axis=1)]
    assert mean["label"].tolist() == one["label"].tolist()


def test_the_spread_is_that_of_the_folds_and_of_what_each_of_them_has():
    found = spread([{"loss": 1.0, "auroc": 0.5}, {"loss": 3.0}])
    assert found == {"loss": {"mean": 2.0, "sd": pytest.approx(2**0.5)}}


def test_the_intervals_hold_the_numbers():
    many = table([str(number) for number in range(200)])
    found, numbers = intervals(many), compute_metrics(many)
    for name in ("loss", "macro_f1"):
        low, high = found[name]
        assert low < numbers[name] < high
