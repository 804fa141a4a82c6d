from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from resnet_tl.errors import UserError
from resnet_tl.evaluation.intervals import wilson
from resnet_tl.evaluation.uncertainty.judged import Judged
from resnet_tl.evaluation.words import interval
from resnet_tl.sharing.card import Card, Stated
from resnet_tl.sharing.measured import confused, numbers_of, per_class, weakest
from resnet_tl.sharing.zipping import zip_bundle

NASTY = ("a | b", "<b onclick=x>bold</b>", "--- yaml: [1", "![x](http://evil/y.png)", "*oak*", "`rm -rf`", "Ünï 字")


def section(text: str, title: str) -> str:
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def hub_reads(card: str) -> Any:
    """The front matter as the hub's client takes it, which must not be imported before HF_HUB_OFFLINE is set."""
    from huggingface_hub import ModelCard

    return ModelCard(card).data


def test_the_hub_reads_the_front_matter_as_it_was_meant(make_bundle):
    data = hub_reads(Card(make_bundle(images=60, wrong=6).path).text)

    assert (data.library_name, data.pipeline_tag) == ("resnet-tl", "image-classification")
    assert data.license is None  # that of the first weights is theirs
    assert data.base_model == ["timm/resnet18.tv_in1k"]
    assert data.tags == ["image-classification", "resnet-tl", "resnet8", "safetensors"]
    assert data.model_name == "leaves"
    accuracy, f1, auroc = data.eval_results
    assert (accuracy.metric_type, accuracy.metric_value, accuracy.dataset_split) == ("accuracy", 0.9, "validation")
    assert (f1.metric_type, f1.metric_args) == ("f1", {"average": "macro"})
    assert (auroc.metric_type, auroc.metric_value) == ("roc_auc", 0.9)
    assert data.metrics == ["accuracy", "f1", "roc_auc"]


def test_no_base_model_is_claimed_that_is_not_on_the_hub(make_bundle):
    bundle = make_bundle(weights={"source": "mine.safetensors", "digest": "ab", "licence": "unknown"})

    assert hub_reads(Card(bundle.path).text).base_model is None


def test_an_accuracy_has_its_interval_and_its_images(make_bundle):
    text = section(Card(make_bundle(images=60, wrong=6).path).text, "How good it is")

    assert "On 60 validation images, not used to train the weights:" in text
    assert "may well have chosen epoch or penalty" in text
    assert f"| accuracy | {interval(0.9, *wilson(54, 60))} |" in text
    assert "Always saying beech would reach 33.3 %." in text


def test_the_numbers_are_those_of_scikit_learn():
    from sklearn.metrics import balanced_accuracy_score, f1_score

    generator = np.random.default_rng(0)
    labels, predicted = generator.integers(0, 4, 200), generator.integers(0, 4, 200)
    judged = Judged(labels, predicted, np.full(200, 0.5), np.full(200, 0.25))

    found = {number.name: number for number in numbers_of(judged, 5, {"top5_accuracy": 0.9}, temperature=2.0)}

    assert found["macro F1"].value == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert found["balanced accuracy"].value == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert found["loss, calibrated"].text == "1.386"
    assert found["top-5 accuracy"].text == interval(0.9, *wilson(180, 200))
    for number in found.values():
        bounds = [*map(float, re.findall(r"[\d.]+", number.text)[1:])]
        assert not bounds or bounds[0] <= float(number.text.split()[0]) <= bounds[1]


def test_images_without_a_mistake_give_no_interval_that_looks_certain():
    labels = np.arange(6) % 2
    judged = Judged(labels, labels, np.full(6, 0.9), np.full(6, 0.9))

    found = {number.name: number.text for number in numbers_of(judged, 2, {}, temperature=1.0)}

    assert found["accuracy"] == interval(1, *wilson(6, 6))
    assert (found["macro F1"], found["balanced accuracy"], found["loss"]) == ("100.0 %", "100.0 %", "0.105")


def test_weak_classes_and_pairs_that_are_mixed_up_are_named():
    labels = np.repeat([0, 1, 2], [20, 20, 4])
    predicted = labels.copy()
    predicted[:8] = 1  # of class 0
    predicted[20:23] = 0  # of class 1
    predicted[40:] = 0  # all of a class with few images
    judged = Judged(labels, predicted, np.full(44, 0.9), np.full(44, 0.9))

    found = per_class(judged, ("ash", "elm", "fir"))

    assert [(one.images, one.correct, one.taken_for) for one in found] == [
        (20, 12, "elm"),
        (20, 17, "ash"),
        (4, 0, "ash"),
    ]
    assert [one.name for one in weakest(found)] == ["ash", "elm"]  # nothing is said of 4 images
    assert confused(judged, ("ash", "elm", "fir")) == [
        "ash and elm (11 of 40 images)",
        "ash and fir (4 of 24 images)",
    ]


