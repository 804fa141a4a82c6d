from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from resnet_tl.bundle import Bundle
from resnet_tl.data.pixels.decode import decode
from resnet_tl.data.reading.layouts import read_images
from resnet_tl.errors import UserError
from resnet_tl.export.runtime import OnnxModel
from resnet_tl.export.verification import Verification, compared, judge_of, network_inputs, verify
from resnet_tl.export.verification_images import MOST, VerificationImages, images_for, run_of, scaling_images
from resnet_tl.inference.predictor import Predictor


@pytest.fixture
def run(tmp_path: Path, blobs: Path, make_run: Callable[..., Path]) -> Path:
    return make_run(tmp_path / "run", read_images(blobs))


@pytest.mark.parametrize(("kind", "limit"), [("raw", 0.01), ("tensor", 1e-4)])
def test_a_file_says_what_its_model_says(files: dict[str, Path], bundle: Bundle, blobs: Path, kind: str, limit: float):
    images = images_for(bundle.path, [str(blobs / "val")], bundle.classes)
    found = verify(OnnxModel(files[kind]), judge_of(bundle, bundle.load_network()), images)
    assert (found.images, found.same, found.bad) == (13, 13, 0)
    assert 0 < found.mean_difference <= found.largest_difference < limit
    assert found.labelled == 4  # those of "red", which the model knows
    assert found.fault(kind, int8=False) == ""  # type: ignore[arg-type]


def test_a_file_of_another_model_is_found_out(files: dict[str, Path], tmp_path: Path, blobs: Path, make_bundle):
    other = make_bundle(tmp_path / "other", hidden=[8])
    images = images_for(other.path, [str(blobs / "val")], other.classes)
    found = verify(OnnxModel(files["tensor"]), judge_of(other, other.load_network()), images)
    assert found.largest_difference > 0.1
    assert found.fault("tensor", int8=False) != ""


def test_the_model_is_judged_as_predict_judges(bundle: Bundle, blobs: Path):
    judge, planned = judge_of(bundle, bundle.load_network()), bundle.preprocessing
    table = Predictor(bundle.path, device="cpu").predict(blobs / "val")
    import torch

    stored = [planned.centre(planned.store(decode(path, short_side=20))) for path in table["path"]]
    np.testing.assert_array_equal(judge(torch.stack(stored)), table.filter(like="prob_").to_numpy())


def test_files_that_are_no_images_are_left_out_and_counted(files: dict[str, Path], bundle: Bundle, tmp_path, blobs):
    (tmp_path / "broken.png").write_bytes((blobs / "val/red/0.png").read_bytes()[:100])
    given = [str(blobs / "val" / "red"), str(tmp_path / "broken.png")]
    found = verify(
        OnnxModel(files["raw"]), judge_of(bundle, bundle.load_network()), images_for(bundle.path, given, bundle.classes)
    )
    assert (found.images, found.bad, found.labelled) == (4, 1, 0)
    assert "1 that cannot be decoded are left out" in found.lines()[0]
    assert found.lines()[-1] == "  accuracy: unknown, since no image is labelled with a class of the model"
    only_broken = images_for(bundle.path, [str(tmp_path / "broken.png")], bundle.classes)
    with pytest.raises(UserError, match=r"None of the 1 images can be decoded .*broken\.png is truncated"):
        verify(OnnxModel(files["raw"]), judge_of(bundle, bundle.load_network()), only_broken)


def of_shares(files: dict[str, Path], blobs: Path, before: np.ndarray, after: np.ndarray, labels=None) -> Verification:
    index = read_images(blobs)
    labels = np.full(len(before), -1) if labels is None else labels
    images = VerificationImages(index, np.arange(len(before)), labels, "images")
    return compared(OnnxModel(files["raw"]), images, [str(row) for row in range(len(before))], labels, before, after)


def test_one_image_in_a_hundred_may_change_its_class_and_one_in_any_case(files: dict[str, Path], blobs: Path):
    before = np.tile([0.51, 0.49, 0.0], (40, 1))
    after = before.copy()
    after[:1] = [0.49, 0.51, 0.0]
    assert of_shares(files, blobs, before, after).fault("raw", int8=False) == ""
    after[:2] = [0.49, 0.51, 0.0]
    found = of_shares(files, blobs, before, after)
    assert found.fault("raw", int8=False) == "2 of 40 images are given another class, such as 0, 1; at most 1 may be"
    assert found.different[0] == ("0", "<b>blue</b>, sky", "grün")


