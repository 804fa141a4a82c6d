from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from resnet_tl.cli.next_command import next_command


@pytest.fixture
def photos(blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A competition's folder: `train/<class>`, flat `test/` and whatever a test puts beside them."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "my photos"
    shutil.copytree(blobs / "train", root / "train")
    (root / "test").mkdir()
    for number, file in enumerate(sorted((blobs / "test").rglob("*.png"))):
        shutil.copy(file, root / "test" / f"{number}.png")
    return root


def run_on(root: Path, classes: tuple[str, ...] = ("blue", "green", "red"), given: Path | None = None):
    facts = {"root": str(root), "classes": list(classes), "counts": {"train": {}, "val": {}}}
    return SimpleNamespace(data_facts=facts, recipe={"data": {"root": given and str(given)}})


def test_beside_a_sample_it_is_the_whole_submission_and_works_as_typed(command, tiny_run, photos):
    (photos / "sample_submission.csv").write_text("id,color\n" + "".join(f"{number}.png,red\n" for number in range(7)))

    (line,) = next_command(run_on(photos), str(tiny_run))

    words = shlex.split(line)
    assert words[:3] == ["resnet-tl", "submit", str(tiny_run)]
    code, out, err = command(*words[1:])
    assert (code, err) == (0, "")
    assert "7 rows written to submission.csv" in out


def test_a_sample_beside_the_root_counts_and_says_which_probability_it_would_be(photos):
    (photos / "samples.csv").write_text("id,label\n" + "".join(f"{number},0.5\n" for number in range(7)))

    line, more = next_command(run_on(photos / "train", ("cat", "dog"), given=photos / "train"), "runs/a")

    assert "--images 'my photos/test' --sample 'my photos/samples.csv' --positive dog -o submission.csv" in line
    assert more == "The sample asks for one probability: if it is that of cat, give --positive cat."


def test_the_images_may_lie_deeper_and_the_sample_be_called_otherwise(photos):
    (photos / "jpeg").mkdir()
    (photos / "test").rename(photos / "jpeg/test")
    (photos / "SampleSubmission.csv").write_text("id,color\n" + "".join(f"{number},red\n" for number in range(7)))

    (line,) = next_command(run_on(photos), "runs/a")

    assert "--images 'my photos/jpeg/test' --sample 'my photos/SampleSubmission.csv' -o" in line


def test_a_sample_of_other_images_is_none(photos):
    (photos / "sample_submission.csv").write_text("id,color\n" + "".join(f"{number}.png,red\n" for number in range(99)))

    assert next_command(run_on(photos), "runs/a") == ["resnet-tl predict runs/a 'my photos/test'"]


def test_without_anything_to_predict_the_images_are_left_to_say(blobs):
    run = run_on(blobs)
    run.data_facts["counts"]["test"] = {}

    assert next_command(run, "runs/a b") == ["resnet-tl predict 'runs/a b' IMAGES"]
