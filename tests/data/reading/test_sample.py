import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_tl.data.reading import sample
from resnet_tl.data.reading.sample import SPECIES, draw_sample, draw_seedling
from resnet_tl.files import replacing_folder


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def few(monkeypatch):
    """The same data set with fewer images."""
    monkeypatch.setattr(sample, "TRAIN_COUNTS", (4, 3, 2, 3, 2))
    monkeypatch.setattr(sample, "VAL_COUNT", 2)
    monkeypatch.setattr(sample, "TEST_COUNT", 2)


@pytest.mark.usefixtures("few")
def test_drawing_twice_gives_identical_bytes(tmp_path):
    draw_sample(tmp_path / "one")
    draw_sample(tmp_path / "two")
    assert len(digests(tmp_path / "one")) == 14 + 10 + 10 + 1
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


@pytest.mark.usefixtures("few")
def test_the_layout_is_split_folders_and_an_unlabelled_test_folder(tmp_path):
    draw_sample(tmp_path / "seedlings")
    found = {path.relative_to(tmp_path / "seedlings").as_posix() for path in (tmp_path / "seedlings").rglob("*.*")}
    expected = {f"test/{number:04d}.jpg" for number in range(1, 11)} | {"sample_submission.csv"}
    for name, count in zip(SPECIES, sample.TRAIN_COUNTS, strict=True):
        expected |= {f"train/{name}/{number:04d}.jpg" for number in range(1, count + 1)}
        expected |= {f"val/{name}/0001.jpg", f"val/{name}/0002.jpg"}
    assert found == expected
    assert [path.name for path in tmp_path.iterdir()] == ["seedlings"]


@pytest.mark.usefixtures("few")
def test_the_sample_submission_names_every_test_file_and_tells_nothing(tmp_path):
    draw_sample(tmp_path / "seedlings")
    with (tmp_path / "seedlings" / "sample_submission.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == sorted(path.name for path in (tmp_path / "seedlings" / "test").iterdir())
    assert {row["species"] for row in rows} == {"clover"}


def test_every_picture_is_64_pixels_rgb_and_unlike_the_others():
    pictures = [
        draw_seedling(split, name, number) for split in ("train", "val") for name in SPECIES for number in (1, 2)
    ]
    assert {(picture.size, picture.mode) for picture in pictures} == {((64, 64), "RGB")}
    assert len({picture.tobytes() for picture in pictures}) == 20


def test_a_picture_depends_on_nothing_that_was_drawn_before():
    alone = draw_seedling("val", "mayweed", 7).tobytes()
    draw_seedling("train", "grass", 1)
    assert draw_seedling("val", "mayweed", 7).tobytes() == alone


def test_test_labels_are_even_and_shuffled():
    labels = list(sample.test_labels().values())
    assert len(labels) == 60
    assert {name: labels.count(name) for name in SPECIES} == dict.fromkeys(SPECIES, 12)
    assert labels != sorted(labels)


@pytest.mark.usefixtures("few")
def test_the_test_pictures_are_of_the_species_that_test_labels_says(tmp_path):
    draw_sample(tmp_path / "seedlings")
    for number, (file, name) in enumerate(sample.test_labels().items(), start=1):
        saved = np.asarray(Image.open(tmp_path / "seedlings" / "test" / file), np.float32)
        drawn = np.asarray(draw_seedling("test", name, number), np.float32)
        assert np.abs(saved - drawn).mean() < 8  # JPEG changes pixels a little; another picture differs by far more


def test_an_interrupted_drawing_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(split, species, number):
        if number == 2:
            raise KeyboardInterrupt
        return draw_seedling(split, species, number)

    monkeypatch.setattr(sample, "draw_seedling", interrupted)
    with pytest.raises(KeyboardInterrupt):
        draw_sample(tmp_path / "seedlings")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_another_process_finished_first_is_kept(tmp_path):
    with replacing_folder(tmp_path / "made") as temporary:
        (temporary / "mine.txt").write_text("second")
        (tmp_path / "made").mkdir()
        (tmp_path / "made" / "theirs.txt").write_text("first")
    assert [path.name for path in tmp_path.rglob("*.txt")] == ["theirs.txt"]


@pytest.mark.slow
def test_colour_and_background_do_not_give_the_species_away():
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def colours(split, count):
        pictures = [np.asarray(draw_seedling(split, name, n)) for name in SPECIES for n in range(1, count + 1)]
        flat = np.stack(pictures).reshape(len(pictures), -1, 3) / 255
        return np.concatenate([flat.mean(1), flat.std(1)], axis=1), np.repeat(np.arange(5), count)

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(*colours("train", 60))
    assert model.score(*colours("val", 40)) < 0.45  # chance is 0.2