def test_mix_ups_of_very_many_classes_take_no_matrix():
    names = [f"class {number}" for number in range(200_000)]  # a matrix would have 320 GB
    labels, predicted = np.array([0, 0, 0, 7, 199_999]), np.array([7, 7, 3, 0, 199_999])
    judged = Judged(labels, predicted, np.full(5, 0.9), np.full(5, 0.9))

    assert confused(judged, names) == ["class 0 and class 7 (3 of 4 images)"]
    assert [one.taken_for for one in per_class(judged, names)[:2]] == ["class 7", ""]


def test_names_of_any_kind_break_neither_the_yaml_nor_the_tables(make_bundle):
    bundle = make_bundle(classes=NASTY, images=70, wrong=20, data={"root": "my: [data]\n--- x", "layout": "<b>|"})
    text = Card(bundle.path, Stated("a: b\nc", "x | y <i>")).text

    front, page = re.match(r"---\n(.*?)\n---\n(.*)", text, re.DOTALL).groups()
    assert yaml.safe_load(front)["model-index"][0]["results"][0]["dataset"]["name"] == r"my: [data]\n--- x"
    assert hub_reads(text).eval_results
    assert "<b" not in page
    assert "](http" not in page
    rows = [line for line in section(text, "Classes").splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(NASTY)
    assert {row.count("|") for row in rows} == {6}


def test_nothing_is_said_of_the_folders_of_this_machine(make_bundle, tmp_path: Path):
    bundle = make_bundle(data={"layout": f"table {tmp_path}/labels.csv: columns image, label"})
    text = Card(bundle.path).text

    assert str(tmp_path) not in text
    assert "table labels.csv" in text


def test_limits_follow_from_what_is_known(make_bundle):
    counts = {"train": {"beech": 400, "oak": 20, "pine": 60}, "val": {"beech": 20, "oak": 20, "pine": 20}}
    bundle = make_bundle(wrong=12, data={"counts": counts, "short_side_median": 20})
    text = Card(bundle.path).text
    limits, not_for = section(text, "Limits"), section(text, "What it should not be used for")

    assert "Few training images: oak (20) of 480." in limits
    assert "400 training images of beech, 20 of oak" in limits
    assert "20 pixels on the short side at the median" in limits
    assert "Decisions where 20.0 wrong answers in 100" in not_for


def test_a_bundle_without_validation_images_says_so(make_bundle):
    text = Card(make_bundle(images=0).path).text

    assert "No validation images were kept with it" in text
    assert "How often it is wrong is not known" in text
    assert hub_reads(text).eval_results is None


def test_a_card_promises_no_more_than_there_is(make_bundle):
    """Of a bundle whose probabilities are as the network gives them, and that no image has judged."""
    nothing = Card(make_bundle("nothing", images=0).path).text
    judged = Card(
        make_bundle(calibration={"temperature": 2.0, "images": 60, "loss": 0.3, "loss_before": 0.4}).path
    ).text

    assert "calibrate the probabilities" not in nothing
    assert "a card of the whole run" not in section(nothing, "How good it is")
    assert "and calibrate the probabilities" in judged
    assert "How simpler models do" in judged


def test_numbers_of_a_run_that_is_repeated_are_not_claimed_for_this_one(make_bundle):
    bundle = make_bundle(metrics={}, validation={"repeats": True})
    text = Card(bundle.path).text

    assert "by the run that this one repeats" in section(text, "How good it is")
    assert "All of this is of the run that this one repeats." in section(text, "How sure it is")
    assert hub_reads(text).eval_results is None


def test_of_a_hundred_classes_the_weakest_have_a_row(make_bundle):
    names = [f"class {number}" for number in range(100)]
    text = section(Card(make_bundle(classes=names, images=600, wrong=150).path).text, "Classes")

    rows = [line for line in text.splitlines() if line.startswith("| class ")]
    assert "There are 100 classes, all named in `model.json`." in text
    assert len(rows) == 1 + 40  # the header begins so too


def test_the_card_of_a_zip_is_that_of_its_bundle(make_bundle, tmp_path: Path):
    bundle = make_bundle()
    zip_bundle(bundle.path, tmp_path / "leaves.zip")

    assert Card(tmp_path / "leaves.zip").text == Card(bundle.path).text


def test_a_damaged_file_is_one_sentence(make_bundle):
    bundle = make_bundle()
    bundle.validation_file.write_bytes(b"x")

    with pytest.raises(UserError, match=r"validation.safetensors is damaged"):
        Card(bundle.path).text  # noqa: B018
