"""A bundle in one zip, given to every command that takes a bundle."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pandas as pd
import pytest


@pytest.fixture
def model(command, tiny_run: Path, tmp_path: Path) -> Path:
    """A zip without the name of one, so that nothing goes by that."""
    done = command("export", tiny_run, "--to", "zip", "-o", "m.zip")
    assert done.code == 0, done.err
    return (tmp_path / "m.zip").rename(tmp_path / "model_file")


@pytest.fixture
def photos(blobs: Path, tmp_path: Path) -> Path:
    """A zip of photos."""
    images = sorted((blobs / "val").rglob("*.png"))[:6]
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as written:
        for number, image in enumerate(images):
            written.write(image, f"{number}.png")
    return tmp_path / "photos.zip"


def test_photos_and_models_in_zips_are_told_apart(command, tiny_run: Path, model: Path, photos: Path):
    assert command("predict", model, photos, "-o", "zipped.csv").code == 0
    assert command("predict", tiny_run, photos, "-o", "folder.csv").code == 0
    assert Path("zipped.csv").read_bytes() == Path("folder.csv").read_bytes()

    both = command("predict", model, tiny_run, photos)
    assert both.code == 0
    assert "the arithmetic mean of the probabilities of 2 models" in both.out


def test_features_numbers_and_a_submission(command, tiny_run: Path, model: Path, photos: Path, blobs: Path):
    assert command("embed", model, photos, "-o", "features.csv").code == 0
    own, zipped = (command("test", one, "--root", blobs).out for one in (tiny_run, model))
    assert own == zipped
    pd.DataFrame({"id": [f"{number}.png" for number in range(6)], "label": "red"}).to_csv("sample.csv", index=False)
    done = command("submit", model, "--images", photos, "--sample", "sample.csv", "-o", "submission.csv")
    assert (done.code, done.err) == (0, "")
    assert len(pd.read_csv("submission.csv")) == 6


def test_a_fit_begins_with_the_weights_in_a_zip(command, model: Path, blobs: Path):
    flags = ["--data.root", blobs, "--model.weights", model, "--trainer.max_epochs", "1", "--run", "again"]

    assert command("fit", "--recipe", "freeze_backbone", *flags).code == 0
    assert "began with   model_file" in command("info", "again").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["predict", "photos.zip", "photos.zip"],
            "photos.zip is no checkpoint of a fit with resnet-tl; give a run, a model",
        ),
        (["predict", "model_file"], "the following arguments are required: IMAGES"),
        (["predict", "model_file", "model_file"], "are runs, and no images are given"),
        (["predict", "cut.zip", "photos.zip"], "cut.zip is a damaged zip; copy it again."),
        (["info", "cut.zip"], "cut.zip is a damaged zip; copy it again."),
        (["predict", "x.onnx", "photos.zip"], "x.onnx is an exported file: give the run or the model bundle"),
        (["export", "x.pt2", "-o", "y.onnx", "--images", "photos.zip"], "x.pt2 is an exported file: give the run"),
        (["card", "x.onnx"], "x.onnx is an exported file: give the run"),
        (["info", "x.xml"], "x.xml is an exported file: give the run"),
        (["info", "photos.zip"], "photos.zip is neither a run nor a model bundle"),
        (["card", "photos.zip"], "photos.zip is neither a run nor a model bundle"),
        (["export", "photos.zip", "--to", "zip", "-o", "x.zip"], "photos.zip is neither a run nor a model bundle"),
        (["export", "model_file", "--to", "zip", "-o", "x.zip", "--int8"], "--int8 has no meaning for --to zip"),
        (["export", "model_file", "--to", "zip", "-o", "x.onnx"], "x.onnx is to be a .zip file"),
        (["validate", "model_file"], "model_file is not a run: it is a model bundle alone"),
        (["report", "model_file"], "model_file is not a run: it is a model bundle alone"),
        (["compare", "model_file", "{run}"], "is not a run: it is a model bundle alone"),
    ],
)
def test_a_mistake_is_one_sentence(command, tiny_run: Path, model: Path, photos: Path, words: list[str], said: str):
    Path("cut.zip").write_bytes(model.read_bytes()[:5000])
    for name in ("x.onnx", "x.pt2", "x.xml"):
        Path(name).write_bytes(b"\x08\x07")
    done = command(*(word.format(run=tiny_run) for word in words))

    assert done.code == 2
    assert said in done.err
    assert not Path("x.zip").exists()
