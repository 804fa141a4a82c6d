"""Why a model says what it says: the overlay, the nearest training images, and what is said where they are missing."""

from __future__ import annotations

import base64
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from resnet_tl import Predictor
from resnet_tl.networks.grad_cam import grad_cam
from resnet_tl.report.pictures import heat_image
from resnet_tl.run import Run
from resnet_tl.serving.explanation import SHOWN, SIDE, Explainer, place_of
from tests.serving.small_run import CLASSES, SEEN, drawn, make_run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path)


def explained(path: Path, image: Any) -> dict[str, Any]:
    explainer = Explainer(Predictor(path, "cpu"))
    return explainer.describe(explainer.compute(explainer.predictor.prepare(image)))


def opened(address: str) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(address.partition(";base64,")[2])))


def test_what_the_network_sees_is_shown_to_the_pixel(run: Run):
    image = drawn(1, 70, (90, 60))

    found = explained(run.path, image)

    expected = SEEN.centre(SEEN.store(np.array(image))).permute(1, 2, 0).numpy()
    assert np.array_equal(np.array(opened(found["seen"])), expected)
    assert found["size"] == 32
    assert found["class"] == CLASSES[1]


def test_the_overlay_is_the_grad_cam_of_the_class_that_is_named(run: Run):
    image = drawn(1, 70)
    seen = SEEN.normalise(SEEN.centre(SEEN.store(np.array(image)))[None])
    maps = grad_cam(run.bundle.load_network(), seen.expand(3, -1, -1, -1), torch.arange(3)).numpy()

    found = explained(run.path, image)

    heat = [np.array(heat_image(one)) for one in maps]
    assert np.array_equal(np.array(opened(found["heat"])), heat[1])
    assert not np.array_equal(heat[0], heat[1])


@pytest.mark.parametrize(
    ("row", "column", "words"),
    [(0, 0, "at the top left"), (3, 3, "in the middle"), (6, 3, "at the bottom"), (3, 6, "at the right")],
)
def test_where_the_evidence_is_strongest_is_said_in_words(row: int, column: int, words: str):
    heat = np.full((7, 7), 0.2)
    heat[row, column] = 1

    assert place_of(heat) == words
    assert place_of(heat[[row]][:, [column]]) == "in the middle"


def test_a_training_image_is_nearest_to_itself(run: Run, tmp_path: Path):
    own = tmp_path / "photos" / "train" / "2" / "<i>3 'x'&.png"

    near = explained(run.path, own)["nearest"]

    assert len(near) == SHOWN
    assert near[0]["file"] == "train/2/<i>3 'x'&.png"
    assert near[0]["class"] == "wasps"
    assert near[0]["distance"] == pytest.approx(0, abs=1e-3)
    assert [one["distance"] for one in near] == sorted(one["distance"] for one in near)


def test_a_picture_of_a_training_image_is_small_and_nothing_of_its_file_but_pixels(run: Run, tmp_path: Path):
    own = tmp_path / "photos" / "train" / "2" / "<i>3 'x'&.png"
    image = Image.open(own).resize((400, 300))
    exif = image.getexif()
    exif[0x010E] = "where I live"
    image.save(own, exif=exif)

    picture = opened(explained(run.path, own)["nearest"][0]["picture"] or "")

    assert picture.size == (SIDE, SIDE * 3 // 4)
    assert not picture.getexif()


def test_an_image_that_is_gone_keeps_its_name(run: Run, tmp_path: Path):
    own = drawn(2, 3)
    (tmp_path / "photos" / "train" / "2" / "<i>3 'x'&.png").unlink()

    found = explained(run.path, own)

    assert found["nearest"][0]["picture"] is None
    assert found["nearest"][0]["file"] == "train/2/<i>3 'x'&.png"
    assert found["nearest"][1]["picture"]
    assert "no longer where the run found it" in found["pictures_missing"]


def test_without_the_images_the_classes_and_distances_are_left(run: Run, tmp_path: Path):
    shutil.rmtree(tmp_path / "photos")

    found = explained(run.path, drawn(2, 70))

    assert found["pictures_missing"].startswith("The images of the run are not where they were")
    assert set(found["nearest"][0]) == {"class", "distance"}
    assert str(tmp_path) not in str(found)


def test_a_bundle_alone_says_that_the_run_is_missing(run: Run, tmp_path: Path):
    bundle = shutil.copytree(run.path / "model", tmp_path / "bundle")

    found = explained(bundle, drawn(2, 70))

    assert found["pictures_missing"].startswith("The model is served without its run")
    assert found["nearest"][0]["class"] == "wasps"
    assert found["heat"]


def test_the_list_of_another_run_is_not_believed(run: Run):
    file = run.path / "data" / "index.csv"
    first, second, *rest = file.read_text().splitlines()
    file.write_text("\n".join([first, second.replace("<b>ants</b>", "wasps"), *rest]) + "\n")

    found = explained(run.path, drawn(2, 70))

    assert found["pictures_missing"].startswith("The run lists other images than those of the model")
    assert "file" not in found["nearest"][0]


def test_a_model_without_training_images_says_so(run: Run):
    explainer = Explainer(Predictor(run.path, "cpu"))
    explainer.member.reference = None

    found = explainer.describe(explainer.compute(explainer.predictor.prepare(drawn(0, 70))))

    assert found["nearest"] == []
    assert found["nearest_missing"] == "This model holds no training images to compare with."


def test_a_network_that_cannot_be_opened_again_has_no_overlay_but_the_rest(run: Run):
    explainer = Explainer(Predictor(run.path, "cpu"))
    (run.path / "model" / "weights.safetensors").unlink()  # cannot be opened once more

    found = explainer.describe(explainer.compute(explainer.predictor.prepare(drawn(0, 70))))

    assert found["heat"] is None
    assert found["heat_missing"] == "There is no Grad-CAM of this network."
    assert found["seen"]
    assert found["nearest"]


def test_several_models_explain_by_the_first_one_the_class_of_all(run: Run, tmp_path: Path):
    other = make_run(tmp_path / "other", ("wasps", CLASSES[0], CLASSES[1]))
    explainer = Explainer(Predictor([run.path, other.path], "cpu", average="arithmetic"))
    prepared = explainer.predictor.prepare(drawn(0, 70))

    found = explainer.compute(prepared)

    assert found.name == explainer.predictor.classes[int(explainer.predictor.judge([prepared]).shares[0].argmax())]
    assert explainer.describe(found)["of_models"] == 2