def test_a_probability_that_differs_too_much_is_a_fault(files: dict[str, Path], blobs: Path):
    before, after = np.tile([0.8, 0.2, 0.0], (5, 1)), np.tile([0.74, 0.26, 0.0], (5, 1))
    found = of_shares(files, blobs, before, after)
    assert found.fault("raw", int8=False) == "a probability differs by 0.06; by at most 0.05 it may"
    assert "by at most 0.001 it may" in found.fault("tensor", int8=False)
    assert found.fault("raw", int8=True) == ""
    assert of_shares(files, blobs, before, np.full((5, 3), np.nan)).fault("tensor", int8=False) != ""


def test_eight_bits_may_lose_one_labelled_image_in_a_hundred(files: dict[str, Path], blobs: Path):
    labels, before = np.zeros(40, int), np.tile([0.8, 0.2, 0.0], (40, 1))
    after = before.copy()
    after[:2] = [0.2, 0.8, 0.0]
    found = of_shares(files, blobs, before, after, labels)
    assert found.fault("raw", int8=True) == "of 40 labelled images it knows 2 fewer; at most 1 may be lost"
    assert found.change is not None
    assert found.change.value == pytest.approx(-0.05)
    assert found.change.low < -0.05 < found.change.high
    assert "accuracy on 40 labelled images: 95.0 %, before 100.0 %, change -5.0 points [" in found.lines()[-1]
    gained = of_shares(files, blobs, after, before, labels)
    assert gained.fault("raw", int8=True) == ""


def test_a_run_is_verified_on_its_validation_images(run: Path):
    for path in (run, run / "model"):
        images = images_for(path, [], ("red", "blue", "green"))
        assert images.source == "validation images"
        assert [Path(images.index.id(row)).parts[:2] for row in images.rows] == [
            ("val", name) for name, count in (("blue", 5), ("green", 4), ("red", 4)) for _ in range(count)
        ]
        assert images.labels.tolist() == [1] * 5 + [2] * 4 + [0] * 4  # in the order of the model's classes


def test_a_run_without_validation_images_is_verified_on_others(tmp_path: Path, blobs: Path, make_run):
    index = read_images(blobs / "train")  # of which none has a split yet
    table = index.table.assign(split="train")
    images = images_for(make_run(tmp_path / "run", replace(index, table=table)), [], ("red", "blue", "green"))
    assert (images.source, images.total) == ("training images", 24)


def test_a_bundle_alone_has_no_images(bundle: Bundle):
    assert run_of(bundle.path) is None
    with pytest.raises(UserError, match=r"has no images of its own, .* name some with --images"):
        images_for(bundle.path, [], bundle.classes)


def test_images_that_are_gone_are_asked_for(tmp_path: Path, blobs: Path, make_run):
    run = make_run(tmp_path / "run", replace(read_images(blobs), root=tmp_path / "gone"))
    with pytest.raises(UserError, match=r"gone does not exist, .* name them with --images"):
        images_for(run, [], ("red", "blue", "green"))


def test_of_many_images_some_are_drawn_evenly(blobs: Path):
    images = VerificationImages(read_images(blobs), np.arange(9000), np.arange(9000), "images")
    rows, labels = images.drawn()
    assert len(rows) == len(set(rows.tolist())) == MOST
    assert (rows == labels).all()
    assert (rows[0], rows[-1]) == (0, 8999)
    assert set(np.diff(rows)) <= {4, 5}


def test_training_images_choose_scales_as_the_network_sees_them(run: Path, bundle: Bundle):
    of_run = images_for(run, [], bundle.classes)
    chosen, found = scaling_images(run, of_run, most=5)
    assert found is of_run
    assert [Path(chosen.index.id(row)).parts[0] for row in chosen.rows] == ["train"] * 5
    pixels = network_inputs(chosen, bundle.preprocessing)
    assert (pixels.shape, pixels.dtype) == ((5, 16, 16, 3), np.uint8)


def test_of_a_bundle_alone_no_image_both_chooses_scales_and_verifies(bundle: Bundle, blobs: Path):
    given = images_for(bundle.path, [str(blobs / "val")], bundle.classes)
    chosen, found = scaling_images(bundle.path, given, most=5)
    assert (chosen.total, found.total) == (5, 7)
    assert not set(chosen.rows.tolist()) & set(found.rows.tolist())
    assert found.source == "images given, every second one"
    one = VerificationImages(given.index, given.rows[:1], given.labels[:1], given.source)
    with pytest.raises(UserError, match="for --int8; give a run, or several --images of the training's kind"):
        scaling_images(bundle.path, one, most=5)
