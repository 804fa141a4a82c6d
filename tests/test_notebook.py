from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from resnet_tl.bundle import Bundle
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.evaluation.figures import confusion_matrix, learning_curves
from resnet_tl.evaluation.predictions import prediction_table, write_predictions
from resnet_tl.run import Run

CLASSES = ("<b>cats</b>", "dogs")
METRICS = {"val": {"accuracy": 0.75, "macro_f1": 0.7333, "loss": 0.5}}
COUNTS = {"train": dict.fromkeys(CLASSES, 8), "val": dict.fromkeys(CLASSES, 2)}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A finished run that took one cat of four images for a dog."""
    folder = tmp_path / "pets & <i>co</i>"
    logits = np.array([[3.0, 0.0], [0.0, 2.0], [0.0, 3.0], [0.0, 1.0]])
    ids = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    table = prediction_table(ids, ids, np.array([0, 0, 1, 1]), logits, CLASSES)
    write_predictions(table, folder / "predictions" / "val.csv")
    history = pd.DataFrame({"epoch": [1, 2], "val_loss": [0.9, 0.5], "val_accuracy": [0.5, 0.75]})
    history.to_csv(folder / "metrics.csv", index=False)
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"model": {"mode": "head", "schedule": None}}))
    summary = {"best_epoch": 2, "metrics": METRICS, "network": {"name": "resnet18"}}
    (folder / "summary.json").write_text(json.dumps(summary))
    learning_curves(history, folder / "figures" / "learning_curves.png", 2)
    confusion_matrix(table, folder / "figures" / "confusion_val.png")
    return Run(folder)


def bundle(path: Path, **facts) -> Bundle:
    return Bundle(path, {"name": "resnet18"}, CLASSES, Preprocessing(224, 256, 224), **facts)


def test_a_run_says_in_one_line_how_good_it_is(run):
    assert repr(run).endswith("': resnet18, mode head, validation accuracy 75.0 % [30.1, 95.4] of 4 images)")


def test_a_run_shows_its_numbers_its_pictures_and_what_to_type(run):
    page = run._repr_html_()

    assert "best epoch 2 of 2" in page
    assert "75.0 % [30.1, 95.4]" in page
    assert "Careful, validation: 4 images alone" in page
    assert re.findall(r'alt="([^"]+)"', page) == ["learning curves", "confusion val"]
    assert ".mistakes()" in page
    assert len(page) < 120_000  # a notebook keeps what it shows


def test_a_damaged_picture_is_left_out(run):
    run.figure("confusion_val").write_bytes(b"no picture")

    assert re.findall(r'alt="([^"]+)"', run._repr_html_()) == ["learning curves"]


def test_names_are_escaped_and_text_has_the_notebooks_colours(run):
    for page in (run._repr_html_(), bundle(run.path / "model")._repr_html_()):
        assert "pets &amp; &lt;i&gt;co&lt;/i&gt;" in page
        assert "<b>" not in page
        assert "<i>" not in page
        assert not re.search(r"[^-]color:", page)


def test_an_unfinished_run_says_how_far_it_came_and_how_it_goes_on(run):
    (run.path / "summary.json").unlink()

    assert repr(run).endswith("': not finished, 2 epochs so far)")
    assert "!resnet-tl fit --resume" in run._repr_html_()


def test_a_run_that_is_not_there_says_so(tmp_path):
    assert repr(Run(tmp_path / "none")).endswith("none': no run yet)")
    assert "--resume" not in Run(tmp_path / "none")._repr_html_()


@pytest.mark.parametrize("file", ["summary.json", "recipe.yaml", "predictions/val.csv"])
def test_a_damaged_run_still_has_a_name(run, file):
    (run.path / file).write_text("{")

    assert repr(run) == f"Run({str(run.path)!r})"


def test_a_bundle_says_what_it_is_and_what_it_was_made_from(tmp_path):
    weights = {"source": "resnet18.a1_in1k", "licence": "apache-2.0"}
    whole = bundle(tmp_path, metrics=METRICS, weights=weights, data={"root": "pets", "counts": COUNTS})

    assert repr(whole).endswith("': resnet18, 2 classes, validation accuracy 75.0 % [30.1, 95.4] of 4 images)")
    for text in ("16 images of pets", "224 × 224 pixels", "resnet18.a1_in1k, apache-2.0", "Predictor("):
        assert text in whole._repr_html_()


def test_a_bundle_that_was_saved_without_facts_has_none(tmp_path):
    assert repr(bundle(tmp_path)).endswith("': resnet18, 2 classes)")
    assert "accuracy" not in bundle(tmp_path)._repr_html_()


def test_the_metrics_of_a_run_are_a_frame(run):
    assert list(run.metrics.index) == ["val"]
    assert run.metrics.loc["val"].to_dict() == pytest.approx(
        {"images": 4, "accuracy_low": 0.3006, "accuracy_high": 0.9544, **METRICS["val"]}, abs=1e-4
    )


def test_the_mistakes_of_a_run_begin_with_the_surest(run):
    found = run.mistakes()

    assert found[["id", "label", "predicted"]].to_numpy().tolist() == [["b.jpg", *CLASSES]]
    assert found[["probability", "label_probability"]].to_numpy()[0] == pytest.approx([0.8808, 0.1192], abs=1e-4)
