from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_tl.data.pixels.preprocessing import Preprocessing
from resnet_tl.errors import UserError
from resnet_tl.evaluation.intervals import wilson
from resnet_tl.sharing.card import Card
from resnet_tl.sharing.info import lines_of, model_facts, preprocessing_words
from resnet_tl.sharing.zipping import zip_bundle


def test_a_bundle_says_what_it_is(make_bundle):
    facts = model_facts(make_bundle(images=60, wrong=6).path)
    lines = dict(lines_of(facts))

    assert lines["network"] == "resnet8"
    assert lines["classes"] == "3: beech, oak, pine"
    assert lines["began with"] == "timm/resnet18.tv_in1k, licence: bsd-3-clause"
    assert lines["trained on"] == "120 images of trees, fingerprint f00d"
    assert lines["validation"].startswith("accuracy 90.0 % [79.9, 95.3] of 60 images")
    assert lines["checked"] == "all files are those that model.json was written with"
    low, high = wilson(54, 60)
    assert (facts["accuracy"]["val"]["low"], facts["accuracy"]["val"]["high"]) == (low, high)


def test_one_image_is_not_called_images(make_bundle):
    bundle = make_bundle(images=1, wrong=0, data={"counts": {"train": {"oak": 1}}})
    lines = dict(lines_of(model_facts(bundle.path)))

    assert lines["trained on"].startswith("1 image of trees")
    assert "] of 1 image," in lines["validation"]
    assert "On 1 validation image, not used" in Card(bundle.path).text
    assert " 1 images" not in Card(bundle.path).text


def test_the_facts_are_plain_json(make_bundle):
    facts = model_facts(make_bundle().path)

    assert (
        json.loads(json.dumps(facts))["files"]["weights.safetensors"]["sha256"]
        == facts["files"]["weights.safetensors"]["sha256"]
    )


def test_a_zip_says_the_same(make_bundle, tmp_path: Path):
    bundle = make_bundle()
    zip_bundle(bundle.path, tmp_path / "leaves.zip")

    folder, zipped = model_facts(bundle.path), model_facts(tmp_path / "leaves.zip")

    assert {**zipped, "kind": "bundle", "path": str(bundle.path)} == folder


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda bundle: bundle.weights_file.write_bytes(b"x"), "weights.safetensors is not the file that model.json"),
        (lambda bundle: bundle.weights_file.unlink(), "weights.safetensors is missing"),
        (lambda bundle: bundle.reference_file.unlink(), "reference.safetensors is missing"),
        (lambda bundle: bundle.validation_file.write_bytes(b""), "validation.safetensors is not the file"),
    ],
)
def test_damage_is_said(make_bundle, harm, said: str):
    bundle = make_bundle()
    harm(bundle)

    facts = model_facts(bundle.path)

    assert len(facts["damaged"]) == 1
    assert said in facts["damaged"][0]
    assert said in dict(lines_of(facts))["checked"]


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (
            Preprocessing(224, 256, 224),
            "the middle 224 × 224 pixels of a colour image whose short side is made 256 pixels",
        ),
        (
            Preprocessing(288, 256, 224, interpolation="bicubic"),
            "pixels of a colour image whose short side is made 256 pixels, made 288 × 288 (bicubic)",
        ),
        (Preprocessing(64, 64, 64, "squash"), "a colour image stretched to 64 × 64 pixels (bilinear)"),
        (Preprocessing(28, 28, 28, mean=(0,), std=(1,), channels=1), "a grey image whose short side is made 28 pixels"),
    ],
)
def test_preprocessing_in_words(seen: Preprocessing, words: str):
    assert words in preprocessing_words(seen)


def test_what_is_no_model_is_one_sentence(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for name, said in (("nothing", "does not exist"), ("empty", "it has no model.json"), ("x.onnx", "does not exist"),
                       ("x.ckpt", "is a checkpoint, which only torch can read")):  # fmt: skip
        with pytest.raises(UserError, match=said):
            model_facts(tmp_path / name)


def test_a_copy_beside_another_run_does_not_take_its_dates(make_bundle, tmp_path: Path):
    bundle = make_bundle()
    run = tmp_path / "run"
    shutil.copytree(bundle.path, run / "model")
    (run / "summary.json").write_text('{"network": {"parameters": 12}}')
    (run / "environment.json").write_text('{"started": "2026-01-02", "packages": {"torch": "9"}}')

    assert model_facts(run)["parameters"] == 12
    assert "torch 9" in dict(lines_of(model_facts(run)))["made by"]
    shutil.copytree(make_bundle("other", classes=("fern", "moss")).path, run / "other")
    assert "parameters" not in model_facts(run / "other")


def test_info_and_card_need_no_torch(make_bundle):
    code = (
        "import sys\nfrom resnet_tl.cli.main import main\n"
        f"for command in ('info', 'card'):\n    assert main([command, {str(make_bundle().path)!r}]) == 0, command\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert "# leaves" in done.stdout


def test_info_loads_no_table_and_no_statistics(make_bundle):
    code = (
        "import sys\nfrom resnet_tl.cli.main import main\n"
        f"assert main(['info', {str(make_bundle().path)!r}]) == 0\n"
        "found = {'torch', 'pandas', 'scipy', 'matplotlib', 'huggingface_hub'} & set(sys.modules)\n"
        "assert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
