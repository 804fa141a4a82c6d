"""The pictures that come with the package, and the program that drew them."""

import csv
import importlib.util
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_tl.data.dataset import dataset_of
from resnet_tl.data.reading.catalog import SAMPLE, SAMPLE_ARCHIVE, fetch
from resnet_tl.data.reading.layouts import read_images

SCRIPT = Path(__file__).resolve().parents[3] / "docs" / "make_seedlings_sample.py"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return fetch(SAMPLE, tmp_path_factory.mktemp("fetched"))


@pytest.fixture(scope="module")
def script():
    """The program as a module."""
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pixels(content: bytes | Path) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(content) if isinstance(content, bytes) else content), np.float32)


def test_the_sample_is_what_all_numbers_were_measured_on(root):
    index = read_images(root)
    assert index.counts().to_dict() == {
        "train": {"clover": 72, "dandelion": 64, "grass": 68, "mayweed": 56, "violet": 60},
        "val": dict.fromkeys(["clover", "dandelion", "grass", "mayweed", "violet"], 16),
    }
    assert dataset_of(index).identity() == "f2dbf769847edae98931b15fa9da081b9e3f13f254c631fd82d3738bfa73e3d7"


def test_test_pictures_are_without_labels_and_the_sample_submission_names_them_all(root):
    assert sorted(path.name for path in root.iterdir()) == ["sample_submission.csv", "test", "train", "val"]
    with (root / "sample_submission.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [f"{number:04d}.jpg" for number in range(1, 61)]
    assert [row["file"] for row in rows] == sorted(path.name for path in (root / "test").iterdir())
    assert {row["species"] for row in rows} == {"clover"}


def test_every_picture_is_64_pixels_rgb_and_unlike_the_others(root):
    pictures = [Image.open(path) for path in root.rglob("*.jpg")]
    assert {(picture.size, picture.mode) for picture in pictures} == {((64, 64), "RGB")}
    assert len({picture.tobytes() for picture in pictures}) == 460


def test_the_program_draws_these_pictures(root, script):
    """Another Pillow may encode them otherwise; another picture would differ by far more."""
    for split, name, number in (("train", "grass", 1), ("val", "mayweed", 7), ("train", "violet", 60)):
        drawn = np.asarray(script.draw_seedling(split, name, number), np.float32)
        assert np.abs(pixels(root / split / name / f"{number:04d}.jpg") - drawn).mean() < 8
    truth = script.test_labels()
    assert {name: list(truth.values()).count(name) for name in script.SPECIES} == dict.fromkeys(script.SPECIES, 12)
    drawn = np.asarray(script.draw_seedling("test", truth["0001.jpg"], 1), np.float32)
    assert np.abs(pixels(root / "test" / "0001.jpg") - drawn).mean() < 8


@pytest.mark.slow
def test_the_program_writes_the_same_zip_again(tmp_path, script):
    script.write_sample(tmp_path / "again.zip")
    script.write_sample(tmp_path / "twice.zip")
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "twice.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "again.zip") as again, zipfile.ZipFile(SAMPLE_ARCHIVE) as shipped:
        assert again.namelist() == shipped.namelist()
        for name in shipped.namelist():
            if name.endswith(".jpg"):
                assert np.abs(pixels(again.read(name)) - pixels(shipped.read(name))).mean() < 8


@pytest.mark.slow
def test_colour_and_background_do_not_give_the_species_away(script):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def colours(split, count):
        pictures = [
            np.asarray(script.draw_seedling(split, name, n)) for name in script.SPECIES for n in range(1, count)
        ]
        flat = np.stack(pictures).reshape(len(pictures), -1, 3) / 255
        return np.concatenate([flat.mean(1), flat.std(1)], axis=1), np.repeat(np.arange(5), count - 1)

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(*colours("train", 61))
    assert model.score(*colours("val", 41)) < 0.45  # chance is 0.2
