from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from resnet_tl.bundle import write_bundle
from resnet_tl.evaluation.predictions import classes_of, probabilities, read_predictions, write_predictions
from resnet_tl.evaluation.uncertainty.calibration import at_temperature, calibration_line
from resnet_tl.evaluation.uncertainty.judged import Judged
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
    assert command("test", "bundle") == (
        2,
        "",
        "resnet-tl: bundle is not a run: it is a model bundle alone, without the images and predictions that a run "
        "has. Name labelled images with --root.\n",
    )


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


def test_a_coverage_is_measured_on_test_images_and_not_on_those_that_it_came_from(command, tiny_run, blobs):
    asked = ("--coverage", 0.9, "--min_confidence", 0.5)
    out = command("test", tiny_run, *asked).out
    said = re.search(r"Sets at coverage 0.9: ([\d.]+) % \[.* of 7 images have their class in it; ([\d.]+) classes", out)
    assert said
    table = Predictor(tiny_run).predict(blobs / "test", coverage=0.9)
    is_in = [Path(path).parent.name in json.loads(text) for path, text in zip(table["path"], table["set"], strict=True)]
    assert float(said[1]) == pytest.approx(100 * sum(is_in) / 7, abs=0.06)
    assert float(said[2]) == pytest.approx(table["set_size"].mean(), abs=0.006)
    assert "The class covered least: " in out
    assert re.search(r"From 0.5 on it answers .* of 7 images", out)

    own = command("validate", tiny_run, *asked).out
    assert "of these images have their class in it follows from how the sets were made" in own
    assert (
        command("validate", tiny_run, "--root", blobs / "test", *asked).out.count("of 7 images have their class") == 1
    )


def test_what_answers_are_not_of_one_model_is_refused(command, tiny_run):
    code, out, err = command("validate", tiny_run, "--tta", "mirror", "--coverage", 0.9)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "do without --tta" in err
    assert command("test", tiny_run, "--coverage", 1.5).err.startswith(
        "resnet-tl: --coverage is 1.5; it must be over 0"
    )
    assert "give both." in command("test", tiny_run, "--per_class").err
    shutil.copytree(tiny_run, "other")
    err = command("test", tiny_run, "other", "--min_confidence", 0.8).err
    assert err == (
        "resnet-tl: --min_confidence is measured of one model, but the average of 2 models was measured on no image; "
        "give one of them.\n"
    )


def test_abstentions_under_test_time_augmentation_are_measured(command, tiny_run):
    run = shutil.copytree(tiny_run, "copy")  # in which the numbers are kept
    out = command("test", run, "--tta", "mirror", "--min_confidence", 0.5).out
    table = Predictor(tiny_run, tta="mirror").predict(Run.open(tiny_run).data_facts["root"] + "/test")
    answered = (probabilities(table).max(axis=1) >= 0.5).mean()

    assert f"From 0.5 on it answers {100 * answered:.1f} % of 7 images" in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "resnet-tl validate: the following arguments are required: RUN; see `resnet-tl validate --help`.\n"),
        (["nowhere"], "resnet-tl: nowhere is not a run: there is no such folder.\n"),
        (["runs/tiny-2"], "resnet-tl: runs/tiny-2 is not a run: there is no such folder. Did you mean 'tiny-1'?\n"),
        (["runs"], "resnet-tl: runs is not a run: it has no recipe.yaml.\n"),
        (["runs/tiny-1", "--rot", "x"], "unrecognized arguments: --rot"),
        (["runs/tiny-1", "--min_confidence", "0"], "--min_confidence is 0; it must be over 0 and under 1.\n"),
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
    judged = Judged(**run.bundle.load_validation())
    loss = -np.log(judged.label_probability).mean()
    assert loss == pytest.approx(found["loss"])  # no image has a part in its own temperature

    out = command("validate", "short").out
    assert f"probabilities: loss {metric_value('loss', found['loss_before'])}, Brier score" in out
    assert f"calibrated (temperature {found['temperature']:.2f}, which was fitted to these images): loss" in out

    images = Path(run.data_facts["root"]) / "test"
    assert command("predict", "short", images, "-o", "calibrated.csv").code == 0
    plain = Predictor("short", calibrated=False).predict(images)
    assert probabilities(read_predictions("calibrated.csv")) == pytest.approx(
        at_temperature(probabilities(plain), found["temperature"])
    )


SAME = "The same as when the model was made: 13 of 13 images, largest difference of a probability 0."
NOT = "\nNot compared with what it gave when it was made: "


def test_a_model_gives_what_it_was_made_with(command, tiny_run, blobs, tmp_path):
    shutil.copytree(tiny_run / "model", tmp_path / "moved")
    shutil.copytree(blobs / "val" / "red", tmp_path / "elsewhere" / "red")
    few = len(list((blobs / "val" / "red").iterdir()))
    for words, said in (
        ([tiny_run], SAME),
        (["moved", "--root", blobs], SAME),
        (["moved", "--root", "elsewhere"], SAME.replace("13 of", f"{few} of")),  # by their content, wherever they lie
    ):
        code, out, err = command("validate", *words)
        assert (code, err) == (0, "")
        assert said in out.splitlines()
    other = command("validate", "moved", "--root", blobs / "test").out
    assert f"{NOT}none of these is one of the 13 images that it was validated on.\n" in other


def test_a_model_that_gives_something_else_is_said_so_and_fails(command, tiny_run, blobs, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "run")
    file = tmp_path / "run" / "model" / "model.json"
    values = json.loads(file.read_text())
    values["preprocessing"] |= {"decoder": "pillow 1.0", "mean": [0.3, 0.3, 0.3]}
    file.write_text(json.dumps(values))

    for words in (["run"], ["run/model", "--root", blobs]):
        code, out, err = command("validate", *words)
        assert (code, err) == (1, "")
        assert re.search(r"\nNot the same as when the model was made: \d+ of 13 images differ by more than 0.0001", out)
        assert "\nIts images were decoded by pillow 1.0; here it is pillow " in out


def test_an_older_bundle_is_judged_and_of_its_run_the_table_tells(command, tiny_run, blobs, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "run")
    bundle = Run(tmp_path / "run").bundle
    write_bundle(bundle, bundle.load_network(), bundle.load_validation())
    assert Run(tmp_path / "run").bundle.load_own() == {}
    assert SAME in command("validate", "run").out.splitlines()
    said = f"{NOT}the model keeps nothing by which its validation images could be known again, as one of an earlier"
    assert said in command("validate", "run/model", "--root", blobs).out

    table = read_predictions(tmp_path / "run" / "predictions" / "val.csv")
    table.iloc[:, 4:] = table.iloc[:, 4:].to_numpy()[:, ::-1]
    names = [classes_of(table)[number] for number in probabilities(table).argmax(axis=1)]
    write_predictions(table.assign(predicted=names), tmp_path / "run" / "predictions" / "val.csv")
    code, out, _ = command("validate", "run")
    assert code == 1
    assert "\nImages were compared by their names; their files may have changed since.\n" in out
