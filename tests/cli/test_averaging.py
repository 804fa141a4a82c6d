"""`--tta`, and several runs in one command: what is computed, kept and said."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from resnet_tl.bundle import Bundle, write_bundle
from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.evaluation.accuracy import Accuracy
from resnet_tl.evaluation.predictions import probabilities, read_predictions
from resnet_tl.files import file_digest
from resnet_tl.networks import create_network
from resnet_tl.run import Run


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path / "runs" / "a"))


@pytest.fixture
def bundle(tmp_path: Path):
    """`bundle(name, classes)`: of an untrained network, whose numbers nobody knows."""

    def make(name: str, classes: tuple[str, ...] = ("green", "red", "blue"), size: int = 32) -> Path:
        torch.manual_seed(len(name))
        network = create_network("resnet20", num_classes=len(classes))
        planned = Preprocessing(size, size + 4, size)
        return write_bundle(Bundle(tmp_path / name, {"name": "resnet20"}, classes, planned), network).path

    return make


def lines_of(out: str) -> list[list[str]]:
    return [re.split(r"  +", line.strip()) for line in out.splitlines()]


@pytest.mark.parametrize("kind", ["mirror", "dihedral"])
def test_the_numbers_under_tta_are_kept_beside_those_without(command, run, blobs, tmp_path, kind):
    plain = {name: file_digest(run / name) for name in ("summary.json", "predictions/val.csv")}

    code, out, err = command("validate", run, "--tta", kind, "-o", "again.csv")

    assert (code, err) == (0, "")
    table, kept = read_predictions(tmp_path / "again.csv"), Run(run).under_tta(kind)
    assert kept.path == run / "tta" / kind
    assert kept.predictions("val").equals(table)
    assert kept.summary["accuracy"]["val"] == Accuracy.of(table).facts()
    assert kept.metrics.loc["val", "loss"] == kept.summary["metrics"]["val"]["loss"]
    assert f"{kept.accuracies['val']}" in {line[-1] for line in lines_of(out)}
    change = kept.summary["metrics"]["val"]["loss"] - Run(run).summary["metrics"]["val"]["loss"]
    said = rf"--tta {kind} changes the accuracy by .* points \[.*\], the loss by {re.escape(f'{change:+.4f}')} \["
    assert re.search(said, out)
    assert {name: file_digest(run / name) for name in plain} == plain
    predicted = command("predict", run, blobs / "val", "--tta", kind, "-o", "files.csv")
    assert predicted.code == 0
    assert (probabilities(read_predictions(tmp_path / "files.csv")) == probabilities(table)).all()
    assert f"model: {run}, validation accuracy with --tta {kind} {kept.accuracies['val']} of 13 images" in (
        predicted.out.splitlines()
    )

    assert command("test", run, "--tta", kind).code == 0
    assert set(Run(run).tta_summary(kind)["metrics"]) == {"val", "test"}


def test_numbers_of_another_model_or_without_tta_are_not_passed_off(command, run, blobs):
    plain = Run(run).accuracies["val"]
    before = command("predict", run, blobs / "val", "--tta", "mirror").out.splitlines()
    assert before[:2] == [
        f"model: {run}, validation accuracy without --tta mirror {plain} of 13 images; with it: "
        f"resnet-tl validate {run} --tta mirror",
        "--tta mirror: the mean of the logits over each image and its mirror image",
    ]
    command("validate", run, "--tta", "mirror")
    assert "with --tta mirror" in command("predict", run, blobs / "val", "--tta", "mirror").out
    assert "without --tta dihedral" in command("predict", run, blobs / "val", "--tta", "dihedral").out
    summary = run / "tta" / "mirror" / "summary.json"
    facts = json.loads(summary.read_text())
    summary.write_text(json.dumps(facts | {"bundle_digests": ["of weights that were trained on since"]}))
    assert command("predict", run, blobs / "val", "--tta", "mirror").out.splitlines() == before


def test_views_that_a_model_does_not_know_are_pointed_out(command, run, blobs):
    file = run / "model" / "model.json"
    facts = json.loads(file.read_text())
    file.write_text(json.dumps(facts | {"data": facts["data"] | {"symmetry": "mirror"}}))
    notes = {
        kind: [
            line for line in command("predict", run, blobs / "val", "--tta", kind).out.splitlines() if "note" in line
        ]
        for kind in ("mirror", "dihedral")
    }
    said = "note: trained with the symmetry mirror, a model does not know all of these views; `resnet-tl validate` says"
    assert notes == {"mirror": [], "dihedral": [f"{said} whether they help"]}


def test_other_images_are_judged_and_nothing_is_kept(command, run, blobs):
    done = command("validate", run / "model", "--tta", "mirror", "--root", blobs)
    assert done.code == 0
    assert not (run / "tta").exists()


def test_several_runs_are_averaged(command, run, bundle, blobs, tmp_path):
    other = bundle("b", size=24)
    for name, models in (("a", [run]), ("b", [other]), ("both", [run, other])):
        assert command("predict", *models, blobs / "val", "-o", f"{name}.csv").code == 0
    tables = {name: pd.read_csv(tmp_path / f"{name}.csv") for name in ("a", "b", "both")}
    columns = ["prob_blue", "prob_green", "prob_red"]
    mean = (tables["a"][columns].to_numpy() + tables["b"][columns].to_numpy()) / 2
    np.testing.assert_allclose(tables["both"][columns].to_numpy(), mean, rtol=1e-12)

    said = command("predict", run, other, blobs / "val", "--average", "geometric").out.splitlines()
    assert said[:3] == [
        f"model: {run}, validation accuracy {Run(run).accuracies['val']} of 13 images",
        f"model: {other}",
        "average: the geometric mean of the probabilities of 2 models",
    ]
    assert command("predict", run, blobs / "val", "-o", "a.csv").out == "a.csv: 13 images\n"


def test_the_average_of_runs_is_judged_where_none_was_trained(command, run, tiny_run, blobs, caplog):
    other = Path(shutil.copytree(tiny_run, run.parent / "b"))
    of_one = command("validate", run).out.splitlines()
    (same,) = [line for line in of_one if line.startswith("The same as when the model was made")]
    assert command("validate", run, other).out.splitlines() == [line for line in of_one if line != same]
    assert command("validate", run, other, "--root", blobs).code == 0
    assert not caplog.records
    assert command("validate", run, "--root", blobs / "train").code == 0
    assert caplog.messages == [f"{run} was trained on 24 of these 24 images: the numbers say little of new ones."]

    index = other / "data" / "index.csv"
    swapped = {"train": "val", "val": "train"}
    table = pd.read_csv(index, keep_default_na=False)
    table.assign(split=[swapped.get(split, split) for split in table["split"]]).to_csv(index, index=False)
    assert command("validate", run, other) == (
        2,
        "",
        f"resnet-tl: {other} was trained on 13 of the validation images of {run}, so that their average has no honest "
        "number on them: name labelled images that none was trained on with --root, or train all with the same "
        "--data.split_seed.\n",
    )


def test_a_submission_of_probabilities_is_that_of_the_average(command, bundle, blobs, tmp_path):
    models = [bundle("a", ("cats", "dogs")), bundle("bb", ("dogs", "cats"), size=40)]
    photos = Path(shutil.copytree(blobs / "test" / "red", tmp_path / "test"))
    names = [file.stem for file in sorted(photos.iterdir())]
    (tmp_path / "sample.csv").write_text("id,label\n" + "".join(f"{name},0.5\n" for name in names))
    options = ("--images", photos, "--sample", "sample.csv", "--positive", "dogs", "--tta", "mirror")

    done = command("submit", *models, *options, "-o", "out.csv")

    assert done.code == 0, done.err
    assert done.out.splitlines()[:4] == [
        f"model: {models[0]}",
        f"model: {models[1]}",
        "average: the arithmetic mean of the probabilities of 2 models",
        "--tta mirror: the mean of the logits over each image and its mirror image",
    ]
    expected = []
    for model in models:
        command("predict", model, photos, "--tta", "mirror", "-o", "one.csv")
        expected.append(pd.read_csv(tmp_path / "one.csv")["prob_dogs"])
    np.testing.assert_allclose(pd.read_csv(tmp_path / "out.csv")["label"], np.mean(expected, axis=0), rtol=1e-12)


def test_a_submission_of_class_names_says_which_model_it_is_of(command, run, blobs, tmp_path):
    folds = run.parent / "folds"
    for number in (1, 2):
        shutil.copytree(run, folds / "folds" / str(number))
    shutil.copy(run / "summary.json", folds)
    parent = {"run": str(run), **{name: Run(run).summary[name] for name in ("accuracy", "metrics")}}
    final = Path(shutil.copytree(run, run.parent / "final"))
    (final / "summary.json").write_text(json.dumps({"metrics": {}, "accuracy": {}, "final_of": parent}))
    of_folds = Path(shutil.copytree(final, run.parent / "of_folds"))
    whole = parent | {"run": str(tmp_path / "photos5"), "spread": {"val": {}}}
    (of_folds / "summary.json").write_text(json.dumps({"metrics": {}, "accuracy": {}, "final_of": whole}))
    names = [file.relative_to(blobs / "test").as_posix() for file in sorted((blobs / "test").rglob("*.png"))]
    (tmp_path / "sample.csv").write_text("file,species\n" + "".join(f"{name},red\n" for name in names))
    accuracy = f"{Run(run).accuracies['val']} of 13 images"
    written = []
    for model, said in (
        (run, f"model: {run}, validation accuracy {accuracy}"),
        (folds, f"models: the 2 folds of {folds}, out-of-fold accuracy {accuracy}"),
        (
            final,
            f"model: {final}, which repeats runs/a on train and validation together; that one's validation accuracy "
            f"{accuracy}",
        ),
        (
            of_folds,
            f"model: {of_folds}, which repeats photos5 on train and validation together; that one's out-of-fold "
            f"accuracy {accuracy}",
        ),
    ):
        done = command("submit", model, "--images", blobs / "test", "--sample", "sample.csv", "-o", "out.csv")
        assert done.code == 0, done.err
        assert done.out.splitlines()[0] == said
        written.append((tmp_path / "out.csv").read_text())
    assert written == written[:1] * 4
    assert command("validate", folds, "--root", blobs).code == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["predict", "{run}", "{run}/model"], "{run}, {run}/model are runs, and no images are given; name them"),
        (["predict", "{run}", "{run}", "photo.png"], "{run}/model is given twice; name each model once."),
        (["predict", "{run}", "photo.png", "--average", "geometric"], "--average is for several models, and there is"),
        (["predict", "{run}", "photo.png", "--tta", "flip"], "--tta: invalid choice: 'flip' (choose from "),
        (
            ["validate", "{run}", "--tta", "crops"],
            "--tta crops has no effect, for a model sees the whole of",
        ),
        (["validate", "{run}", "nowhere"], "nowhere is not a run: there is no such folder."),
        (
            ["submit", "--predictions", "a.csv", "--sample", "b.csv", "-o", "c.csv", "--tta", "mirror"],
            "--tta has no meaning for --predictions, which are made already; leave it out.",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_sentence(command, run, words, sentence):
    code, out, err = command(*(word.format(run=run) for word in words))

    assert (code, out) == (2, "")
    assert sentence.format(run=run) in err
    assert err.count("\n") == 1
