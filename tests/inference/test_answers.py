from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from resnet_tl.bundle import Bundle, write_bundle
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.errors import UserError
from resnet_tl.evaluation.calibration import at_temperature
from resnet_tl.evaluation.conformal import prediction_sets, thresholds
from resnet_tl.evaluation.judged import Judged
from resnet_tl.evaluation.predictions import probabilities, softmax
from resnet_tl.inference.answers import answers_of, measured_lines
from resnet_tl.inference.predictor import Predictor
from resnet_tl.networks import create_network

CLASSES = ("zebra", "ant, red", "<b>")


def judged(images: int = 60) -> Judged:
    generator = np.random.default_rng(0)
    return Judged.of(np.arange(images) % 3, softmax(generator.normal(size=(images, 3))))


def bundle_at(path: Path, known: Judged | None = None, **options) -> Bundle:
    torch.manual_seed(0)
    network = create_network("resnet20", num_classes=3)
    preprocessing = Preprocessing(size=32, storage_size=36, crop_size=32)
    bundle = Bundle(path, {"name": "resnet20", "in_chans": 3}, CLASSES, preprocessing, **options)
    return write_bundle(bundle, network, known and known.arrays())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundle_at(tmp_path_factory.mktemp("bundle"), judged(), calibration={"temperature": 2.0})


@pytest.fixture(scope="module")
def predictor(bundle: Bundle) -> Predictor:
    return Predictor(bundle.path, device="cpu")


def test_sets_are_those_of_the_calibrated_probabilities_and_the_bundles_images(predictor: Predictor, blobs: Path):
    plain = predictor.predict(blobs / "val")
    table = predictor.predict(blobs / "val", coverage=0.6)
    sets = prediction_sets(probabilities(plain), thresholds(judged(), CLASSES, 0.6))

    assert [set(json.loads(text)) for text in table["set"]] == [
        {name for name, is_in in zip(CLASSES, row, strict=True) if is_in} for row in sets
    ]
    assert table["set_size"].tolist() == sets.sum(axis=1).tolist()
    assert table.drop(columns=["set", "set_size"]).equals(plain)
    own = predictor.predict(blobs / "val", coverage=0.6, per_class=True)
    limits = thresholds(judged(), CLASSES, 0.6, per_class=True)
    assert own["set_size"].tolist() == prediction_sets(probabilities(plain), limits).sum(axis=1).tolist()


def test_an_image_of_which_the_network_is_not_sure_has_no_answer(predictor: Predictor, blobs: Path):
    plain = predictor.predict(blobs / "val")
    largest = probabilities(plain).max(axis=1)
    least = float(np.median(largest))
    table = predictor.predict(blobs / "val", min_confidence=least)

    assert table["predicted"].tolist() == plain["predicted"].where(largest >= least, "").tolist()
    assert 0 < (table["predicted"] == "").sum() < len(table)


def test_what_answers_are_worth_is_said_by_the_validation_images(predictor: Predictor):
    sets, sure = predictor.answers(coverage=0.9, min_confidence=0.5).said
    known = judged()
    answered = known.probability >= 0.5

    assert "like the 60 of validation at least 90.0 %" in sets
    assert sure.startswith(f"On validation it answers {100 * answered.mean():.1f} % of 60 images, ")
    assert f"{100 * known.is_correct[answered].mean():.1f} % [" in sure
    assert predictor.answers().said == ()


def test_a_run_that_repeats_another_says_whose_images_they_were(bundle: Bundle):
    repeats = replace(bundle, validation={**bundle.validation, "repeats": True})
    sets, sure = answers_of([repeats], coverage=0.9, min_confidence=0.5).said

    assert sets.endswith("by another network: it is to be expected, not guaranteed.")
    assert sure.startswith("On validation, by the run that this one repeats, it answers")


def test_a_coverage_that_cannot_be_had_is_refused_before_an_image_is_looked_at(bundle: Bundle, tmp_path: Path):
    bare = bundle_at(tmp_path / "bare")
    for predictor, sentence in (
        (Predictor(bundle.path, tta="mirror"), "judged by a single view each; do without --tta"),
        (Predictor([bundle.path, bare.path]), "the average of 2 models was measured on no image; give one of them"),
        (Predictor(bundle.path, calibrated=False), "goes by calibrated probabilities; leave calibrated=False out"),
        (Predictor(bare.path), "bare keeps nothing of validation images"),
        (Predictor(bundle.path), "--coverage 0.99 takes 99 validation images, and the model has 60"),
    ):
        with pytest.raises(UserError) as caught:
            predictor.predict(tmp_path / "nowhere", coverage=0.99)
        assert sentence in str(caught.value)


def test_folds_are_said_how_to_become_one_model(bundle: Bundle):
    folds = [replace(bundle, path=Path("runs/my five/folds", number, "model")) for number in "123"]
    with pytest.raises(UserError, match=r"or repeat them as one \(resnet-tl fit --final 'runs/my five'\)"):
        answers_of(folds, coverage=0.9)


def test_answers_of_an_average_are_left_out_as_well_and_their_worth_is_said_to_be_unknown(
    bundle: Bundle, tmp_path: Path, blobs: Path
):
    predictor = Predictor([bundle.path, bundle_at(tmp_path / "other", judged()).path])
    table = predictor.predict(blobs / "val", min_confidence=0.99)

    assert set(table["predicted"]) == {""}
    assert predictor.answers(min_confidence=0.99).said == (
        "How often answers from 0.99 on are correct was measured on no image.",
    )


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"coverage": 95}, "coverage is 95; it must be over 0 and under 1. Did you mean 0.95?"),
        ({"coverage": 1.0}, "coverage is 1; it must be over 0 and under 1."),
        ({"min_confidence": "much"}, "min_confidence is 'much'; it must be a number."),
        ({"per_class": True}, "per_class is for the sets of coverage, which is not given: give both."),
        (
            {"coverage": 0.99},
            "coverage=0.99 takes 99 validation images, and the model has 60; give coverage=0.983 or",
        ),
    ],
)
def test_a_mistake_is_in_the_words_of_python(predictor: Predictor, blobs: Path, in_python, asked: dict, sentence: str):
    with pytest.raises(UserError) as caught:
        predictor.predict(blobs / "val", **asked)
    assert str(caught.value).startswith(sentence)


def test_new_labelled_images_are_judged_by_the_temperature_and_own_ones_without_a_part_in_it(
    bundle: Bundle, predictor: Predictor, blobs: Path
):
    plain = Predictor(bundle.path, device="cpu", calibrated=False).predict(blobs / "val")
    labels = np.array([CLASSES[place % 3] for place in range(len(plain))], object)
    table = plain.assign(label=labels)
    answers = predictor.answers(coverage=0.6, min_confidence=0.4)
    new, sure, *_ = measured_lines(table, bundle, answers, 0.6, is_fitted_to_it=False)[::2]
    shares = at_temperature(probabilities(plain), 2.0)
    sets = prediction_sets(shares, thresholds(judged(), CLASSES, 0.6))
    share = np.mean([row[CLASSES.index(name)] for row, name in zip(sets, labels, strict=True)])

    assert f"{100 * share:.1f} % [" in new
    assert "of 13 images have their class in it" in new
    assert f"answers {100 * (shares.max(axis=1) >= 0.4).mean():.1f} % of 13 images" in sure
    own = measured_lines(table, bundle, answers, 0.6, is_fitted_to_it=True)
    assert "follows from how the sets were made" in own[0]
