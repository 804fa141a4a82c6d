from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from resnet_tl.evaluation.calibration import at_temperature, calibration_line
from resnet_tl.evaluation.predictions import probabilities, read_predictions
from resnet_tl.evaluation.words import metric_value
from resnet_tl.inference.predictor import Predictor
from resnet_tl.run import Run


@pytest.mark.parametrize(("name", "split", "images"), [("validate", "val", 13), ("test", "test", 7)])
def test_the_numbers_are_those_that_the_fit_recorded(command, tiny_run, name, split, images):
    code, out, err = command(name, tiny_run)

    assert (code, err) == (0, "")
    recorded = json.loads((tiny_run / "summary.json").read_text())["metrics"][split]
    lines = [re.split(r"  +", line.strip()) for line in out.splitlines()]
    assert lines[1] == ["images", str(images)]
    numbers = {line[0]: line[1] for line in lines if len(line) == 2}
    assert numbers["loss"] == metric_value("loss", recorded["loss"])
    assert numbers["macro F1"] == f"{100 * recorded['macro_f1']:.1f} %"
    assert numbers["accuracy [95 % interval]"].startswith(f"{100 * recorded['accuracy']:.1f} % [")
    assert [line[0] for line in lines[-3:]] == ["blue", "green", "red"]


def test_a_handful_of_images_is_said_to_be_one(command, tiny_run):
    said = "Careful, test: 7 images alone: one more mistake moves the accuracy by 14.3 points."

    assert said in command("test", tiny_run).out.splitlines()
    assert json.loads((tiny_run / "summary.json").read_text())["accuracy"]["test"]["warnings"] == [said[15:]]


@pytest.mark.parametrize(("name", "split"), [("validate", "val"), ("test", "test")])
def test_the_table_is_that_of_the_fit_to_the_last_bit(command, tiny_run, tmp_path, name, split):
    assert command(name, tiny_run, "--output", "again.csv").code == 0

    assert (tmp_path / "again.csv").read_bytes() == (tiny_run / "predictions" / f"{split}.csv").read_bytes()


def test_other_images_are_judged_by_their_split_or_as_a_whole(command, tiny_run, blobs):
    assert command("test", tiny_run, "--root", blobs).out == command("test", tiny_run).out
    assert command("test", tiny_run, "--root", blobs / "val").out.splitlines()[1].split() == ["images", "13"]


def test_a_bundle_needs_a_folder_of_images(command, tiny_run, blobs, tmp_path):
    shutil.copytree(tiny_run / "model", tmp_path / "bundle")

    assert command("test", "bundle", "--root", blobs).out == command("test", tiny_run).out
    assert command("test", "bundle") == (2, "", "resnet-tl: bundle is not a run: it has no recipe.yaml.\n")


def test_classes_that_are_missing_shift_nothing(command, tiny_run, blobs, tmp_path):
    for name in ("green", "red"):
        shutil.copytree(blobs / "test" / name, tmp_path / "photos" / name)

    assert command("test", tiny_run, "--root", "photos", "-o", "some.csv").code == 0

    some, all_images = pd.read_csv(tmp_path / "some.csv"), pd.read_csv(tiny_run / "predictions" / "test.csv")
    expected = all_images[all_images["label"] != "blue"].reset_index(drop=True)
    assert some["label"].tolist() == expected["label"].tolist()
    columns = ["prob_blue", "prob_green", "prob_red"]
    assert some[columns].to_numpy() == pytest.approx(expected[columns].to_numpy(), abs=1e-6)


def test_an_unknown_class_is_refused(command, tiny_run, blobs, tmp_path):
    for name in ("green", "red"):
        shutil.copytree(blobs / "test" / name, tmp_path / "photos" / name)
    (tmp_path / "photos" / "green").rename(tmp_path / "photos" / "gren")

    code, _, err = command("test", tiny_run, "--root", "photos")

    assert code == 2
    assert "has the class 'gren', which the network does not know; it knows blue, green, red." in err
    assert err.endswith("Did you mean 'green'?\n")


def test_images_that_are_gone_are_said_to_be(command, blobs, tmp_path, tiny_run):
    shutil.copytree(tiny_run, tmp_path / "run")
    facts = tmp_path / "run" / "data" / "facts.json"
    facts.write_text(facts.read_text().replace(str(blobs), str(tmp_path / "gone")))

    code, _, err = command("validate", "run")

    assert code == 2
    assert "gone" in err
    assert "does not exist" in err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "resnet-tl validate: the following arguments are required: RUN; see `resnet-tl validate --help`.\n"),
        (["nowhere"], "resnet-tl: nowhere is not a run: there is no such folder.\n"),
        (["runs/tiny-2"], "resnet-tl: runs/tiny-2 is not a run: there is no such folder. Did you mean 'tiny-1'?\n"),
        (["runs"], "resnet-tl: runs is not a run: it has no recipe.yaml.\n"),
        (["runs/tiny-1", "--rot", "x"], "unrecognized arguments: --rot"),
        (["runs/tiny-1", "-o", "runs"], "runs is a folder; name the file to write in it.\n"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_sentence(command, tiny_run, tmp_path, words, sentence):
    shutil.copytree(tiny_run.parent, tmp_path / "runs")

    code, out, err = command("validate", *words)

    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1


def test_a_fit_calibrates_its_network_and_all_that_predict_go_by_it(command, tmp_path):
    done = command("fit", "--recipe", "freeze_backbone", "--trainer.max_epochs", 1, "--run", "short")
    run = Run.open("short")
    found = run.summary["calibration"]

    assert found["images"] == 80
    assert found["temperature"] < 0.9  # after one epoch a head is less sure than it might be
    assert found["loss"] < found["loss_before"] == pytest.approx(run.summary["metrics"]["val"]["loss"])
    assert calibration_line(found) in done.out.replace("\n", " ")
    assert run.bundle.calibration == found

    out = command("validate", "short").out
    assert f"probabilities: loss {metric_value('loss', found['loss_before'])}, Brier score" in out
    assert f"calibrated (temperature {found['temperature']:.2f}, which was fitted to these images): loss" in out

    images = Path(run.data_facts["root"]) / "test"
    assert command("predict", "short", images, "-o", "calibrated.csv").code == 0
    plain = Predictor("short", calibrated=False).predict(images)
    assert probabilities(read_predictions("calibrated.csv")) == pytest.approx(
        at_temperature(probabilities(plain), found["temperature"])
    )
